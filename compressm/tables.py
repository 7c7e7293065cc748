"""What a person sees of a model's layers and of what could be cut, as tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.table import Table

from compressm.cutting import CompressionEvent
from compressm.policies import KeepEnergy

__all__ = ["outlook_table", "spectra_table"]

SHARES = {"90%": 0.9, "99%": 0.99, "99.9%": 0.999}


def spectra_table(event: CompressionEvent) -> Table:
    """The layers of a model: their sizes, and how their Hankel singular values fall off.

    Parameters
    ----------
    event : CompressionEvent
        Any, of that model as it is.
    """
    table = Table(box=None, pad_edge=False, title="Layers", title_justify="left")
    table.add_column("layer", no_wrap=True)
    for column in ("channels", "states", "parameters", "flops a step", "hsv[0]", *SHARES):
        table.add_column(column, justify="right")
    for cut in event.layers:
        if cut.hsv.size == 0:
            table.add_row(cut.name, "", f"{cut.before}", f"{cut.parameters[0]:,}")
            continue
        values = cut.hsv.reshape(-1, cut.hsv.shape[-1])
        shares = np.cumsum(values.sum(0)) / values.sum()
        table.add_row(
            cut.name,
            f"{len(values)}" if cut.hsv.ndim > 1 else "mixed",
            f"{cut.before}",
            f"{cut.parameters[0]:,}",
            f"{cut.flops[0]:,}",
            f"{values.max():.3g}",
            *(f"{1 + int((shares < x).sum())}" for x in SHARES.values()),
        )
    table.caption = (
        "90%: the order that keeps this share of the sum of Hankel singular values; a stored "
        "complex state is two states of the real system"
    )
    table.caption_justify = "left"
    return table


def outlook_table(events: Sequence[CompressionEvent], policies: Sequence[KeepEnergy]) -> Table:
    """What each policy would do to each layer.

    Parameters
    ----------
    events : sequence of CompressionEvent
        Of `outlook`.
    policies : sequence of KeepEnergy
    """
    table = Table(box=None, pad_edge=False, title="If cut now", title_justify="left")
    table.add_column("keep")
    table.add_column("layer", no_wrap=True)
    for column in ("states", "order", "error bound", "parameters", "flops a step"):
        table.add_column(column, justify="right")
    notes = []
    for policy, event in zip(policies, events, strict=True):
        for cut in event.layers:
            first = f"{policy.energy:g}" if cut is event.layers[0] else ""
            states = f"{cut.before} → {cut.after}" if cut.after < cut.before else f"{cut.before}"
            sizes = f"{cut.parameters[1]:,}", f"{cut.flops[1]:,}"
            table.add_row(
                first,
                cut.name,
                states,
                f"{cut.order}",
                f"{cut.error_bound:.3g}",
                *sizes,
                end_section=cut is event.layers[-1],
            )
            if cut.skipped:
                notes.append(f"{policy.energy:g}, {cut.name}: {cut.skipped}")
    if notes:
        table.caption = "Left as it is, at " + "; at ".join(notes)
        table.caption_justify = "left"
    return table
