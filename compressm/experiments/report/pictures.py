"""Pictures of runs: spectra with the cuts, metric over time, states over steps."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator

from compressm.experiments.report.results import plus
from compressm.experiments.training import RunResult

__all__ = ["draw_orders", "draw_score", "draw_spectra", "picture"]

INK, FAINT = "#333333", "#b8b8b8"
HALO = withStroke(linewidth=3, foreground="white")
# Okabe and Ito's palette, which people with colour blindness can tell apart
COLORS = ("#555555", "#0072B2", "#D55E00")
STYLES = ("solid", "dashed", "dotted", "dashdot")  # of runs that share a color


def picture(results: Sequence[RunResult], path: str | os.PathLike[str]) -> None:
    """Save one picture of the three runs of the demo: spectra with the cuts, metric over time."""
    figure = Figure(figsize=(12.5, 5), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2)
    draw_spectra(left, result=results[1])
    labels = [f"{x.name}\n{x.metric.shown(x.score, 1)}, {plus(x.orders)} states" for x in results]
    draw_score(right, results, COLORS, labels)
    figure.savefig(path, dpi=160, bbox_inches="tight")  # labels may stand out a little


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
    # No room for rounding errors below
    lowest = max(min(hsv[hsv > 0].min() / hsv[0] for hsv in curves.values()), 1e-5)
    ends = {step: int((hsv >= lowest * hsv[0]).sum()) for step, hsv in curves.items()}
    for rank, step in reversed(list(enumerate(sorted(curves)))):
        hsv = curves[step] / curves[step][0]
        index = np.arange(1, len(hsv) + 1)
        color = colormaps["viridis"](0.8 * rank / max(1, len(curves) - 1))
        kept = cuts[step].order if step in cuts else len(hsv)
        axes.semilogy(index[:kept], hsv[:kept], color=color, linewidth=2)
        axes.semilogy(index[kept - 1 :], hsv[kept - 1 :], color=color, linewidth=1.2, alpha=0.4)
        if step not in cuts:
            refused = f"step {step:,}: not cut" if step in own else f"after step {step:,}"
            axes.annotate(
                refused if step else "before training",
                (ends[step], hsv[ends[step] - 1]),
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
    axes.set_xlim(0, 1.02 * max(ends.values()))
    axes.set_yticks([tick for tick in axes.get_yticks() if tick <= 1])
    axes.minorticks_off()
    # Room for the labels of cuts above the largest value, in the share of the height they take
    above = drop * len(cuts)
    axes.set_ylim(0.7 * lowest, (1.4 / lowest) ** (above / (1 - above)) * 1.4)
    axes.set_title("Hankel singular values: each cut keeps the solid part", loc="left", color=INK)
    axes.set_xlabel("index (two for each stored complex state)", color=INK)
    seen = " under the layer's inputs" if result.settings.gramians == "input" else ""
    axes.set_ylabel(f"Hankel singular value{seen}, largest = 1", color=INK)
    _plain(axes)


def draw_score(
    axes: Axes,
    results: Sequence[RunResult],
    colors: Sequence[str],
    labels: Sequence[str],
    gap: float = 0.11,
) -> None:
    """Metric over time; the axis is logarithmic in the error, which shows how runs differ."""
    metric, ends = results[0].metric, []
    for result, color, line in zip(results, colors, _lines(colors), strict=True):
        seconds = [point.seconds for point in result.history]
        scores = [point.score for point in result.history]
        errors = [1 - x if metric.higher_is_better else x for x in scores]
        least = 1e-3 if metric.higher_is_better else min((x for x in errors if x), default=1.0)
        errors = [max(x, least) for x in errors]
        axes.semilogy(seconds, errors, color=color, linewidth=2, linestyle=line)
        axes.plot(seconds[-1], errors[-1], "o", color=color, markersize=6, zorder=5)
        ends.append((seconds[-1], errors[-1]))
    better = ""
    if metric.higher_is_better:
        axes.invert_yaxis()
        ticks = (1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
        axes.set_yticks(ticks, [f"{100 * (1 - tick):g}%" for tick in ticks])
    else:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7)))
        axes.yaxis.set_major_formatter("{x:g}")
        better = ", lower is better"
    axes.minorticks_off()
    label_ends(axes, ends, colors, labels, gap)
    axes.set_title(f"Test {metric.name} over training time{better}", loc="left", color=INK)
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
    wide = np.linspace(4, 1.5, len(results)) if len(results) > 1 else (2,)  # so that none is hidden
    for result, color, line, width in zip(results, colors, _lines(colors), wide, strict=True):
        steps = [point.step for point in result.history]
        orders = np.array([point.orders for point in result.history])
        axes.plot(steps, orders, color=color, linewidth=0.8, alpha=0.5)
        axes.plot(steps, orders.mean(1), color=color, linewidth=width, linestyle=line)
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
    """Label the curves beside the axes, at least `gap` apart, each with a line to its end."""
    axes.set_xlim(0, 1.02 * max(x for x, _ in ends))
    to_axes = axes.transData + axes.transAxes.inverted()
    heights = [float(to_axes.transform(end)[1]) for end in ends]
    ceiling, falling = 1.0 + gap, sorted(range(len(ends)), key=lambda i: -heights[i])
    for i in falling:
        heights[i] = ceiling = min(heights[i], ceiling - gap)
    floor = -gap
    for i in reversed(falling):
        heights[i] = floor = max(heights[i], floor + gap)
        axes.annotate(
            labels[i],
            ends[i],
            xytext=(1.03, heights[i]),
            textcoords="axes fraction",
            color=colors[i],
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": colors[i],
                "linewidth": 0.8,
                "alpha": 0.5,
                "relpos": (0, 0.5),
            },
        )


def _lines(colors: Sequence[str]) -> list[str]:
    """A style for each line, another one for each line of the same color."""
    return [STYLES[colors[:i].count(color) % len(STYLES)] for i, color in enumerate(colors)]
