"""The command line: `compressm demo`, `inspect`, `train` and `report`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import lti
from compressm.cli import demo, inspect, report, train
from compressm.errors import CompressmError

__all__ = ["main"]

COMMANDS = (demo, inspect, train, report)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 1 after an error, which is printed as one line."""
    parser = argparse.ArgumentParser(
        prog="compressm", description="State-space models that shrink while they train."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    arguments = parser.parse_args(argv)
    try:
        return arguments.run(arguments)
    except (CompressmError, lti.LTIError) as error:
        print(f"compressm: {error}", file=sys.stderr)
        return 1
