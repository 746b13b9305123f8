"""`python -m tiercache`: the command line where the script `tiercache` is not on the path."""

from __future__ import annotations

import sys

from tiercache.cli import main

if __name__ == "__main__":
    sys.exit(main())
