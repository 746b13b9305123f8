"""`tiercache check`: what holds for every route and where it was written, and every contradiction."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from typing import Final

from tiercache.cli.exits import FINE, FOUND
from tiercache.cli.report import Report, as_json, as_lines
from tiercache.cli.targets import from_code, from_file, is_code
from tiercache.config.checks import check, refused
from tiercache.config.contradictions import CONTRADICTIONS, Finding
from tiercache.config.sources import CONFIG_VARIABLE
from tiercache.errors import ConfigError

NAME: Final = "check"
HELP: Final = "print the effective policy of every route, and every contradiction"
_USUAL: Final = "tiercache.toml"
"""How the guides call the file."""
_EXITS: Final = """\
exit codes:
  0  nothing is wrong
  1  there are errors, or with --strict warnings
  2  it cannot be read: no such file or module, no TOML, no TierCache, unknown arguments
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.epilog = _EXITS
    parser.add_argument(
        "target",
        nargs="?",
        metavar="CONFIG",
        help="a TOML file, or module:attribute of a TierCache in code, which is imported; "
        "without it, what TIERCACHE_CONFIG names",
    )
    parser.add_argument("--strict", action="store_true", help="end with 1 for warnings too")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="how to print (default: text)")
    parser.add_argument("--all", action="store_true", help="print the settings that have their default, too")
    parser.add_argument("--quiet", "-q", action="store_true", help="print what is wrong and nothing else")
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        type=_ignorable,
        metavar="CODE",
        help="leave out warnings or notes with this code; may be given several times",
    )
    parser.add_argument("--no-env", action="store_true", help="leave TIERCACHE_ variables out (for a file)")
    parser.add_argument("--app-dir", default=".", metavar="DIR", help="where to import from (for code; default: .)")
    parser.add_argument("--factory", action="store_true", help="call the attribute first (for code)")


def _ignorable(code: str) -> str:
    if code not in CONTRADICTIONS:
        raise argparse.ArgumentTypeError(f"there is no code {code!r}")
    if CONTRADICTIONS[code].severity == "error":
        raise argparse.ArgumentTypeError(f"{code} is an error: the app does not start with it, or does nothing")
    return code


def run(options: argparse.Namespace) -> int:
    """Look, print, and tell by the exit code."""
    report = _look(options)
    if options.format == "json":
        print(as_json(report))
    else:
        for line in as_lines(report, everything=options.all, quiet=options.quiet):
            print(line)
    grave = ("error", "warning") if options.strict else ("error",)
    return FOUND if any(finding.severity in grave for finding in report.findings) else FINE


def _look(options: argparse.Namespace) -> Report:
    target: str | None = options.target
    if target is None and not os.environ.get(CONFIG_VARIABLE) and os.path.exists(_USUAL):
        print(f"only the environment was looked at; for the file here: tiercache check {_USUAL}", file=sys.stderr)
    try:
        if target is not None and is_code(target):
            configuration = from_code(target, options.app_dir, factory=options.factory)
        else:
            configuration = from_file(target, {} if options.no_env else os.environ)
    except ConfigError as error:
        # The code itself raised it: this is all that can be known.
        return Report(target or "", None, [refused(error)])
    return Report(target or "the environment", configuration, _left(check(configuration), options.ignore))


def _left(findings: Iterable[Finding], ignored: Iterable[str]) -> list[Finding]:
    left_out = frozenset(ignored)
    return [finding for finding in findings if finding.code not in left_out]
