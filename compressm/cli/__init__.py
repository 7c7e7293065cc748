"""The command line: `compressm demo`, `inspect`, `compress`, `train` and `report`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

import lti
from compressm.cli import compress, demo, inspect, report, train
from compressm.errors import CompressmError

__all__ = ["main"]

COMMANDS = (demo, inspect, compress, train, report)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 2 after an error, which is printed as one line."""
    if sys.stdout is None:
        return _failed("standard output is closed; send it to a file, or to /dev/null")
    parser = argparse.ArgumentParser(
        prog="compressm", description="State-space models that shrink while they train."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    try:
        try:
            arguments = parser.parse_args(argv)
            return arguments.run(arguments)
        finally:
            sys.stdout.flush()  # or Python does, too late for a sentence
    except KeyboardInterrupt:
        _failed("stopped")
        return 130
    except (CompressmError, lti.LTIError, MemoryError) as error:
        return _failed(str(error) or "there is not enough memory; take smaller sizes")
    except OSError as error:
        if error.filename is None:  # of standard output, to which Python would write once more
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _failed(" ".join(str(x) for x in (error.filename, error.strerror or error) if x))


def _failed(why: str) -> int:
    line = "".join(x if x.isprintable() else " " for x in why)  # no escapes for the terminal
    print(f"compressm: {line}", file=sys.stderr)
    return 2
