"""What an event says: one line for people, numbers for a logger."""

import numpy as np

from compressm import CompressionEvent, LayerCut

CUT = LayerCut(
    "a.layer",
    16,
    6,
    11,
    np.array([2.0, 1.0, 0.5]),
    error_bound=0.3,
    energy_kept=0.9,
    condition=7.0,
    parameters=(100, 40),
    flops=(640, 240),
    rounding=1e-7,
    gramians="input",
    output_error=0.02,
)


def test_an_event_is_one_line():
    refused = CUT.refused("a reason")
    event = CompressionEvent(12, (CUT, refused))
    assert str(event) == (
        "step 12: a.layer: 16 -> 6 by input, a.layer: 16 -> 16 by input (skipped: a reason)"
    )


def test_metrics_are_states_and_energy_by_layer():
    event = CompressionEvent(12, (CUT,))
    assert event.metrics() == {"a.layer/states": 6.0, "a.layer/energy_kept": 0.9}
    assert all(type(value) is float for value in event.metrics().values())


def test_a_refused_cut_changes_nothing_and_promises_nothing():
    cut = CUT.refused("a reason")
    assert (cut.before, cut.after, cut.order, cut.skipped) == (16, 16, 3, "a reason")
    assert (cut.parameters, cut.flops) == ((100, 100), (640, 640))
    assert (cut.error_bound, cut.energy_kept, cut.rounding) == (0.0, 1.0, 0.0)
    assert cut.output_error is None and cut.hsv is CUT.hsv
