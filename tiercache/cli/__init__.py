"""The command line: `tiercache COMMAND`, one file here for each command. Nothing beside the library is needed for it.

A command is a module with a `NAME`, a line of `HELP`, `add_arguments` and `run`, whose result is the exit code.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final, Protocol

from tiercache.cli import check, purge, queue, schema, worker
from tiercache.cli.exits import FINE, UNREADABLE, Unreadable


class Command(Protocol):
    """What a module of this package is to its parser."""

    NAME: str
    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare what the command takes."""

    def run(self, options: argparse.Namespace) -> int:
        """Do it; the exit code. Raises `Unreadable` for what is nothing to work on."""


COMMANDS: Final[tuple[Command, ...]] = (check, schema, purge, worker, queue)


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(prog="tiercache", description="Look into how an app is cached, and work for it.")
    parser.add_argument("--version", action="version", version=f"tiercache {version('tiercache')}")
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        own = commands.add_parser(
            command.NAME,
            help=command.HELP,
            description=f"{command.HELP[0].upper()}{command.HELP[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(own)
        own.set_defaults(run=command.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, and return its exit code."""
    options = make_parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except Unreadable as error:
        print(f"tiercache {options.command}: {error}", file=sys.stderr)
        return UNREADABLE
    except BrokenPipeError:
        # Whoever read this has seen enough. What is left in the buffer must not fail at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FINE
    return code
