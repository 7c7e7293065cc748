"""What a reduction prints."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sparse

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


GRAMIANS = {
    "lqg": dict(gramians=lti.lqg_gramians),
    "bounded-real": dict(gramians=lambda G: lti.bounded_real_gramians(G, gamma=1e3 * gain_of(G))),
    "times": dict(times=(0.0, 1e-3)),
    "frequencies": dict(frequencies=(1e3, 1e4)),
}


def gain_of(G):
    return float(lti.hinf_norm(G))


@pytest.mark.parametrize("gain", [1.0, 1e8])
@pytest.mark.parametrize("kind", GRAMIANS)
def test_small_values_do_not_make_the_rounding_of_a_gain_an_error(kind, gain):
    rng = np.random.default_rng(3)
    A = np.array([[-0.001, rng.standard_normal()], [0.0, -5.0]])
    sys = lti.StateSpace(A, np.ones((2, 1)), gain * np.ones((1, 2)))
    whole = lti.balance(sys, **GRAMIANS[kind]).truncate(2)
    assert whole.order == 2 and whole.verify() < 1e-9 * gain_of(sys)
    false = replace(lti.balance(sys, **GRAMIANS[kind]).truncate(1), claim=whole.claim)
    with pytest.raises(lti.CertificateError):  # and an error is one
        false.verify()


@pytest.mark.filterwarnings("ignore::lti.ReductionWarning")
def test_a_pole_at_zero_to_rounding_is_no_pole_for_verify():
    """Rounding of -1 to -1 + 2^-51 would make it one: a frequency response there is refused."""
    A = np.array([[-1.0, 1 - 2.0**-51], [1 - 2.0**-51, -1.0]])
    sys = lti.StateSpace(A, np.ones((2, 1)), np.ones((1, 2)))
    with pytest.raises(lti.OptionError, match="frequency zero"):
        lti.frequency_response(sys, [0.0])
    reduction = lti.balanced_truncation(sys, 0)
    assert reduction._rounding_at(np.array(0.0), np.array(True)) > 1
    assert reduction.verify() == pytest.approx(2.0**52)


@pytest.mark.filterwarnings("ignore::lti.DenseWarning")
def test_the_sampled_error_at_a_frequency_that_is_a_pole_to_rounding():
    A = sparse.diags_array([-1.0, 1.2], offsets=[0, 1], shape=(510, 510))
    sys = lti.SparseStateSpace(A, np.eye(510)[:, [40]], np.eye(1, 510))
    reduction = lti.balanced_truncation(sys, 5)
    assert 100 < reduction.verify() <= reduction.error_bound
