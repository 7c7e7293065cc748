"""What a reduction prints."""

import numpy as np
import pytest

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


def test_a_slow_pole_that_only_the_reduced_system_has_is_flagged():
    """Two values that are nearly equal: state 1 alone has a pole at 3e-16, all of it rounding."""
    B = np.float32([[-0.72276900, -0.69108970]] * 2)
    C = np.float32([[-2.168307, 6.504921], [-2.0732691, 6.2198073]])
    D = 3 * np.eye(2, dtype=np.float32)
    sys = lti.DiagonalStateSpace(np.float32([-0.25, -0.75]), B, C, D, 0)
    with pytest.warns(lti.ReductionWarning, match="a pole of the reduced system"):
        lti.balanced_truncation(sys, order=1)
