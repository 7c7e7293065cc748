"""Tables of a model's layers, and of a preview of cuts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.table import Table

from compressm.compression.event import CompressionEvent, LayerCut
from compressm.compression.policies import KeepEnergy

__all__ = [
    "cut_table",
    "gramians_table",
    "in_all",
    "kinds_table",
    "outlook_table",
    "preview_table",
    "spectra_table",
    "time_table",
]

FRACTIONS = {"90%": 0.9, "99%": 0.99, "99.9%": 0.999}
NOT_CUT = "Not cut: at "


def spectra_table(event: CompressionEvent) -> Table:
    """The layers of a model: their sizes, and the decay of their Hankel singular values.

    Parameters
    ----------
    event : CompressionEvent
        Of any preview of the model.
    """
    table = Table(box=None, pad_edge=False, title="Layers", title_justify="left")
    table.add_column("layer", overflow="fold")
    for column in ("channels", "states", "parameters", "flops\na step", "hsv[0]", *FRACTIONS):
        table.add_column(column, justify="right", no_wrap=True)  # names get the lines they need
    for cut in event.layers:
        if cut.hsv.size == 0:
            table.add_row(cut.name, "", f"{cut.before}", f"{cut.parameters[0]:,}")
            continue
        values = cut.hsv.reshape(-1, cut.hsv.shape[-1])
        energy = np.cumsum(values.sum(0)) / values.sum()
        table.add_row(
            cut.name,
            f"{len(values)}" if cut.hsv.ndim > 1 else "mixed",
            f"{cut.before}",
            f"{cut.parameters[0]:,}",
            f"{cut.flops[0]:,}",
            f"{values.max():.3g}",
            *(f"{1 + int((energy < x).sum())}" for x in FRACTIONS.values()),
        )
    table.caption = (
        "90%: the order that keeps this fraction of the sum of Hankel singular values; a stored "
        "complex state is two states of the real system"
    )
    table.caption_justify = "left"
    return table


def preview_table(events: Sequence[CompressionEvent], policies: Sequence[KeepEnergy]) -> Table:
    """What each policy would leave of each layer.

    Parameters
    ----------
    events : sequence of CompressionEvent
        Of `preview`, one for each policy.
    policies : sequence of KeepEnergy
    """
    table = Table(box=None, pad_edge=False, title="If cut now", title_justify="left")
    table.add_column("keep")
    table.add_column("layer", overflow="fold")
    for column in ("states", "order", "error\nbound", "parameters", "flops\na step"):
        table.add_column(column, justify="right", no_wrap=True)
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
        table.caption = NOT_CUT + "; at ".join(notes)
        table.caption_justify = "left"
    return table


def cut_table(event: CompressionEvent) -> Table:
    """What a cut leaves of each layer.

    Parameters
    ----------
    event : CompressionEvent
    """
    table = Table(box=None, pad_edge=False, title="Cut", title_justify="left")
    table.add_column("layer", overflow="fold")
    columns = ("states", "energy\nkept", "output\nerror", "parameters", "state\nbytes")
    for column in (*columns, "operations\na token"):
        table.add_column(column, justify="right", no_wrap=True)
    for cut in event.layers:
        table.add_row(
            cut.name,
            f"{cut.before} → {cut.after}" if cut.after < cut.before else f"{cut.before}",
            f"{100 * cut.energy_kept:.4g}%",
            "" if cut.output_error is None else f"{100 * cut.output_error:.2g}%",
            *(f"{pair[1]:,}" for pair in (cut.parameters, cut.state_bytes, cut.flops)),
        )
    notes = [f"{cut.name}: {cut.skipped}" for cut in event.layers if cut.skipped]
    if notes:
        table.caption = "Not cut: " + "; ".join(notes)
        table.caption_justify = "left"
    return table


def time_table(event: CompressionEvent) -> Table:
    """Measured milliseconds of a step of each layer, before and after a cut.

    Parameters
    ----------
    event : CompressionEvent
        With ``measure=True``.
    """
    title = "Forward and backward, ms"
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    table.add_column("layer", overflow="fold")
    for column in ("before", "after"):
        table.add_column(column, justify="right", no_wrap=True)
    for cut in event.layers:
        seconds = cut.step_seconds
        cells = [f"{1e3 * x:.3g}" for x in seconds] if seconds else ["not measured", ""]
        table.add_row(cut.name, *cells)
    return table


def in_all(event: CompressionEvent, parameters: int) -> str:
    """What a cut saves of the whole model, in a sentence.

    Parameters
    ----------
    event : CompressionEvent
    parameters : int
        Of the whole model, before.
    """
    (held, left), state, operations = (
        [sum(getattr(cut, name)[i] for cut in event.layers) for i in (0, 1)]
        for name in ("parameters", "state_bytes", "flops")
    )
    return (
        f"State of a sequence: {state[0]:,} → {state[1]:,} bytes. Operations of these layers a "
        f"token: {operations[0]:,} → {operations[1]:,}. Parameters of the model: "
        f"{parameters:,} → {parameters - held + left:,}."
    )


def gramians_table(
    events: Sequence[CompressionEvent],
    policies: Sequence[KeepEnergy | None],
    types: Sequence[str],
) -> Table:
    """What each policy would leave of each layer, for several Gramian types side by side.

    Parameters
    ----------
    events : sequence of CompressionEvent
        Of `preview`, with several ``gramians``.
    policies : sequence of KeepEnergy or None
    types : sequence of str
        The ``gramians`` of the preview.
    """
    title = "If cut now, states scored by"
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    table.add_column("keep")
    table.add_column("layer", overflow="fold")
    for gramians in types:
        table.add_column(gramians, justify="right")
    notes = []
    for i, policy in enumerate(policies):
        keep = "default" if policy is None else f"{policy.energy:g}"
        for row in zip(*(event.layers for event in events[i :: len(policies)]), strict=True):
            first, last = (row[0] is events[i].layers[k] for k in (0, -1))
            cells = [_states_left(cut, gramians) for cut, gramians in zip(row, types, strict=True)]
            table.add_row(keep if first else "", row[0].name, *cells, end_section=last)
            notes += [
                f"{keep}, {gramians}, {cut.name}: {cut.skipped}"
                for gramians, cut in zip(types, row, strict=True)
                if cut.skipped
            ]
    table.caption = (
        "states left (energy fraction kept; error of the system's output on sequences held out)"
    )
    if any(" by " in str(cell) for column in table.columns[2:] for cell in column.cells):
        table.caption += "; 'by' the Gramian type that stood in for that of the column"
    if notes:
        table.caption += "\n" + NOT_CUT + "; at ".join(notes)
    table.caption_justify = "left"
    return table


def _states_left(cut: LayerCut, gramians: str) -> str:
    error = "" if cut.output_error is None else f"; {100 * cut.output_error:.2g}%"
    instead = f" by {cut.gramians}" if cut.gramians not in ("", gramians) else ""
    return f"{cut.after} ({100 * cut.energy_kept:.4g}%{error}){instead}"


outlook_table, kinds_table = preview_table, gramians_table  # the names of earlier versions
