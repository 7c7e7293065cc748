"""What a reduction prints."""

import numpy as np

import lti


def test_a_printed_reduction():
    sys = lti.StateSpace(
        np.diag([1.0, -1.0, -2.0]), np.ones((3, 1)), np.ones((1, 3)), labels=lti.Labels(name="cart")
    )
    reduction = lti.balanced_truncation(sys, 2, unstable="split")
    assert str(reduction).splitlines() == [
        "Balanced truncation: order 3 -> 2",
        "  system   cart, continuous, 1 input, 1 output",
        "  kept     1 state not reduced",
        "  kept     1 value, 0.731",
        "  cut      1 value, 0.019",
        "  error    0.019 <= H-infinity error <= 0.038",
    ]
    limited = lti.balanced_truncation(sys, 2, unstable="split", frequencies=(0, 1))
    assert repr(limited) == (
        "Reduction: order 3 -> 2, H-infinity error: no bound known, verify() measures it"
    )
    assert str(limited).startswith("Balanced truncation, Gramians band-limited: order 3 -> 2\n")
