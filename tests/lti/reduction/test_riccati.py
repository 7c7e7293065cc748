"""Gramians from Riccati equations: what they are, what survives, and their bounds."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import TransferFunction, zpk2ss

import lti
from lti.systems.algebra import dual
from tests.lti.helpers import boundary, close, quiet, random_dense, response

CASES = given(
    st.integers(0, 10**6), st.integers(1, 6), st.booleans(), st.sampled_from([0, True]),
    st.integers(0, 5),
)  # fmt: skip


def square(seed, n, is_complex, dt):
    return random_dense(n, 2, 2, dt=dt, seed=seed, is_complex=is_complex)


def bounded(seed, n, is_complex, dt, gamma=1.0):
    sys = square(seed, n, is_complex, dt)
    return sys * (0.9 * gamma / float(lti.hinf_norm(sys)))


def passive(seed, n, is_complex, dt):
    """(1 - F)^-1 (1 + F) of a bounded-real F, and as such with D + D^H > 0."""
    F, one = bounded(seed, n, is_complex, dt), np.eye(2)
    return 2 * inverse(one - F) - one


def inverse(G):
    """G^-1, of an invertible D."""
    Di = np.linalg.inv(G.D)
    return lti.StateSpace(G.A - G.B @ Di @ G.C, G.B @ Di, -Di @ G.C, Di, G.dt)


def gramian(S):
    return S @ S.conj().T


def sizes(*arrays):
    return max(1.0, *(np.abs(x).max(initial=0) for x in arrays)) ** 3


@CASES
def test_lqg(seed, n, is_complex, dt, r):
    sys = square(seed, n, is_complex, dt)
    pair = lti.lqg_gramians(sys)
    for X, G in ((gramian(pair.R), sys), (gramian(pair.S), dual(sys))):
        A, B, C, D = G.matrices
        AH, BH, CH, DH = (x.conj().T for x in (A, B, C, D))
        if dt:
            L, M = AH @ X @ B + CH @ D, np.eye(2) + DH @ D + BH @ X @ B
            left = AH @ X @ A - X + CH @ C
        else:
            L, M = X @ B + CH @ D, np.eye(2) + DH @ D
            left = AH @ X + X @ A + CH @ C
        residual = left - L @ np.linalg.solve(M, L.conj().T)
        np.testing.assert_allclose(residual, 0, atol=1e-10 * sizes(X, A, B, C, D))
    # Coprime factors G = M^-1 N, [N, M] = (A + H C, [B + H D, H], R^-1/2 C, R^-1/2 [D, 1])
    P, (A, B, C, D) = gramian(pair.S), sys.matrices
    R = np.eye(2) + D @ D.conj().T + (C @ P @ C.conj().T if dt else 0)
    H = -np.linalg.solve(R, ((A if dt else np.eye(n)) @ P @ C.conj().T + B @ D.conj().T).conj().T)
    H, root = H.conj().T, np.linalg.inv(np.linalg.cholesky(R))
    wide = np.concatenate([D, np.eye(2)], axis=1)
    NM = lti.StateSpace(
        A + H @ C, np.concatenate([B + H @ D, H], axis=1), root @ C, root @ wide, dt
    )
    balancing = lti.balance(sys, gramians=lti.lqg_gramians)
    mu = balancing.hsv
    np.testing.assert_allclose(
        lti.hankel_singular_values(NM), mu / np.sqrt(1 + mu**2), atol=1e-9 * sizes(mu)
    )
    reduction = quiet(balancing.truncate, min(r, n))
    T, W = reduction.T, reduction.W
    small = lti.StateSpace(W @ NM.A @ T, W @ NM.B, NM.C @ T, NM.D, dt)
    bound = 2 * (mu / np.sqrt(1 + mu**2))[reduction.order :].sum()
    assert lti.hinf_norm(NM - small) <= bound * (1 + 1e-6) + 1e-9
    N, M = small * np.eye(4)[:, :2], small * np.eye(4)[:, 2:]
    s = boundary(sys, 10)
    X, Y = response(M, s) @ response(reduction.system, s), response(N, s)
    np.testing.assert_allclose(X, Y, atol=1e-7 * sizes(X, Y))


@CASES
def test_bounded_real(seed, n, is_complex, dt, r):
    gamma = (1.0, 0.01, 30.0)[seed % 3]
    sys = bounded(seed, n, is_complex, dt, gamma)
    balancing = lti.balance(sys, gramians=partial(lti.bounded_real_gramians, gamma=gamma))
    reduction = quiet(balancing.truncate, min(r, n))
    assert reduction.verify() <= reduction.error_bound * (1 + 1e-8) + 1e-11 * gamma
    assert lti.hinf_norm(reduction.system) <= gamma * (1 + 1e-9)
    assert (balancing.hsv <= 1 + 1e-9).all()
    # No smaller than those of the system alone
    assert (balancing.hsv >= lti.hankel_singular_values(sys) / gamma * (1 - 1e-6) - 1e-12).all()


@CASES
def test_positive_real(seed, n, is_complex, dt, r):
    sys = passive(seed, n, is_complex, dt)
    balancing = lti.balance(sys, gramians=lti.positive_real_gramians)
    reduction = quiet(balancing.truncate, min(r, balancing.minimal_order))
    assert reduction.verify() <= reduction.error_bound * (1 + 1e-8) + 1e-8
    Y = response(reduction.system, boundary(sys, 60))
    lowest = np.linalg.eigvalsh(Y + Y.conj().swapaxes(-1, -2)).min()
    assert lowest >= -1e-8 * np.abs(Y).max()
    # The theorem itself, on the inverse
    if reduction.order < sys.order:
        left, right = (inverse(x + x.D.conj().T) for x in (sys, reduction.system))
        delta = np.linalg.norm(np.linalg.inv(sys.D + sys.D.conj().T), 2)
        bound = delta * lti.error_bound(balancing.hsv, reduction.order)
        assert lti.hinf_norm(left - right) <= bound * (1 + 1e-6) + 1e-9


@CASES
def test_stochastic(seed, n, is_complex, dt, r):
    sys = square(seed, n, is_complex, dt)
    sys = sys + 0.3 * np.eye(2)
    try:
        balancing = lti.balance(sys, gramians=lti.stochastic_gramians)
    except lti.OptionError:
        return
    assert (balancing.hsv <= 1 + 1e-7).all()
    reduction = quiet(balancing.truncate, min(r, n))
    error = reduction.verify()
    assert error <= reduction.error_bound * (1 + 1e-6) + 1e-7
    assert dt == 0 or reduction.order == n or np.isinf(reduction.error_bound)
    # The bilinear map keeps singular perturbation, so that its bound holds in both
    residual = quiet(balancing.reduce, "singular-perturbation", min(r, n))
    assert residual.verify() <= residual.error_bound * (1 + 1e-6) + 1e-7
    assert np.isfinite(residual.error_bound) or balancing.hsv.max() > 1 - 1e-9
    s = boundary(sys, 60)
    Y, X = response(sys, s), response(reduction.system, s)
    relative = np.linalg.norm(np.linalg.solve(Y, Y - X), ord=2, axis=(-2, -1)).max()
    assert relative <= error * (1 + 1e-5) + 1e-7


def test_the_bounds_are_of_use():
    sys = lti.StateSpace(-np.diag(np.arange(1.0, 9)), np.ones((8, 1)), 0.3 * np.ones((1, 8)), [[1]])
    small = lti.balance(sys, gramians=lti.stochastic_gramians).truncate(tol=1e-3)
    assert 2 <= small.order <= 4 and 1e-6 < small.verify() <= small.error_bound <= 1e-3
    small = lti.balance(sys, gramians=lti.positive_real_gramians).truncate(tol=1e-3)
    assert 2 <= small.order <= 4 and 1e-6 < small.verify() <= small.error_bound <= 1e-3
    sampled = lti.balance(lti.discretize(sys, 0.1), gramians=lti.stochastic_gramians)
    small = sampled.reduce("singular-perturbation", tol=1e-2)
    assert small.order < 8 and 1e-6 < small.verify() <= small.error_bound * (1 + 1e-9) <= 1e-2
    with pytest.raises(lti.OrderError, match="needs an error bound, and none is known"):
        sampled.truncate(tol=1e-2)
    with pytest.raises(lti.OrderError, match="needs an error bound, and none is known"):
        lti.balance(sys, gramians=lti.lqg_gramians).truncate(tol=1e-3)


@pytest.mark.parametrize("dt", [0, True])
def test_singular_perturbation_of_few_states(dt):
    # z = 2.5 or s = 2 is a zero that is not stable, so that the value is one and its bound infinite
    sys = lti.StateSpace([[0.5 if dt else -1.0]], [[1.0]], [[-2.0 if dt else -3.0]], [[1.0]], dt)
    balancing = lti.balance(sys, gramians=lti.stochastic_gramians)
    np.testing.assert_allclose(balancing.hsv, 1, atol=1e-7)
    assert quiet(balancing.reduce, "singular-perturbation", tol=0.1).order == 1
    none = lti.StateSpace(np.zeros((0, 0)), np.zeros((0, 1)), np.zeros((1, 0)), [[1.0]], dt)
    balancing = lti.balance(none, gramians=lti.stochastic_gramians)
    assert balancing.reduce("singular-perturbation", 0).error_bound == 0


def test_zeros_outside_give_values_of_one():
    # (s - 1)(s - 2) / ((s + 3)(s + 4)): two zeros that are not stable
    sys = lti.as_statespace(TransferFunction([1, -3, 2], [1, 7, 12]))
    balancing = lti.balance(sys, gramians=lti.stochastic_gramians)
    np.testing.assert_allclose(balancing.hsv, 1, atol=1e-7)
    assert np.isinf(balancing.error_bounds[:2]).all()


def test_values_of_one_state():
    # a = b = c = 1 for x' = -x + u: q^2 + 2 q - 1 = 0, so mu = q = sqrt(2) - 1
    lag = lti.StateSpace([[-1.0]], [[1.0]], [[1.0]])
    close(lti.balance(lag, gramians=lti.lqg_gramians).hsv, [np.sqrt(2) - 1])
    # Bounded real of c = 1/2: q^2 - 2 q + 1/4 = 0 for b = 1, p = 4 q, sigma = 2 q
    half = lti.StateSpace([[-1.0]], [[1.0]], [[0.5]])
    close(lti.balance(half, gramians=lti.bounded_real_gramians).hsv, [2 - np.sqrt(3)])
    # Positive real of d = 1/2: q^2 - 4 q + 1 = 0
    fed = lti.StateSpace([[-1.0]], [[1.0]], [[1.0]], [[0.5]])
    close(lti.balance(fed, gramians=lti.positive_real_gramians).hsv, [2 - np.sqrt(3)])


def test_torch_goes_through():
    sys = lti.StateSpace(-torch.diag(torch.arange(1.0, 4)), torch.ones(3, 1), torch.ones(1, 3) / 4)
    reduction = lti.balance(sys, gramians=lti.bounded_real_gramians).truncate(1)
    assert reduction.system.A.dtype == torch.float32
    assert reduction.verify() <= reduction.error_bound


@pytest.mark.parametrize(("pair", "sys", "error", "text"), [
    (lti.bounded_real_gramians, lti.StateSpace([[-1.0]], [[1.0]], [[2.0]]), lti.OptionError,
     "is not below gamma=1"),
    (partial(lti.bounded_real_gramians, gamma=-1), random_dense(2), lti.OptionError, "gamma must"),
    (lti.positive_real_gramians, random_dense(2), lti.DimensionError, "as many inputs as outputs"),
    (lti.positive_real_gramians, random_dense(2, 1, 1) * 0, lti.OptionError, "the eigenvalue"),
    (lti.positive_real_gramians, lti.StateSpace([[-1.0]], [[1.0]], [[-4.0]], [[1.0]]),
     lti.OptionError, "it needs G \\+ G\\^H > 0"),
    (lti.positive_real_gramians, lti.StateSpace([[-1.0, 5.0], [-5.0, -1.0]], [[1.0], [0.0]],
     [[-3.0, 0.0]], [[0.5]]), lti.OptionError, "it needs G \\+ G\\^H > 0"),
    (lti.positive_real_gramians, lti.StateSpace([[0.5]], [[1.0]], [[-1.0]], [[1.0]], True),
     lti.OptionError, "it needs G \\+ G\\^H > 0"),
    (lti.stochastic_gramians, lti.StateSpace([[-1.0]], [[1.0]], [[-1.0]], [[1.0]]),
     lti.OptionError, "it needs G without zeros on the boundary"),
    (lti.stochastic_gramians, random_dense(2), lti.OptionError, "D of full row rank"),
    (lti.stochastic_gramians, random_dense(2, 1, 1) * 0, lti.OptionError, "D of full row rank"),
    (lti.lqg_gramians, lti.StateSpace(0.5 * np.eye(40) + 2 * np.eye(40, k=-1), np.eye(40, 1),
     np.eye(40)[-1:], None, True), lti.OptionError, "far from normal.*reduce the system first"),
    (lti.lqg_gramians, random_dense(2, stack=(2,)), lti.DimensionError, "for one system, got"),
])  # fmt: skip
def test_what_has_no_such_gramians(pair, sys, error, text):
    with pytest.raises(error, match=text):
        lti.balance(sys, gramians=pair)


def test_no_derivatives():
    sys = lti.StateSpace(-torch.eye(1, requires_grad=True), torch.eye(1), torch.eye(1))
    with pytest.raises(lti.DerivativeError, match="Riccati equations has no derivative"):
        lti.balance(sys, gramians=lti.lqg_gramians)


@pytest.mark.parametrize("dt", [0, True])
@pytest.mark.parametrize(("m", "p"), [(0, 2), (2, 0), (0, 0)])
def test_without_inputs_or_outputs(m, p, dt):
    sys = lti.StateSpace(-0.5 * np.eye(2), np.ones((2, m)), np.ones((p, 2)), None, dt)
    for gramians in (lti.lqg_gramians, lti.bounded_real_gramians):
        balancing = lti.balance(sys, gramians=gramians)
        assert not balancing.sigma.any()
        assert balancing.truncate(0).verify() == 0.0
    observed = lti.lqg_gramians(lti.StateSpace([[-1.0]], np.ones((1, 0)), [[2.0]]))
    assert np.allclose(observed.R @ observed.R.T, 2.0) and not observed.S.any()


@pytest.mark.parametrize("how", ["turned", "other units", "discrete"])
def test_stiff_systems(how):
    # Slow closed-loop poles are not on the boundary, and Newton's method solves what LAPACK cannot
    rng, n = np.random.default_rng(0), 12
    for _ in range(2):
        A, (B, C) = -np.diag(np.geomspace(1e-4, 1e6, n)), rng.standard_normal((2, n, 1))
        C /= 2 * float(lti.hinf_norm((A, B, C.T)))
        own = A, B, C.T
        Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
        A, B, C = Q @ A @ Q.T, Q @ B, Q @ C
        if how == "other units":
            d = 2.0 ** rng.integers(-20, 21, n)
            A, B, C = A / d[:, None] * d, B / d[:, None], C * d[:, None]
        for gramians, D in (
            (lti.lqg_gramians, 0), (lti.bounded_real_gramians, 0),
            (lti.positive_real_gramians, 1), (lti.stochastic_gramians, 1),
        ):  # fmt: skip
            sys = lti.StateSpace(A, B, C.T, D * np.eye(1))
            sys = lti.bilinear(sys, 1.0) if how == "discrete" else sys
            ours = lti.balance(sys, gramians=gramians).sigma
            plain = lti.StateSpace(*own, D * np.eye(1))
            expected = lti.balance(plain, gramians=gramians).sigma
            # Of the slowest pole the rotation has left six digits
            np.testing.assert_allclose(ours, expected, rtol=0, atol=3e-6 * expected[0])


@pytest.mark.parametrize("dt", [0, 1.0])
@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("zeros", [[0.0], [1j, -1j]])
def test_a_zero_on_the_boundary_is_refused_beside_a_fast_pole(zeros, fast, dt):
    poles, zeros = [-1.0] * len(zeros), list(zeros)
    if fast:
        poles, zeros = [*poles, -2e6], [*zeros, -1e6]
    sys = lti.StateSpace(*zpk2ss(zeros, poles, 1.0))
    sys = lti.bilinear(sys, 1.0) if dt else sys
    with pytest.raises(lti.OptionError, match="zeros on the boundary"):
        lti.balance(sys, gramians=lti.stochastic_gramians)


def test_an_unstable_result_of_lqg_is_told_what_helps():
    """weighting="wang", which makes others stable, is refused with gramians=."""
    rng = np.random.default_rng(3)
    A = rng.standard_normal((4, 4))
    A -= np.eye(4) * (np.linalg.eigvals(A).real.max() + 0.01)
    sys = lti.StateSpace(A, 10 * rng.standard_normal((4, 1)), rng.standard_normal((1, 4)))
    balancing = lti.balance(sys, gramians=lti.lqg_gramians)
    with pytest.warns(lti.ReductionWarning, match="is unstable: try a neighbouring order$"):
        reduction = balancing.truncate(2)
    with pytest.raises(lti.UnstableError, match="of the reduced system, 2 of 2.*neighbouring") as e:
        reduction.verify()
    assert "split" not in str(e.value)
    assert np.isfinite(reduction.error_response([0.0])).all()
    with pytest.raises(lti.OrderError, match="Gramians are LQG; give an order or energy=$"):
        balancing.truncate(tol=0.1)
