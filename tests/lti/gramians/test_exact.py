"""Gramians against their equations, their definition and published values."""

import numpy as np
import pytest
from hypothesis import given

import lti
from lti import DiagonalStateSpace, StateSpace
from lti.gramians import lyapunov
from tests.lti.helpers import diagonal_systems, impulse, random_dense, random_ring, systems


def residuals(sys, P, Q):
    """What is left of the two Lyapunov equations."""
    A, B, C = (np.asarray(x) for x in (sys.A, sys.to_dense().B, sys.to_dense().C))
    AH, BB, CC = A.conj().T, B @ B.conj().T, C.conj().T @ C
    if sys.is_discrete:
        return A @ P @ AH - P + BB, AH @ Q @ A - Q + CC
    return A @ P + P @ AH + BB, AH @ Q + Q @ A + CC


@given(systems())
def test_lyapunov_equations(sys):
    P, Q = lti.controllability_gramian(sys), lti.observability_gramian(sys)
    size = (1 + np.linalg.norm(sys.A)) ** 2
    for residual, gramian in zip(residuals(sys, P, Q), (P, Q), strict=True):
        assert np.linalg.norm(residual) <= 1e-13 * size * np.linalg.norm(gramian)


@given(systems())
def test_factors_square_to_the_gramians(sys):
    S, R = lti.gramian_factors(sys)
    P, Q = lti.controllability_gramian(sys), lti.observability_gramian(sys)
    np.testing.assert_array_equal(S @ S.conj().T, P)
    np.testing.assert_array_equal(R @ R.conj().T, Q)
    assert S.shape[0] == R.shape[0] == sys.order
    assert max(S.shape[1], R.shape[1]) <= sys.order
    for X in (P, Q):
        np.testing.assert_allclose(X, X.conj().T, atol=1e-15 * np.abs(X).max())
        assert np.linalg.eigvalsh(X).min() >= -1e-14 * np.linalg.norm(X, 2)


@given(diagonal_systems(conjugate=True))
def test_a_conjugate_system_has_the_gramians_of_its_real_form(sys):
    S, R = lti.gramian_factors(sys)
    assert S.dtype == R.dtype == np.float64
    dense = sys.to_dense()
    for ours, theirs in (
        (S @ S.T, lti.controllability_gramian(dense)),
        (R @ R.T, lti.observability_gramian(dense)),
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-12 * np.abs(theirs).max())


@given(systems(dt=True, max_order=4))
def test_the_gramian_is_the_sum_over_the_impulse_response_of_the_state(sys):
    dense = sys.to_dense()
    states = impulse(StateSpace(dense.A, dense.B, np.eye(sys.order), None, True), 300)[1:]
    P = np.einsum("kij,klj->il", states, states.conj())
    ours = lti.controllability_gramian(sys)
    np.testing.assert_allclose(ours, P, atol=1e-10 * (1 + np.abs(P).max()))


def test_published_gramians():
    # From python-control's tests, with values of MATLAB
    A, B, C = [[1.0, -2], [3, -4]], [[5.0, 6], [7, 8]], [[4.0, 5], [6, 7]]
    P = [[18.5, 24.5], [24.5, 32.5]]
    np.testing.assert_allclose(lti.controllability_gramian((A, B, C)), P, rtol=1e-12)
    Q = [[257.5, -94.5], [-94.5, 56.5]]
    np.testing.assert_allclose(lti.observability_gramian((A, B, C)), Q, rtol=1e-12)


@pytest.mark.parametrize("gap", [1e-6, 1e-10])
@pytest.mark.parametrize("n", [12, 64])
def test_a_pole_near_minus_one_leaves_the_gramian_positive(n, gap):
    rng = np.random.default_rng(n)
    U = np.linalg.qr(rng.standard_normal((n, n)))[0]
    poles = np.concatenate([[-1 + gap], rng.uniform(-0.9, 0.9, n - 1)])
    sys = (U * poles @ U.T, rng.standard_normal((n, 1)), rng.standard_normal((1, n)), None, True)
    P = lti.controllability_gramian(sys)
    assert np.linalg.eigvalsh(P).min() >= -1e-15 * np.linalg.norm(P, 2)


@pytest.mark.parametrize("m", [1, 3, 7])
def test_more_inputs_and_outputs_than_states(m):
    sys = random_dense(3, m, m + 1, seed=m)
    S, R = lti.gramian_factors(sys)
    assert max(S.shape[1], R.shape[1]) <= 3
    for residual in residuals(sys, S @ S.T, R @ R.T):
        assert np.linalg.norm(residual) < 1e-12


@pytest.mark.parametrize("dt", [0, True])
@pytest.mark.parametrize("stack", [(), (3,), (2, 3)])
@pytest.mark.parametrize("is_complex", [False, True])
def test_a_stack_is_a_loop_in_every_library(library, is_complex, stack, dt):
    sys = random_dense(4, dt=dt, stack=stack, is_complex=is_complex, seed=3)
    P = lti.controllability_gramian(library.system(sys))
    Q = lti.observability_gramian(library.system(sys))
    assert library.owns(P, Q, *lti.gramian_factors(library.system(sys)))
    assert np.asarray(P).dtype == sys.A.dtype
    for i in np.ndindex(stack):
        one = StateSpace(sys.A[i], sys.B[i], sys.C[i], None, dt)
        for X, gramian in ((P, lti.controllability_gramian), (Q, lti.observability_gramian)):
            exact = gramian(one)
            np.testing.assert_allclose(
                np.asarray(X)[i], exact, atol=1e-13 * np.linalg.norm(exact, 2)
            )


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
@pytest.mark.parametrize("diagonal", [False, True])
def test_dtypes(library, dtype, diagonal):
    rng = np.random.default_rng(0)
    A = np.array([0.5, -0.3, 0.1]) if diagonal else 0.3 * np.eye(3)
    build = DiagonalStateSpace if diagonal else StateSpace
    matrices = [A, rng.standard_normal((3, 2)), rng.standard_normal((1, 3))]
    sys = build(*(library(np.asarray(x, dtype)) for x in matrices), dt=True)
    results = [*lti.gramian_factors(sys), lti.controllability_gramian(sys)]
    assert all(np.asarray(x).dtype == dtype for x in results)


def test_one_unstable_system_of_a_stack_is_named():
    sys = random_dense(3, dt=True, stack=(2, 2), seed=1)
    A = sys.A.copy()
    A[1, 0] = np.diag([0.1, -1.25, 0.3])
    with pytest.raises(lti.UnstableError) as caught:
        lti.gramian_factors((A, sys.B, sys.C, None, True))
    assert "1 of 12 poles are unstable: the worst of system [1, 0] of the batch, -1.25+0j" in str(
        caught.value
    )
    assert "outside the open unit disc (by 0.25)" in str(caught.value)


def test_inputs_are_read_only_and_stay_as_they_were():
    sys = random_dense(4, seed=2)
    ring = random_ring(4, seed=2)
    for one in (sys, ring):
        arrays = [getattr(one, k) for k in ("B", "C", "D")]
        for x in arrays:
            x.flags.writeable = False
        before = [x.copy() for x in arrays]
        lti.gramian_factors(one)
        for x, y in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("scale", [1e-160, 1e-151, 1.0, 1e155, 1e160])
def test_the_units_of_inputs_do_not_matter(scale, dense):
    B, C = np.array([[1.0, 2], [3, 1], [1, 1]]), np.array([[1.0, 1, 2]])
    sys, scaled = (
        lti.DiagonalStateSpace(np.array([0.5, 0.6, -0.3]), B * s, C / s) for s in (1.0, scale)
    )
    if dense:
        sys, scaled = sys.to_dense(), scaled.to_dense()
    hsv = lti.hankel_singular_values(sys)
    np.testing.assert_allclose(lti.hankel_singular_values(scaled), hsv, rtol=1e-12)


def test_the_units_of_states_do_not_matter():
    A = np.array([[0, 0, 0], [1e-17, 0, 0], [0, 1e17, 0]])  # two steps of delay
    sys = lti.StateSpace(A, np.eye(3, 1), np.eye(1, 3, k=2), dt=True)
    np.testing.assert_allclose(lti.hankel_singular_values(sys), np.ones(3), rtol=1e-12)


def sampled(n=80, count=3, seed=0):
    """A batch of large systems, one at several sampling times."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n, n)) / n**0.5 - 1.5 * np.eye(n)
    half = np.array([0.05, 0.2, 0.5])[:count, None, None]
    A = np.linalg.solve(np.eye(n) - half * A, np.eye(n) + half * A)
    return StateSpace(
        A, rng.standard_normal((count, n, 2)), rng.standard_normal((count, 1, n)), dt=True
    )


def test_an_unstable_system_of_a_large_batch_is_named():
    sys = sampled()
    A = sys.A.copy()
    A[1] *= 1.01 / abs(np.linalg.eigvals(A[1])).max()
    unstable = StateSpace(A, sys.B, sys.C, dt=True)
    for call in (lti.gramian_factors, lambda x: lti.balance(x, controllability=np.eye(80))):
        with pytest.raises(lti.UnstableError, match=r"system \[1\] of the batch"):
            call(unstable)


def test_a_factor_without_a_name_is_the_exact_one():
    sys = sampled(n=8)
    S, R = np.eye(8), lti.gramian_factors(sys)[1]
    one = lti.balance(sys, controllability=S)
    other = lti.balance(sys, controllability=S, observability=lti.GramianFactor(R, name=""))
    assert np.allclose(one.hsv, other.hsv, rtol=1e-12)
    assert one.truncate(3).method == other.truncate(3).method


@pytest.mark.parametrize(("pole", "soon"), [(0.5, True), (0.97, True), (0.9999, False)])
def test_doubling_that_will_not_converge_is_seen_early(pole, soon, monkeypatch):
    joins = []
    monkeypatch.setattr(lyapunov, "_joined", lambda S, *_: joins.append(1) or S)
    found = lyapunov.smith_factors(
        np.diag([0.3, pole])[None], np.ones((1, 2, 1)), np.ones((1, 1, 2)), 12
    )
    assert (found is not None) == soon
    assert soon or len(joins) == 2 * lyapunov.PROBE


@pytest.mark.parametrize("conjugate", [False, True])
def test_one_exact_gramian_of_a_diagonal_system_is_computed_alone(conjugate):
    rng = np.random.default_rng(0)
    poles = 0.9 * np.exp(1j * rng.uniform(0, 3, (2, 5)))
    B, C = rng.standard_normal((2, 5, 1)) + 0j, rng.standard_normal((2, 1, 5)) + 0j
    sys = DiagonalStateSpace(poles, B, C, None, True, conjugate)
    S, R = lti.gramian_factors(sys)
    identity = np.eye(sys.order)
    values = lti.balance(sys, controllability=identity).hsv
    assert np.allclose(values, np.linalg.svd(R)[1], rtol=1e-12, atol=0)
    values = lti.balance(sys, observability=identity).hsv
    assert np.allclose(values, np.linalg.svd(S)[1], rtol=1e-12, atol=0)
