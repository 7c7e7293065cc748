"""`compressm report`: runs compared on one page."""

from __future__ import annotations

import argparse
from typing import Any

from compressm.cli.arguments import require_report, writable_file
from compressm.experiments.runs import read_run

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers `commands`."""
    parser = commands.add_parser(
        "report",
        help="compare runs on one page",
        description="Compare runs of `compressm train`, finished or not, on one page of HTML, "
        "which contains its pictures. They are saved beside it as well.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run")
    parser.add_argument(
        "--output",
        type=writable_file,
        default="report.html",
        metavar="HTML",
        help="where to save the page (%(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command, and return its exit code."""
    require_report()
    # Imported late, since report needs the two optional packages
    from compressm.experiments.report import save_report

    for path in save_report([read_run(run) for run in arguments.runs], arguments.output):
        print(path)
    return 0
