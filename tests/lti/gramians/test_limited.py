"""Bands of frequency and windows of time against matrix functions."""

import mpmath
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

import lti
from lti.gramians.exact import double_factors
from lti.gramians.limited import frequency_limited_factors, time_limited_factors
from tests.lti.helpers import (
    close,
    dense_systems,
    quiet,
    random_dense,
    response,
    square,
)


def top(sys):
    """The end of the frequency axis."""
    return np.pi / (1 if sys.dt is True else sys.dt) if sys.is_discrete else np.inf


@settings(max_examples=40)
@given(dense_systems())
def test_all_frequencies_and_all_times_give_the_gramians(sys):
    exact = double_factors(sys)
    full = (0, top(sys)) if np.isrealobj(sys.A) else (-top(sys), top(sys))
    for factors in (frequency_limited_factors(sys, full), time_limited_factors(sys, (0, np.inf))):
        for one, other in zip(factors, exact, strict=True):
            close(square(one), square(other), 1e-11)


@settings(max_examples=40)
@given(dense_systems(), st.integers(1, 9), st.integers(1, 9))
def test_limited_gramians_add_up(sys, a, b):
    dt = 1.0 if sys.dt is True else sys.dt or 1.0
    w1, w2 = 0.03 * a / dt, (0.03 * a + 0.3 * b) / dt
    bands = [frequency_limited_factors(sys, x) for x in ((0, w1), (w1, w2), [(w1, w2), (0, w1)])]
    bands += [frequency_limited_factors(sys, (0, w2))]
    t1, t2 = a * dt, (a + b) * dt
    windows = [
        time_limited_factors(sys, x) for x in ((0, t1), (t1, t2), [(0, t1), (t1, t2)], (0, t2))
    ]
    for first, second, both, whole in (bands, windows):
        for i in (0, 1):
            total = square(first[i]) + square(second[i])
            close(square(both[i]), total, 1e-11)
            close(square(whole[i]), total, 1e-11)


def test_a_band_of_frequencies_by_the_matrix_logarithm():
    sys = random_dense(5, 2, 2, dt=0, seed=6)
    w1, w2 = 0.4, 2.0
    F = scipy.linalg.logm(1j * w2 * np.eye(5) - sys.A) - scipy.linalg.logm(
        1j * w1 * np.eye(5) - sys.A
    )
    F = (F / (2j * np.pi)).real * 2  # 1/2pi of the integral over both bands
    P, Q = (square(S) for S in double_factors(sys))
    S, R = frequency_limited_factors(sys, (w1, w2))
    close(square(S), F @ P + P @ F.T, 1e-12)
    close(square(R), F.T @ Q + Q @ F, 1e-12)


def test_windows_of_time_by_the_matrix_exponential():
    sys = random_dense(5, 2, 2, dt=0, seed=6, is_complex=True)
    P = square(double_factors(sys)[0])
    one, two = (scipy.linalg.expm(sys.A * t) for t in (0.7, 3.1))
    S, _ = time_limited_factors(sys, (0.7, 3.1))
    close(
        square(S), square(one @ np.linalg.cholesky(P)) - square(two @ np.linalg.cholesky(P)), 1e-12
    )
    ring = random_dense(4, 1, 2, dt=0.5, seed=7)
    powers = [np.linalg.matrix_power(ring.A.T, k) @ ring.C.T for k in range(3, 8)]
    _, R = time_limited_factors(ring, (1.5, 4.0))
    close(square(R), sum(square(X) for X in powers), 1e-13)


def window(A, B, start, stop):
    """int e^{At} B B^T e^{A^T t} dt of an A with distinct poles, by its modes in mpmath."""
    with mpmath.workdps(60):
        poles, V = mpmath.eig(mpmath.matrix(A.tolist()))
        b, n = mpmath.inverse(V) * mpmath.matrix(B.tolist()), len(A)
        W = b * b.H
        for i in range(n):
            for j in range(n):
                s = poles[i] + mpmath.conj(poles[j])
                W[i, j] *= (mpmath.exp(s * stop) - mpmath.exp(s * start)) / s
        P = V * W * V.H
        return np.array([[float(mpmath.re(P[i, j])) for j in range(n)] for i in range(n)])


@pytest.mark.parametrize("times", [(0, 2), (1, 2), (1e-9, 1)])
@pytest.mark.parametrize("speed", [1e4, 1e8, 1e12])
@pytest.mark.parametrize("coupled", [False, True])
def test_a_window_on_slow_states_beside_fast_ones(library, speed, times, coupled):
    A = np.diag([-1.1, -speed, -3.0]) + (np.ones((3, 3)) - np.eye(3)) * 0.3 * coupled
    B, C = np.array([[1.0], [2.0], [1.0]]), np.array([[1.0, 1.0, -1.0]])
    S, R = time_limited_factors(library.system(lti.StateSpace(A, B, C)), times)
    for found, expected in ((S, window(A, B, *times)), (R, window(A.T, C.T, *times))):
        d = np.sqrt(np.diag(window(A, B, 0, 100) if found is S else window(A.T, C.T, 0, 100)))
        P = square(np.asarray(found))
        np.testing.assert_allclose(P / np.outer(d, d), expected / np.outer(d, d), atol=1e-12)


@pytest.mark.parametrize("gap", [1e-3, 1e-8])
def test_a_resonance_inside_a_band(gap):
    """P_Omega -> P as the band holds the peak: what is left out is of the order of the gap."""
    sys = lti.StateSpace([[-gap, 1.0], [-1.0, -gap]], [[0.0], [1.0]], [[1.0, 0.0]])
    inside, _ = frequency_limited_factors(sys, (0.9, 1.1))
    outside, _ = frequency_limited_factors(sys, [(0, 0.9), (1.1, np.inf)])
    P = square(double_factors(sys)[0])
    close(square(inside) + square(outside), P, 1e-10 + 3e-16 / gap)
    assert np.abs(square(outside)).max() < 20 * gap * np.abs(P).max()


@pytest.mark.parametrize("dt", [0, True, 0.5])
@pytest.mark.parametrize("option", [{"frequencies": (0.1, 1.0)}, {"times": (0, 2.0)}])
def test_limits_pay_off_inside_and_have_a_bound_by_wang(dt, option):
    sys = random_dense(9, 2, 2, dt=dt, seed=1)
    reduction = quiet(lti.balanced_truncation, sys, 5, **option)
    assert reduction.error_bound == np.inf and reduction.lower_bound == 0
    assert "limited" in reduction.method
    repaired = lti.balanced_truncation(sys, 5, weighting="wang", **option)
    assert np.isfinite(repaired.error_bound) and repaired.verify() <= repaired.error_bound
    with pytest.raises(lti.OrderError, match='none is known where Gramians are .*weighting="wang"'):
        lti.balanced_truncation(sys, tol=0.1, **option)
    w = np.linspace(0.1, 1.0, 50)

    def error(small):
        gap = lti.frequency_response(sys, w) - lti.frequency_response(small.system, w)
        return np.linalg.norm(gap, 2, axis=(1, 2)).max()

    if "frequencies" in option and dt == 0:
        assert error(reduction) < error(lti.balanced_truncation(sys, 5))


def test_weights_and_bands_compose():
    """The band-limited Gramian of G W is the integral of G W over the band."""
    sys, weight = random_dense(5, 2, 2, dt=0, seed=1), random_dense(3, 2, 2, dt=0, seed=2)
    balancing = lti.balance(sys, input_weight=weight, frequencies=(0.2, 1.0))
    x, w = np.polynomial.legendre.leggauss(400)
    w, x = w * 0.4, 0.6 + 0.4 * x
    X = np.linalg.solve(1j * x[:, None, None] * np.eye(5) - sys.A, sys.B @ response(weight, 1j * x))
    P = 2 * np.einsum("k,kij,klj->il", w / (2 * np.pi), X, X.conj()).real
    close(square(balancing.factors.S), P, 1e-11)
