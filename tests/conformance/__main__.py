"""Play all rows and print what came of them: `python -m tests.conformance`.

`--write` writes docs/reference/conformance.md too. Ends with 1 if a behaviour is not as its row says.
"""

from __future__ import annotations

import logging
import sys

from tests.conformance import report
from tests.conformance.stage import play


def main(arguments: list[str]) -> int:
    if not set(arguments) <= {"--write"}:
        sys.stderr.write(__doc__ or "")
        return 2
    # The rows have the app fail, and the cache says so.
    logging.disable(logging.WARNING)
    results = play(report.ROWS)
    sys.stdout.write(report.as_text(report.ROWS, results) + "\n")
    if "--write" in arguments:
        report.PAGE.write_text(report.as_page(report.ROWS, results), encoding="utf-8")
    return int(report.failed(report.ROWS, results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
