"""Back to diagonal form: the response stays, pairs stay pairs, Jordan blocks are refused."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import lti
from lti import DiagonalStateSpace, StateSpace
from tests.lti.helpers import (
    boundary,
    dense_systems,
    random_dense,
    random_ring,
    response,
)


def assert_same_response(one, other, condition=1.0):
    s = boundary(one, 60)
    expected = response(one, s)
    tol = 1e-13 * condition * (1 + np.abs(expected).max())
    np.testing.assert_allclose(response(other, s), expected, atol=tol)


@given(st.integers(1, 6), st.integers(0, 999), st.booleans(), st.sampled_from([0, True, 0.1]))
def test_the_transfer_function_stays(n, seed, is_complex, dt):
    sys = random_dense(n, 2, 2, dt=dt, seed=seed, is_complex=is_complex)
    modal, condition = lti.diagonalize(sys)
    assert modal.dt == dt and not modal.conjugate and modal.order == n
    assert isinstance(condition, float) and condition >= 1
    np.testing.assert_array_equal(modal.D, sys.D)
    assert_same_response(sys, modal, condition**2)
    np.testing.assert_allclose(
        np.linalg.norm(modal.B, axis=1), np.linalg.norm(modal.C, axis=0), rtol=1e-12
    )


@given(st.integers(1, 6), st.integers(0, 999), st.sampled_from([0, True, 0.1]))
def test_a_real_system_stores_one_of_each_pair(n, seed, dt):
    sys = random_dense(n, 2, 3, dt=dt, seed=seed)
    modal, condition = lti.diagonalize(sys, conjugate=True)
    real = int((np.linalg.eigvals(sys.A).imag == 0).sum())
    assert modal.conjugate and modal.D.dtype == np.float64
    assert modal.poles.size == (n - real) // 2 + real  # a real pole takes a slot of its own
    assert (modal.poles.imag >= 0).all() and (modal.poles.imag == 0).sum() == real
    assert_same_response(sys, modal, condition**2)


@pytest.mark.parametrize("conjugate", [False, True])
def test_a_stack_is_diagonalized_member_by_member(library, conjugate):
    members = [random_dense(5, 2, 3, dt=True, seed=seed) for seed in range(4)]
    members[1] = StateSpace(members[1].A, *(0 * x for x in members[1].matrices[1:]), True)
    members[2] = StateSpace(np.diag(np.linspace(-0.9, 0.9, 5)), *members[2].matrices[1:], True)
    stack = StateSpace(
        *(np.stack(x) for x in zip(*(m.matrices for m in members), strict=True)), True
    )
    modal, condition = lti.diagonalize(library.system(stack), conjugate)
    poles, B, C, D = (np.asarray(x) for x in (modal.poles, modal.B, modal.C, modal.D))
    assert poles.shape == (4, 5) and np.asarray(condition).shape == (4,)
    for k, member in enumerate(members):
        alone, its_condition = lti.diagonalize(member, conjugate)
        np.testing.assert_allclose(np.asarray(condition)[k], its_condition, rtol=1e-6)
        n = alone.poles.size
        np.testing.assert_allclose(poles[k, :n], alone.poles, atol=1e-13)
        assert not B[k, n:].any() and not C[k, :, n:].any()
        one = DiagonalStateSpace(poles[k], B[k], C[k], D[k], True, conjugate)
        assert_same_response(member, one, its_condition**2)


@pytest.mark.parametrize("poles", [[-1.0, -2.0, -3.0], [-1.0]])
def test_real_poles_come_at_half_weight(poles):
    n = len(poles)
    sys = DiagonalStateSpace(np.array(poles), np.ones((n, 1)), np.ones((1, n)), dt=0).to_dense()
    modal, condition = lti.diagonalize(sys, conjugate=True)
    assert condition == 1 and modal.order == 2 * n
    weights = (modal.C[0] * modal.B[:, 0])[np.argsort(-modal.poles.real)]
    np.testing.assert_allclose(weights, 0.5, rtol=1e-14)
    assert_same_response(sys, modal)
    assert lti.balance(modal).minimal_order == n


def test_a_pair_and_a_real_pole():
    A = np.array([[0.5, 0.3, 0], [-0.3, 0.5, 0], [0, 0, 0.9]])
    sys = StateSpace(A, np.ones((3, 1)), [[1.0, 2, 3]], None, True)
    modal, condition = lti.diagonalize(sys, conjugate=True)
    np.testing.assert_allclose(np.sort_complex(modal.poles), [0.5 + 0.3j, 0.9], atol=1e-15)
    np.testing.assert_allclose(condition, 1, rtol=1e-12)
    assert_same_response(sys, modal)


@given(dense_systems(dt=True, is_complex=False, max_order=5))
def test_whatever_is_not_refused_is_right(sys):
    try:
        modal, condition = lti.diagonalize(sys, conjugate=True)
    except lti.DefectiveError:
        assert np.linalg.cond(np.linalg.eig(sys.A)[1]) > 1e15
        condition = np.inf
    assume(condition < 1e5)  # hypothesis fails where nearly all systems are refused
    assert_same_response(sys, modal, condition**2)


def test_a_reduced_ring_becomes_a_ring_again():
    ring = random_ring(12, 3, 3, seed=2, conjugate=True)
    reduction = lti.balanced_truncation(ring, 15)
    modal, condition = lti.diagonalize(reduction.system, conjugate=True)
    assert_same_response(reduction.system, modal, condition)
    assert (np.abs(modal.poles) < 1).all() and 8 <= modal.poles.size <= 15
    error = lti.hinf_norm(ring - modal)
    assert error <= reduction.error_bound * (1 + 1e-9)


@pytest.mark.parametrize("conjugate", [False, True])
def test_a_jordan_block_is_refused(conjugate):
    A = np.array([[0.5, 1.0, 0], [0, 0.5, 0], [0, 0, 0.1]])
    with pytest.raises(lti.DefectiveError) as caught:
        lti.diagonalize((A, np.ones((3, 1)), np.ones((1, 3)), None, True), conjugate)
    message = str(caught.value)
    assert "A of order 3 is not diagonalisable to working precision" in message
    assert "condition number" in message and "keep it dense, or choose another order" in message


def test_the_condition_is_that_of_the_eigenvectors():
    for gap in (1e-1, 1e-4):
        sys = StateSpace([[0.5, 1.0], [0, 0.5 + gap]], [[1.0], [1]], [[1.0, 1]], None, True)
        modal, condition = lti.diagonalize(sys)
        V = np.array([[1, 1], [0, gap]]) / np.array([1, np.hypot(1, gap)])
        np.testing.assert_allclose(condition, np.linalg.cond(V), rtol=1e-6)
        assert_same_response(sys, modal, condition**2)


def test_modes_without_input_or_output_are_no_trouble():
    A = np.diag([0.5, 0.25, -0.3])
    sys = StateSpace(A, [[1.0], [0], [1]], [[1.0, 1, 0]], [[2.0]], True)
    for conjugate in (False, True):
        modal, _ = lti.diagonalize(sys, conjugate)
        assert np.isfinite(modal.B).all() and np.isfinite(modal.C).all()
        assert_same_response(sys, modal)


@pytest.mark.parametrize("conjugate", [False, True])
@pytest.mark.parametrize(("n", "m", "p"), [(0, 2, 3), (2, 0, 1), (2, 1, 0)])
def test_no_states_inputs_or_outputs(library, conjugate, n, m, p):
    sys = StateSpace(-np.diag(np.arange(1.0, n + 1)), np.ones((n, m)), np.ones((p, n)),
                     np.ones((p, m)), 0.5 if n == 0 else 0)  # fmt: skip
    modal, condition = lti.diagonalize(library.system(sys), conjugate)
    assert condition == 1.0 and tuple(modal.poles.shape) == (n,) and modal.dt == sys.dt
    np.testing.assert_array_equal(np.asarray(modal.D), 1)
    assert library.owns(modal.poles, modal.B, modal.C, modal.D)


@pytest.mark.parametrize("conjugate", [False, True])
@pytest.mark.parametrize("single", [False, True])
def test_libraries_and_precision(library, conjugate, single):
    sys = random_dense(5, 2, 2, dt=True, seed=3)
    dtype = np.float32 if single else np.float64
    coarse = StateSpace(*(np.asarray(x, dtype) for x in (sys.A, sys.B, sys.C, sys.D)), True)
    modal, _ = lti.diagonalize(library.system(coarse), conjugate)
    arrays = [modal.poles, modal.B, modal.C]
    assert library.owns(*arrays, modal.D)
    expected = np.complex64 if single else np.complex128
    assert all(np.asarray(x).dtype == expected for x in arrays)
    host = DiagonalStateSpace(*map(np.asarray, arrays), np.asarray(modal.D), True, conjugate)
    s = boundary(sys, 40)
    tol = 1e-4 if single else 1e-12
    np.testing.assert_allclose(response(host, s), response(coarse, s), atol=tol)


def test_what_cannot_be_done():
    with pytest.raises(lti.DimensionError, match="only a real system has conjugate pairs"):
        lti.diagonalize(random_dense(2, is_complex=True), conjugate=True)
