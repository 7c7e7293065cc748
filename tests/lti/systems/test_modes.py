"""The peak of a sum of modes, by intervals: no frequency is left out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lti
from lti import peak
from lti.systems import modes
from lti.systems.modes import gains_of, largest_gain, modes_of
from lti.systems.statespace import DiagonalStateSpace
from tests.lti.helpers import boundary, grid_peak, random_dense, response


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("dt", [0, True])
@pytest.mark.parametrize("n", [1, 6, 40])
def test_the_modes_are_the_system(n, dt, is_complex):
    sys = random_dense(n, 2, 3, dt=dt, seed=n, is_complex=is_complex)
    s = boundary(sys, 30)
    found = modes_of(sys)
    np.testing.assert_allclose(response(found, s), response(sys, s), rtol=1e-9, atol=1e-11)
    gains = np.linalg.norm(response(sys, s), ord=2, axis=(-2, -1))
    np.testing.assert_allclose(gains_of(found)(s), gains, rtol=1e-9)


def test_a_jordan_block_has_no_modes():
    A = -np.eye(3) + np.eye(3, k=1)
    assert modes_of(lti.StateSpace(A, np.ones((3, 1)), np.ones((1, 3)))) is None
    assert float(lti.hinf_norm((A, np.eye(3)[:, 2:], np.eye(3)[:1]))) == pytest.approx(1.0)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10**6), st.sampled_from([0, True, 0.1]), st.booleans(), st.sampled_from([1, 3]),
    st.sampled_from([2, 4]),
)  # fmt: skip
def test_both_ways_to_the_peak_agree(seed, dt, is_complex, m, p):
    sys = random_dense(9, m, p, dt=dt, seed=seed, is_complex=is_complex)
    sys = lti.StateSpace(sys.A, sys.B, sys.C, 0 * sys.D, dt)
    other = lti.balanced_truncation(sys, 4).system
    for F in (None, other):
        found = peak._by_modes(sys, F, 1e-9, not is_complex)
        assert found is not None or dt
        if found is not None:
            expected = peak._by_level_sets(sys, F, 1e-9, None)
            np.testing.assert_allclose(found[0], expected[0], rtol=2e-9)
    assert grid_peak(sys) <= float(lti.hinf_norm(sys)) * (1 + 1e-9)


def test_a_difference_near_rounding_is_known_to_rounding():
    # The error is 1e-10 of the gains, so about six digits of it are left
    sys = random_dense(20, 1, 1, seed=3)
    F = lti.balanced_truncation(sys, 15).system
    found, expected = peak._by_modes(sys, F, 1e-9, True), peak._by_level_sets(sys, F, 1e-9, None)
    assert found is not None and expected[0] < 1e-8 * float(lti.hinf_norm(sys))
    assert found[0] == pytest.approx(expected[0], rel=1e-3)


@pytest.mark.parametrize("decay", [1e-2, 1e-6, 1e-10])
@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("is_real", [False, True])
def test_a_sharp_peak_is_found(decay, discrete, is_real):
    # A broad mode of gain 1 is known; that of gain 2 is hidden between the frequencies seen first
    poles = np.array([-1.0, -decay + 0.7j])
    B, C = np.array([[1.0], [1.0]]), np.array([[1.0, 2 * decay]]) + 0j
    if is_real:
        poles, B, C = np.append(poles, poles[1:].conj()), np.ones((3, 1)), np.append(C, C[:, 1:], 1)
    sys = lti.DiagonalStateSpace(poles, B + 0j, C, dt=0)
    best = 1.0, 0.0
    if discrete:
        sys = lti.DiagonalStateSpace((1 + poles) / (1 - poles), *_on_the_circle(poles, B, C), True)
    gain, w = largest_gain(sys, best, 1e-8, is_real)
    at = 2 * np.arctan(0.7) if discrete else 0.7
    # The broad mode adds a little
    exact = gains_of(sys)(np.exp(1j * np.array([w])) if discrete else 1j * np.array([w]))[0]
    assert 2 <= gain < 3 and gain == pytest.approx(exact) and w == pytest.approx(at, abs=2 * decay)


def _on_the_circle(poles, B, C):
    """B, C, D of the same gains at z = (1 + s) / (1 - s)."""
    scale = 1 / (1 - poles)
    return 2 * scale[:, None] * B, C * scale, (C * scale) @ B


def test_small_modes_are_not_resolved(monkeypatch):
    # A thousand of them, each 1e-4 of the peak: their poles need no intervals of their own
    seen, norms = [], modes._norms
    monkeypatch.setattr(modes, "_norms", lambda *x: seen.append(len(x[0])) or norms(*x))
    poles = np.append(-1e-5 + 1j * np.linspace(1, 9, 1000), [-1.0]) + 0j
    C = np.append(np.full(1000, 1e-9), [1.0])[None] + 0j
    sys = lti.DiagonalStateSpace(poles, np.ones((1001, 1)) + 0j, C, dt=0)
    gain, w = largest_gain(sys, (1.0, 0.0), 1e-8, False)
    assert gain == pytest.approx(1.0, rel=1e-3) and abs(w) < 0.1
    assert sum(seen) < 2000


def test_too_many_intervals_are_given_up(monkeypatch):
    sys = modes_of(random_dense(12, 1, 1, seed=1))
    sys = lti.DiagonalStateSpace(sys.poles, sys.B, sys.C, 0 * sys.D, 0)
    start = float(gains_of(sys)(np.zeros(1) + 0j)[0]), 0.0
    assert largest_gain(sys, start, 1e-8, True) is not None
    monkeypatch.setattr(modes, "FEW", 3)
    monkeypatch.setattr(modes, "MOST", 0)
    assert largest_gain(sys, start, 1e-8, True) is None


@pytest.mark.filterwarnings("ignore:(overflow|invalid value):RuntimeWarning")
@pytest.mark.parametrize("is_real", [True, False])
def test_frequencies_out_of_range_are_not_left_out(is_real):
    p = -1e300 + 1j * np.array([1e308, 1.7e308])  # two peaks of gain 1, at the end of the range
    poles, ones = np.concatenate([p, p.conj()]), np.ones((4, 1), complex)
    far = DiagonalStateSpace(poles, ones, 1e300 * ones.T, np.zeros((1, 1), complex), 0)
    assert largest_gain(far, (0.5, 0.0), 1e-6, is_real) is None
