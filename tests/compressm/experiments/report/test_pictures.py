"""Pictures of runs: nothing is empty, hidden or without a label."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from compressm.compression.event import CompressionEvent, LayerCut
from compressm.experiments.report.pictures import draw_orders, draw_score, draw_spectra
from compressm.experiments.training import Point, RunResult
from tests.compressm.experiments.helpers import TINY

GREY, BLUE = "#555555", "#0072B2"


def result(name, *log, metric="accuracy"):
    return RunResult(
        name=name, seed=0, settings=TINY, measured={metric: 0.5}, orders=(8,), parameters=1,
        seconds=1.0, log=list(log),
    )  # fmt: skip


def point(step, metric):
    return Point(step, float(step), 1.0, {metric: step / 20}, (8, 8))


def runs(metric="accuracy"):
    """Return three runs of different lengths; two of them have one color and the same states."""
    lengths = {"short": 2, "other": 3, "long": 10}
    return [
        result(name, *(point(step, metric) for step in range(length)), metric=metric)
        for name, length in lengths.items()
    ]


def axes_of(draw, *arguments):
    axes = Figure(figsize=(10, 5), layout="constrained").subplots()
    draw(axes, *arguments)
    axes.figure.canvas.draw()
    return axes


def inside(axes, text):
    """Whether a label is within the picture, but for a few pixels that saving adds to it."""
    box, frame = text.get_window_extent(), axes.figure.bbox.padded(5)
    return frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1


@pytest.mark.parametrize("draw", [draw_score, draw_orders])
def test_curves_fill_the_axes_and_each_label_points_at_its_own(draw):
    results = runs()
    names = [run.name for run in results]
    axes = axes_of(draw, results, [GREY, BLUE, BLUE], names)
    assert axes.get_xlim()[1] < 1.1 * 9
    labels = {text.get_text(): text for text in axes.texts}
    assert set(labels) == set(names)
    for run in results:
        assert labels[run.name].xy[0] == run.history[-1].step
        assert inside(axes, labels[run.name])


def test_labels_of_curves_that_end_low_stay_beside_the_axes():
    falls = [
        result(str(i), *(replace(point(s, "MSE"), measured={"MSE": 2.0 - s}) for s in (0, 1)))
        for i in range(4)
    ]
    axes = axes_of(draw_score, [replace(x, measured={"MSE": 1.0}) for x in falls], 4 * [BLUE],
                   list("abcd"), 0.1)  # fmt: skip
    heights = sorted(text.xyann[1] for text in axes.texts)
    assert heights[0] >= 0 and min(np.diff(heights)) > 0.0999


def test_small_errors_are_drawn_as_they_are():
    small = result(
        "a", *(replace(point(s, "MSE"), measured={"MSE": 1e-5 / (1 + s)}) for s in (0, 1))
    )
    axes = axes_of(draw_score, [replace(small, measured={"MSE": 5e-6})], [BLUE], ["a"])
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [1e-5, 5e-6])


@pytest.mark.parametrize(("metric", "up"), [("accuracy", True), ("MSE", False)])
def test_the_axis_is_that_of_the_metric(metric, up):
    axes = axes_of(draw_score, runs(metric), [GREY, BLUE, BLUE], list("abc"))
    assert axes.get_title("left").startswith(f"Test {metric} over training time")
    low, high = axes.get_ylim()
    assert (low > high) == up, "up is better for the accuracy; errors fall"
    shown = [text.get_text() for text in axes.get_yticklabels() if text.get_text()]
    assert len(shown) >= 3 and all(text.endswith("%") == up for text in shown)


@pytest.mark.parametrize("draw", [draw_score, draw_orders])
def test_runs_that_share_a_color_or_a_curve_can_be_told_apart(draw):
    axes = axes_of(draw, runs(), [GREY, BLUE, BLUE], list("abc"))
    thick = [
        line for line in axes.lines if line.get_linewidth() >= 1.5 and len(line.get_xdata()) > 1
    ]
    assert len({(line.get_color(), line.get_linestyle()) for line in thick}) == 3
    widths = [line.get_linewidth() for line in thick]
    assert draw is draw_score or widths == sorted(set(widths), reverse=True)


CUT = LayerCut("layer", before=4, after=4, order=8, hsv=np.logspace(0, -3, 8))


@pytest.mark.parametrize(
    "cut",
    [CUT, replace(CUT, hsv=np.logspace(0, -30, 8)), replace(CUT, hsv=np.array([1.0, 0, 0, 0]))],
    ids=["plain", "below the axis", "zeros"],
)
def test_a_cut_that_was_refused_has_its_label(cut):
    axes = axes_of(draw_spectra, result("run", CompressionEvent(10, (cut,))))
    (label,) = axes.texts
    assert label.get_text() == "step 10: not cut" and inside(axes, label)
    low, high = axes.get_ylim()
    assert low <= label.xy[1] <= high and np.isfinite([low, high]).all()
