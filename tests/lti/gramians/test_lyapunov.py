"""Square roots of Lyapunov solutions: what they square to, and how many digits they carry."""

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lti
from lti.gramians.lyapunov import _eliminate, _from_entries, cauchy_factor, gap, smith_factors
from lti.systems.discretize import to_discrete
from tests.lti.helpers import arrays, dense_systems, diagonal_systems, random_dense, random_ring


def square(S):
    return S @ np.swapaxes(S, -1, -2).conj()


@given(dense_systems(dt=True))
def test_doubling_solves_both_equations(sys):
    S, R, _ = smith_factors(sys.A, sys.B, sys.C)
    assert S.shape[1] <= sys.order and R.shape[1] <= sys.order
    A, P, Q = sys.A, square(S), square(R)
    BB, CC = square(sys.B), square(sys.C.conj().T)
    tiny = 1e-14 * (np.linalg.norm(P) + np.linalg.norm(Q)) * (1 + np.linalg.norm(A)) ** 2
    assert np.linalg.norm(A @ P @ A.conj().T - P + BB) <= tiny
    assert np.linalg.norm(A.conj().T @ Q @ A - Q + CC) <= tiny


@given(diagonal_systems(conjugate=False))
def test_cauchy_factor_is_the_closed_form(sys):
    S = cauchy_factor(sys.poles, sys.B, sys.is_discrete)
    p, q = sys.poles[:, None], sys.poles.conj()[None, :]
    P = square(sys.B) / (1 - p * q if sys.is_discrete else -(p + q))
    assert np.abs(square(S) - P).max() <= 1e-14 * np.abs(P).max()


@given(diagonal_systems(conjugate=False))
def test_cauchy_factor_is_triangular_up_to_its_pivots(sys):
    S = cauchy_factor(sys.poles, sys.B, sys.is_discrete)
    assert S.shape == (sys.order, sys.order)
    rank = (np.abs(S) > 0).sum(axis=0)  # column k has at most n - k entries: k rows are done
    assert (rank <= sys.order - np.arange(sys.order)).all()
    lead = np.abs(S).max(axis=0)
    assert (lead[1:] <= lead[:-1] * (1 + 1e-12)).all()  # the largest pivot first


@given(st.integers(1, 8), st.booleans(), st.integers(0, 99))
def test_one_input_has_the_product_formula(n, is_complex, seed):
    # det P = prod |p_i - p_j|^2 / |p_i + conj(p_j)|^2 / prod -2 Re p_i, for i > j
    rng = np.random.default_rng(seed)
    poles = -rng.uniform(0.1, 3, n) + (1j * rng.uniform(-3, 3, n) if is_complex else 0)
    S = cauchy_factor(poles, np.ones((n, 1)), False)
    determinant = mpmath.mpf(1)
    for i in range(n):
        for j in range(i):
            gap, total = mpmath.mpc(poles[i] - poles[j]), mpmath.mpc(poles[i] + poles[j].conj())
            determinant *= abs(gap / total) ** 2
        determinant /= -2 * mpmath.mpf(poles[i].real)
    np.testing.assert_allclose(np.abs(np.linalg.det(S)) ** 2, float(determinant), rtol=1e-9)


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9, 1e-12])
def test_cauchy_factor_near_the_circle_keeps_its_digits(gap):
    angle = np.array([0.3, 0.3 + gap, 1.0, 2.5])
    poles = (1 - gap * np.array([1, 2, 3, 1.5])) * np.exp(1j * angle)
    B = np.array([[1.0, 2], [1, -1], [3, 0], [0.5, 1]])
    S = cauchy_factor(poles, B, True)
    with mpmath.workdps(40):
        p = [mpmath.mpc(z) for z in poles]
        exact = [[complex((B[i] @ B[j]) / (1 - p[i] * mpmath.conj(p[j]))) for j in range(4)]
                 for i in range(4)]  # fmt: skip
    scale = np.sqrt(np.outer(np.diag(exact).real, np.diag(exact).real))
    # Off the diagonal 1 - p_i conj(p_j) is as exact as the difference of the poles
    assert (np.abs(square(S) - exact) <= 4e-15 * scale).all()


@pytest.mark.parametrize("is_complex", [False, True])
def test_a_factor_is_exact_where_a_gramian_loses_half_the_digits(is_complex):
    n = 14
    poles = -np.arange(1.0, n + 1) + (0.5j * np.arange(n) if is_complex else 0)
    S = cauchy_factor(poles, np.ones((n, 1)), False)
    smallest = np.linalg.svd(S, compute_uv=False)[-1]
    with mpmath.workdps(60):
        P = mpmath.matrix(n)
        for i in range(n):
            for j in range(n):
                P[i, j] = -1 / (mpmath.mpc(poles[i]) + mpmath.mpc(poles[j].conj()))
        exact = mpmath.sqrt(min(mpmath.eighe(P, eigvals_only=True)))
    assert exact < 1e-8  # its square is far below what a Gramian in double precision can show
    np.testing.assert_allclose(smallest, float(exact), rtol=1e-6)


@given(st.integers(1, 5), st.integers(1, 4), st.booleans())
def test_coincident_poles_have_the_rank_of_their_inputs(n, m, discrete):
    rng = np.random.default_rng(n + 10 * m)
    poles, B = np.full(n, 0.5 if discrete else -0.5), rng.standard_normal((n, m))
    S = cauchy_factor(poles, B, discrete)
    gap = 0.75 if discrete else 1.0
    np.testing.assert_allclose(square(S), square(B) / gap, atol=1e-14 * (1 + np.abs(B).max()) ** 2)
    assert np.linalg.matrix_rank(S, tol=1e-12) == min(n, m)


@pytest.mark.parametrize("apart", [0.0, 5e-324, 1e-309, 1e-160, 1e-16])
def test_poles_that_almost_coincide(apart):
    poles, B = (
        0.25 + 1j * np.array([apart, -apart, 0.5]),
        np.array([[0.5 - 1j, 1j], [1, 1], [2, 1]]),
    )
    P = square(B) / (1 - poles[:, None] * poles.conj()[None, :])
    np.testing.assert_allclose(square(cauchy_factor(poles, B, True)), P, rtol=1e-14)


@pytest.mark.parametrize("dt", [0, True])
@pytest.mark.parametrize("is_complex", [False, True])
def test_both_ways_agree_on_a_dense_diagonal(dt, is_complex):
    rng = np.random.default_rng(0)
    poles = rng.uniform(-0.9, -0.1, 6) + (1j * rng.uniform(-0.3, 0.3, 6) if is_complex else 0)
    B = rng.standard_normal((6, 2))
    sys = lti.DiagonalStateSpace(poles, B, np.ones((1, 6)), dt=dt).to_dense()
    flat = sys if dt else to_discrete(sys, 0.5)
    S, _, _ = smith_factors(flat.A, flat.B, flat.C)
    np.testing.assert_allclose(square(S), square(cauchy_factor(poles, B, dt is True)), atol=1e-13)


@pytest.mark.parametrize("radius", [0.0, 0.5, 1 - 1e-9])
def test_doubling_ends(radius):
    S, R, _ = smith_factors(np.array([[radius]]), np.array([[1.0]]), np.array([[2.0]]))
    np.testing.assert_allclose(
        [S[0, 0] ** 2, R[0, 0] ** 2],
        np.array([1, 4]) / (1 - radius) / (1 + radius),
        rtol=1e-14 + 1e-16 / (1 - radius),
    )
    with pytest.raises(lti.UnstableError, match="did not converge in 64 doublings: a pole lies on"):
        smith_factors(np.array([[1.0]]), np.array([[1.0]]), np.array([[1.0]]))


@given(st.integers(0, 4), st.integers(0, 6), st.booleans())
def test_any_number_of_states_and_inputs(n, m, discrete):
    A, B = (0.5 if discrete else -0.5) * np.eye(n), np.ones((n, m))
    S = cauchy_factor(np.diag(A), B, discrete)
    np.testing.assert_allclose(square(S), square(B) / (0.75 if discrete else 1), atol=1e-14)
    if discrete:
        S, R, _ = smith_factors(A, B, np.ones((m, n)))
        np.testing.assert_allclose(square(S), square(B) / 0.75, atol=1e-13)
        np.testing.assert_allclose(square(R), square(B) / 0.75, atol=1e-13)
        assert S.shape[1] <= max(n, 1) and R.shape[1] <= max(n, 1)


def test_a_stack_is_a_loop():
    stack = [random_ring(5, 3, 2, seed=k) for k in range(4)]
    poles, B = np.stack([x.poles for x in stack]), np.stack([x.B for x in stack])
    S = cauchy_factor(poles, B, True)
    for one, sys in zip(S, stack, strict=True):
        np.testing.assert_allclose(one, cauchy_factor(sys.poles, sys.B, True), rtol=1e-12)
    dense = random_dense(4, dt=True, stack=(3,), seed=1)
    S, R, _ = smith_factors(dense.A, dense.B, dense.C)
    for i in range(3):
        s, r, _ = smith_factors(dense.A[i], dense.B[i], dense.C[i])
        np.testing.assert_allclose(square(S[i]), square(s), atol=1e-12)
        np.testing.assert_allclose(square(R[i]), square(r), atol=1e-12)


@given(arrays((4, 3), True))
def test_inputs_are_not_changed(B):
    poles, before = np.array([0.5, 0.1j, -0.3, 0.2]), B.copy()
    poles.flags.writeable = B.flags.writeable = False
    cauchy_factor(poles, B, True)
    np.testing.assert_array_equal(B, before)


@pytest.mark.parametrize("discrete", [True, False])
@pytest.mark.parametrize("n", [33, 70])
def test_many_inputs_may_be_factored_from_the_entries(discrete, n):
    ring = random_ring(n, n, 1, seed=n)
    poles = ring.poles if discrete else ring.poles - 1.2
    S = _from_entries(ring.B, poles, gap(poles, discrete), discrete)
    twin = _eliminate(ring.B[None], poles[None], gap(poles, discrete)[None], discrete)[0]
    R = np.random.default_rng(0).standard_normal((n, n))
    values = (np.linalg.svd(R @ factor, compute_uv=False) for factor in (S, twin))
    np.testing.assert_allclose(*values, rtol=1e-13)
    same = cauchy_factor(poles, ring.B, discrete)  # that way was taken
    np.testing.assert_allclose(same, S, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("small", [1e-150, 1e-155, 1e-160, 1e-200, 1e-290])
@pytest.mark.parametrize("n", [2, 8, 40])
def test_the_unit_of_a_state_does_not_matter(n, small):
    ring = random_ring(n, n, n, seed=n)
    units = np.where(np.arange(n) < n - 1, 1.0, small)
    B, C = units[:, None] * ring.B, ring.C / units
    S = cauchy_factor(ring.poles, B, True) / units[:, None]
    np.testing.assert_allclose(square(S), square(cauchy_factor(ring.poles, ring.B, True)),
                               rtol=1e-10, atol=1e-13)  # fmt: skip
    other = lti.DiagonalStateSpace(ring.poles, B, C, None, True)
    np.testing.assert_allclose(
        lti.hankel_singular_values(other), lti.hankel_singular_values(ring), rtol=1e-11
    )


@pytest.mark.parametrize("inputs", [1, 4, 40])
def test_poles_close_together_are_not_factored_from_the_entries(inputs):
    poles, B = -1 - np.arange(40) * 1e-9, np.ones((40, inputs))
    own = gap(poles, False)
    assert _from_entries(B, poles, own, False) is None
    S = cauchy_factor(poles, B, False)
    np.testing.assert_allclose(square(S), square(B) / -(poles[:, None] + poles), rtol=1e-13)


@pytest.mark.parametrize("discrete", [True, False])
@pytest.mark.parametrize("inputs", [1, 3, 20])
def test_torch_does_the_same_on_a_device(discrete, inputs):
    # What runs on an accelerator in place of NumPy, here on the CPU
    rings = [random_ring(34, inputs, 1, seed=k) for k in range(2)]
    poles, B = np.stack([x.poles for x in rings]), np.stack([x.B for x in rings])
    poles = poles if discrete else poles - 1.2
    args = B, poles, gap(poles, discrete)
    tensors = map(torch.tensor, args)
    np.testing.assert_allclose(
        _eliminate(*tensors, discrete).numpy(), _eliminate(*args, discrete), rtol=1e-9, atol=1e-14
    )
    ours, theirs = _from_entries(*map(torch.tensor, args), discrete), _from_entries(*args, discrete)
    assert (ours is None) == (theirs is None) == (inputs < 20)
    if ours is not None:
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-9, atol=1e-13)
