"""What a person sees of a model's layers and of what could be cut, as tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.table import Table

from compressm.compression.event import CompressionEvent, LayerCut
from compressm.compression.policies import KeepEnergy
from compressm.gramians.types import BuiltIn as Kind

__all__ = ["kinds_table", "outlook_table", "spectra_table"]

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


def kinds_table(
    events: Sequence[CompressionEvent],
    policies: Sequence[KeepEnergy | None],
    kinds: Sequence[Kind],
) -> Table:
    """What each policy would leave of each layer, by what weighs its states, side by side.

    Parameters
    ----------
    events : sequence of CompressionEvent
        Of `outlook`, with several ``gramians``.
    policies : sequence of KeepEnergy or None
    kinds : sequence of str
        The ``gramians``.
    """
    table = Table(box=None, pad_edge=False, title="If cut now, states by", title_justify="left")
    table.add_column("keep")
    table.add_column("layer", no_wrap=True)
    for kind in kinds:
        table.add_column(kind, justify="right")
    notes = []
    for i, policy in enumerate(policies):
        keep = "default" if policy is None else f"{policy.energy:g}"
        for row in zip(*(event.layers for event in events[i :: len(policies)]), strict=True):
            first, last = (row[0] is events[i].layers[k] for k in (0, -1))
            cells = [_left(cut, kind) for cut, kind in zip(row, kinds, strict=True)]
            table.add_row(keep if first else "", row[0].name, *cells, end_section=last)
            notes += [
                f"{keep}, {kind}, {cut.name}: {cut.skipped}"
                for kind, cut in zip(kinds, row, strict=True)
                if cut.skipped
            ]
    table.caption = (
        "states left (share of the energy kept; error of the system's output on sequences held out)"
    )
    if any(" by " in str(cell) for column in table.columns[2:] for cell in column.cells):
        table.caption += "; by what, where it would not be stable otherwise"
    if notes:
        table.caption += "\nLeft as it is, at " + "; at ".join(notes)
    table.caption_justify = "left"
    return table


def _left(cut: LayerCut, kind: str) -> str:
    error = "" if cut.output_error is None else f"; {100 * cut.output_error:.2g}%"
    instead = f" by {cut.gramians}" if cut.gramians not in ("", kind) else ""
    return f"{cut.after} ({100 * cut.energy_kept:.4g}%{error}){instead}"
