"""Metrics, states and seconds of runs, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from compressm.experiments.data import METRICS
from compressm.experiments.training import RunResult

__all__ = ["plus", "table"]


def plus(orders: Sequence[int]) -> str:
    """Orders of the layers, as in ``64 + 32``."""
    return " + ".join(map(str, orders))


def table(results: Sequence[RunResult]) -> Table:
    """One row for each run; the speed-up is relative to the first one."""
    out = Table(header_style="bold", box=None, pad_edge=False)
    out.add_column("run")
    tested = [f"test {name}" for name in results[0].measured]
    for title in (*tested, "states", "parameters", "seconds", "speed-up"):
        out.add_column(title, justify="right")
    for result in results:
        states = dict.fromkeys([plus(result.history[0].orders), plus(result.orders)])
        out.add_row(
            result.name,
            *(METRICS[name].shown(value) for name, value in result.measured.items()),
            " → ".join(states),
            f"{result.parameters:,}",
            f"{result.seconds:.1f}",
            f"{results[0].seconds / result.seconds:.1f}x",
        )
    return out
