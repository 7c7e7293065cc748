"""Pictures of runs: spectra with the cuts, accuracy over time, states over steps."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from compressm.experiments.report.results import plus
from compressm.experiments.training import RunResult

__all__ = ["draw_accuracy", "draw_orders", "draw_spectra", "picture"]

INK, FAINT = "#333333", "#b8b8b8"
HALO = withStroke(linewidth=3, foreground="white")
# Okabe and Ito's palette, which people with colour blindness can tell apart
COLORS = ("#555555", "#0072B2", "#D55E00")


def picture(results: Sequence[RunResult], path: str | os.PathLike[str]) -> None:
    """Save one picture of the three runs of the demo: spectra with the cuts, accuracy over time."""
    figure = Figure(figsize=(12.5, 5), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2)
    draw_spectra(left, result=results[1])
    labels = [f"{x.name}\n{x.accuracy:.1%}, {plus(x.orders)} states" for x in results]
    draw_accuracy(right, results, COLORS, labels)
    figure.savefig(path, dpi=160)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(which="both", color=FAINT, labelcolor=INK, length=3)
    axes.grid(axis="y", color="#ececec", linewidth=0.8)
    axes.set_axisbelow(True)


def draw_spectra(axes: Axes, result: RunResult, place: int = 0) -> None:
    """Hankel singular values of one layer: before training, at each cut, at the end.

    If every channel is a system, each point is the largest value over the channels.
    """
    own = {event.step: event.layers[place] for event in result.events}
    cuts = {step: cut for step, cut in own.items() if cut.after < cut.before}
    curves = {step: list(layers.values())[place] for step, layers in result.spectra.items()}
    curves |= {step: cut.hsv for step, cut in own.items() if cut.hsv.size}
    curves = {step: hsv.reshape(-1, hsv.shape[-1]).max(0) for step, hsv in curves.items()}
    height, drop = 0.99, min(0.07, 0.35 / max(1, len(cuts)))
    for rank, step in reversed(list(enumerate(sorted(curves)))):
        hsv = curves[step] / curves[step][0]
        index = np.arange(1, len(hsv) + 1)
        color = colormaps["viridis"](0.8 * rank / max(1, len(curves) - 1))
        kept = cuts[step].order if step in cuts else len(hsv)
        axes.semilogy(index[:kept], hsv[:kept], color=color, linewidth=2)
        axes.semilogy(index[kept - 1 :], hsv[kept - 1 :], color=color, linewidth=1.2, alpha=0.4)
        if step not in cuts:
            axes.annotate(
                "before training" if step == 0 else f"after step {step:,}",
                (kept, hsv[-1]),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                color=INK,
                path_effects=[HALO],
            )
            continue
        # Later cuts keep fewer states: their labels stand further left, and higher.
        axes.plot(kept, hsv[kept - 1], "o", color=color, markersize=6)
        axes.annotate(
            "",
            (kept, hsv[kept - 1]),
            xytext=(kept, height),
            textcoords=axes.get_xaxis_transform(),
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 1, "shrinkB": 3},
        )
        axes.annotate(
            f"step {step:,}: {cuts[step].before} → {cuts[step].after} states",
            (kept, height),
            xycoords=axes.get_xaxis_transform(),
            xytext=(5, 0),
            textcoords="offset points",
            va="top",
            color=INK,
            path_effects=[HALO],
        )
        height -= drop
    # Room for the labels above the largest value; no room for rounding errors below
    lowest = max(axes.get_ylim()[0], 1e-5)
    axes.set_xlim(0, 1.35 * max(int((hsv > lowest * hsv[0]).sum()) for hsv in curves.values()))
    axes.set_yticks([tick for tick in axes.get_yticks() if tick <= 1])
    axes.minorticks_off()
    axes.set_ylim(lowest, 10 ** (0.1 + 5 * drop * len(cuts)))
    axes.set_title("Hankel singular values: each cut keeps the solid part", loc="left", color=INK)
    axes.set_xlabel("index (two for each stored complex state)", color=INK)
    seen = " under the layer's inputs" if result.settings.gramians == "input" else ""
    axes.set_ylabel(f"Hankel singular value{seen}, largest = 1", color=INK)
    _plain(axes)


def draw_accuracy(
    axes: Axes,
    results: Sequence[RunResult],
    colors: Sequence[str],
    labels: Sequence[str],
    gap: float = 0.11,
) -> None:
    """Accuracy over time; the axis is logarithmic in the error, which shows how runs differ."""
    ends = []
    for result, color in zip(results, colors, strict=True):
        seconds = [point.seconds for point in result.history]
        errors = [max(1 - point.accuracy, 1e-3) for point in result.history]
        axes.semilogy(seconds, errors, color=color, linewidth=2)
        axes.plot(seconds[-1], errors[-1], "o", color=color, markersize=6, zorder=5)
        ends.append((seconds[-1], errors[-1]))
    axes.invert_yaxis()
    ticks = (1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
    axes.set_yticks(ticks, [f"{100 * (1 - tick):g}%" for tick in ticks])
    axes.minorticks_off()
    label_ends(axes, ends, colors, labels, gap)
    axes.set_title("Test accuracy over training time", loc="left", color=INK)
    axes.set_xlabel("seconds of training", color=INK)
    _plain(axes)


def draw_orders(
    axes: Axes,
    results: Sequence[RunResult],
    colors: Sequence[str],
    labels: Sequence[str],
    gap: float = 0.11,
) -> None:
    """Stored states over steps: a thin line for each layer, a thick one for their mean."""
    ends = []
    for result, color in zip(results, colors, strict=True):
        steps = [point.step for point in result.history]
        orders = np.array([point.orders for point in result.history])
        axes.plot(steps, orders, color=color, linewidth=0.8, alpha=0.5)
        axes.plot(steps, orders.mean(1), color=color, linewidth=2)
        ends.append((steps[-1], float(orders[-1].mean())))
    axes.set_ylim(0)
    label_ends(axes, ends, colors, labels, gap)
    axes.set_title("Stored states of a layer over training", loc="left", color=INK)
    axes.set_xlabel("step", color=INK)
    _plain(axes)


def label_ends(
    axes: Axes,
    ends: Sequence[tuple[float, float]],
    colors: Sequence[str],
    labels: Sequence[str],
    gap: float,
) -> None:
    """Label the curves to the right of the longest one, with a distance of at least `gap`."""
    longest = max(x for x, _ in ends)
    axes.set_xlim(0, 1.45 * longest)
    to_axes = axes.transData + axes.transAxes.inverted()
    places = [to_axes.transform((longest, y)) for _, y in ends]
    ceiling = 1.0
    for i in sorted(range(len(ends)), key=lambda i: -places[i][1]):
        ceiling = min(places[i][1], ceiling - gap)
        axes.annotate(
            labels[i],
            (places[i][0], ceiling),
            xycoords="axes fraction",
            xytext=(9, 0),
            textcoords="offset points",
            color=colors[i],
            va="center",
            path_effects=[HALO],
        )
