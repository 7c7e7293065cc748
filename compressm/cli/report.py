"""`compressm report`: runs compared on one page."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from compressm.cli.arguments import require_report, writable_file
from compressm.experiments.runs import Run, read_run

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

    for path in save_report(_named([Path(run) for run in arguments.runs]), arguments.output):
        print(path)
    return 0


def _named(folders: list[Path]) -> list[Run]:
    """The runs; the names of equal folders begin with as much of their paths as differs."""
    parts = [folder.parts for folder in dict.fromkeys(folder.resolve() for folder in folders)]
    runs = [read_run(Path(*part)) for part in parts]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["-".join(part[-depth:]) for part in parts]
        if len({*names}) == len(names):
            break
    return [replace(x, result=replace(x.result, name=n)) for x, n in zip(runs, names, strict=True)]
