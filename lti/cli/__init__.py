"""The command line: `lti info` and `lti reduce`, one file each."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

from lti.cli import info, reduce
from lti.errors import LTIError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 2 where the system or an option is at fault."""
    for plugin in entry_points(group="lti.plugins"):  # modules that register reduction methods
        plugin.load()
    arguments = _parser().parse_args(argv)
    try:
        with warnings.catch_warnings(record=True) as notes:
            warnings.simplefilter("always")
            arguments.command(arguments, notes)
        if sys.stdout:  # None where it was closed
            sys.stdout.flush()
    except LTIError as error:
        print(f"lti: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("lti: stopped; nothing was written", file=sys.stderr)
        return 130
    except OSError as error:  # of the output: files have errors of their own
        with contextlib.suppress(OSError):
            print(f"lti: error: the output cannot be written ({error.strerror})", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes once more at the end
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lti", description="Smaller linear systems, and how far they are from the large ones."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    model = {
        "type": Path,
        "metavar": "MODEL",
        "help": "a .mat, .npz or .json file with A, B, C, D, E; or a folder with a file for each",
    }
    info.add_to(commands, model)
    reduce.add_to(commands, model)
    return parser
