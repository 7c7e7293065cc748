"""The residual of the Lyapunov equation, stable or not."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lti
from tests.lti.helpers import close, random_dense


def residual(A, X, Q, dt):
    AH = A.conj().swapaxes(-1, -2)
    return A @ X @ AH - X + Q if dt else A @ X + X @ AH + Q


@given(st.integers(0, 9999), st.integers(1, 8), st.booleans(), st.sampled_from([0, True]))
def test_the_residual(seed, n, is_complex, dt):
    rng = np.random.default_rng(seed)
    A, Q = rng.standard_normal((2, 3, n, n)) + (1j * rng.standard_normal((2, 3, n, n)) * is_complex)
    if not is_complex:
        A, Q = A.real, Q.real
    X = lti.solve_lyapunov(A, Q, dt)
    assert X.dtype == A.dtype
    size = (1 + np.linalg.norm(A, axis=(-2, -1)).max() ** 2) * np.abs(X).max() + np.abs(Q).max()
    np.testing.assert_allclose(residual(A, X, Q, dt), 0, atol=1e-13 * n * size)


@pytest.mark.parametrize("dt", [0, True])
def test_it_is_the_gramian(library, dt):
    sys = random_dense(5, dt=dt, seed=1)
    X = lti.solve_lyapunov(library(sys.A), library(sys.B @ sys.B.T), dt)
    assert library.owns(X)
    close(np.asarray(X), lti.controllability_gramian(sys), 1e-11)


@pytest.mark.parametrize("dt", [0, True])
@pytest.mark.parametrize("n", [2, 9, 30])
def test_of_a_hermitian_matrix_it_is_hermitian_with_little_damping_too(n, dt):
    rng = np.random.default_rng(n)
    A, B = rng.standard_normal((n, n)), rng.standard_normal((n, 3))
    A = A - A.T - 1e-9 * np.eye(n)
    if dt:
        A = np.linalg.solve(np.eye(n) - A, np.eye(n) + A)
    X = lti.solve_lyapunov(A, B @ B.T, dt)
    assert (X == X.T).all()
    size = (1 + np.linalg.norm(A) ** 2) * np.abs(X).max()
    np.testing.assert_allclose(residual(A, X, B @ B.T, dt), 0, atol=1e-14 * n * size)


def test_a_pole_close_to_minus_one():
    # scipy's bilinear map is singular at -1: its Gramian has large negative eigenvalues here
    rng = np.random.default_rng(0)
    U = np.linalg.qr(rng.standard_normal((12, 12)))[0]
    A = U @ np.diag([-(1 - 1e-10), *np.linspace(-0.9, 0.9, 11)]) @ U.T
    X = lti.solve_lyapunov(A, np.eye(12), True)
    values = np.linalg.eigvalsh((X + X.T) / 2)
    assert values.min() > -1e-13 * values.max()
    np.testing.assert_allclose(values.max(), 1 / (1 - (1 - 1e-10) ** 2), rtol=1e-4)


def test_mirrored_poles_are_refused():
    for A, dt in ((np.diag([1.0, -1.0]), 0), (np.zeros((1, 1)), 0), (np.diag([2.0, 0.5]), True)):
        with pytest.raises(lti.UnstableError, match="no unique solution"):
            lti.solve_lyapunov(A, np.eye(len(A)), dt)


def test_senseless_input():
    with pytest.raises(lti.DimensionError, match="square and of one shape"):
        lti.solve_lyapunov(np.eye(2), np.eye(3))
    with pytest.raises(lti.DerivativeError, match="controllability_gramian"):
        lti.solve_lyapunov(torch.eye(2, requires_grad=True), torch.eye(2))
    assert lti.solve_lyapunov(np.zeros((0, 0)), np.zeros((0, 0))).shape == (0, 0)
