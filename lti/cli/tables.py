"""What the commands share: one system from a file, tables, and a status line."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from lti.errors import DimensionError
from lti.files import load

__all__ = ["load_one", "noted", "number", "reduced_part", "status", "table", "title"]


def load_one(path: Path) -> Any:
    system = load(path)
    if system.batch_shape:
        raise DimensionError(
            f"{path} is a batch of shape {system.batch_shape}, and the command line takes one "
            "system; save each in a file of its own"
        )
    return system


def title(path: Path, system: Any) -> str:
    return f"{path.name}, {system.labels.name}" if system.labels.name else path.name


def reduced_part(kept: bool, alpha: float | None) -> str:
    """What norms and values are of, where a part of the system is kept as it is."""
    if not kept:
        return ""
    return " of the stable part" if alpha is None else " of the part that is reduced"


def number(x: Any) -> str:
    return f"{float(x):.4g}"


def noted(notes: list[Any], flags: Sequence[str] = ()) -> list[tuple[str, str]]:
    said = dict.fromkeys([*(str(note.message) for note in notes), *flags])
    return [("note", text) for text in said]


def _has_rich() -> bool:
    return importlib.util.find_spec("rich") is not None


def status(text: str) -> AbstractContextManager[Any]:
    """A line that says what is going on, where somebody waits for it."""
    if not (sys.stderr.isatty() and _has_rich()):
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status(text)


def table(title: str | None, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, by rich where it is installed; numbers, in titled columns, to the right."""
    if not rows:
        return
    show: Callable[..., None] = _rich_table if _has_rich() else _plain_table
    show(title, columns, rows)


def _rich_table(title: str | None, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(header_style="bold", box=None, pad_edge=False, show_header=any(columns))
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i and column else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    if title:
        console.print(f"\n{title}", style="bold cyan", markup=False)
    console.print(table)


def _plain_table(title: str | None, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    shown = [columns, *rows] if any(columns) else rows
    widths = [max(len(row[i]) for row in shown) for i in range(len(columns))]
    if title:
        print(f"\n{title}")
    for row in shown:
        cells = [
            text.rjust(width) if i and columns[i] else text.ljust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
