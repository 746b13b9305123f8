"""`tiercache schema`: the JSON Schema of configuration files, for editors."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Final

from tiercache.cli.exits import FINE
from tiercache.config.schema import document_schema

NAME: Final = "schema"
HELP: Final = "print the JSON Schema of configuration files, for editors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(options: argparse.Namespace) -> int:
    """Print it."""
    json.dump(document_schema(), sys.stdout, indent=2, ensure_ascii=False)
    print()
    return FINE
