"""Descriptor systems: the finite part responds as the pencil does, or the reason is given."""

import numpy as np
import pytest
import scipy.sparse as sparse
from scipy.io import loadmat

import lti
from lti.systems.descriptor import finite_part
from tests.lti.helpers import same_response
from tests.lti.sparse_systems import random_pencil

S = np.array([0.1, 1j, -3 + 2j, 40j])


def mixed(blocks, n=5, m=2, p=3, *, is_complex=False, seed=0):
    """E, A, B, C with n finite eigenvalues and nilpotent blocks of these sizes, in random bases."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        X = rng.standard_normal(shape)
        return X + 1j * rng.standard_normal(shape) if is_complex else X

    size = n + sum(blocks)
    E, A = np.zeros((size, size)), np.eye(size)
    E[:n, :n] = np.eye(n)
    A = A.astype(complex) if is_complex else A
    A[:n, :n] = normal(n, n) - 4 * np.eye(n)
    B, C, at = normal(size, m), normal(p, size), n
    for k in blocks:
        E[at : at + k, at : at + k] = np.eye(k, k=1)
        B[at + 1 : at + k] = 0.0  # proper: inputs enter at the first state of a chain only
        at += k
    L, R = normal(size, size), normal(size, size)
    return L @ E @ R, L @ A @ R, L @ B, C @ R


def pencil_response(E, A, B, C, s):
    return C @ np.linalg.solve(s * E - A, B)


@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize(
    ("blocks", "index"), [((), 0), ((1,), 1), ((1, 1, 1), 1), ((2,), 2), ((3, 1), 3), ((2, 2), 2)]
)
def test_responds_as_the_pencil(blocks, index, is_complex):
    E, A, B, C = mixed(blocks, is_complex=is_complex)
    D = np.ones((3, 2))
    found = finite_part(A, E, B, C, D)
    assert found.index == index and len(found.A) == 5 and found.condition >= 1
    sys = lti.StateSpace.from_descriptor(E, A, B, C, D, 0.1)
    assert sys.order == 5 and sys.dt == 0.1
    for s in S:
        expected = pencil_response(E, A, B, C, s) + D
        found = sys.C @ np.linalg.solve(s * np.eye(5) - sys.A, sys.B) + sys.D
        np.testing.assert_allclose(found, expected, atol=1e-9 * np.abs(expected).max())


def test_only_algebraic_equations():
    sys = lti.StateSpace.from_descriptor(np.zeros((2, 2)), -2 * np.eye(2), np.eye(2), np.eye(2))
    assert sys.order == 0
    np.testing.assert_allclose(sys.D, np.eye(2) / 2)


def test_an_improper_system_is_refused():
    """y = u' as the second state of a chain."""
    E, A = np.array([[0.0, 1.0], [0.0, 0.0]]), np.eye(2)
    with pytest.raises(lti.OptionError, match=r"improper: it grows as s\^1.*index 2"):
        lti.StateSpace.from_descriptor(E, A, [[0.0], [1.0]], [[1.0, 0.0]])
    # Seen by no output, it does no harm
    assert lti.StateSpace.from_descriptor(E, A, [[0.0], [1.0]], [[0.0, 1.0]]).order == 0


def test_the_coefficient_of_an_improper_system_is_that_of_the_user():
    E = np.array([[0.0, 1e6], [0.0, 0.0]])  # x_2 = -u, x_1 = -1e6 u' - u
    with pytest.raises(lti.OptionError, match=r"as s\^1, with a coefficient of size 1e\+06"):
        lti.StateSpace.from_descriptor(E, np.eye(2), np.ones((2, 1)), np.ones((1, 2)))


def test_a_singular_pencil_is_refused():
    E, A, B, C = mixed((1,))
    A, E = A.copy(), E.copy()
    A[:, 0], E[:, 0] = A[:, 1], E[:, 1]
    with pytest.raises(lti.OptionError, match="pencil s E - A is singular"):
        lti.StateSpace.from_descriptor(E, A, B, C)


def test_other_input_is_refused():
    E, A, B, C = mixed(())
    with pytest.raises(lti.DimensionError, match="E and A must be square"):
        lti.StateSpace.from_descriptor(E[:3], A, B, C)
    with pytest.raises(lti.NonFiniteError, match="E has"):
        lti.StateSpace.from_descriptor(E * np.nan, A, B, C)


def test_lost_digits_are_warned_of():
    A, turn = np.array([[-1.0, 1.0], [1.0, -1.0001]]), np.array([[0.8, -0.6], [0.6, 0.8]])
    with pytest.warns(lti.ReductionWarning, match="digits"):
        E = turn @ np.diag([1.0, 1e-10]) @ turn.T
        lti.StateSpace.from_descriptor(E, A, np.ones((2, 1)), np.ones((1, 2)))


@pytest.mark.parametrize("e", [1e-6, 1e2, 1e6])
@pytest.mark.parametrize("algebraic", [False, True])
def test_slow_and_fast_poles_are_all_finite(e, algebraic):
    E, A = np.diag([e, 1 / e, 1.0, 0.0]), -np.eye(4)
    A[:2, 2] = A[3, 2] = 0.5
    n = 4 if algebraic else 3
    units = np.diag([1e5, 1.0, 1e-7, 1e3])  # of the equations and, inverted, of the states
    E, A = (units @ X @ np.linalg.inv(units)[:, ::-1] for X in (E, A))
    E, A = E[:n, -n:], A[:n, -n:]
    B, C = np.ones((n, 1)), np.ones((1, n))
    sys = lti.StateSpace.from_descriptor(E, A, B, C)
    assert sys.order == 3
    w = np.array([0.0, 0.3 / e, 0.3, 0.3 * e])
    exact = [C @ np.linalg.solve(1j * x * E - A, B) for x in w]
    np.testing.assert_allclose(lti.frequency_response(sys, w), exact, rtol=1e-9)


@pytest.mark.parametrize("e", [1e8, 1e20])
def test_poles_beyond_the_digits_of_the_others_are_warned_of(e):
    with pytest.warns(lti.ReductionWarning, match="beyond the digits of the others"):
        lti.StateSpace.from_descriptor(
            np.diag([e, 1 / e, 1.0]), -np.eye(3), np.ones((3, 1)), np.ones((1, 3))
        )


def test_rounding_in_place_of_a_zero_is_no_pole():
    E, A = np.diag([1.0, 0.1 + 0.2 - 0.3]), np.array([[-1.0, 0.5], [0.3, -1.0]])
    with pytest.warns(lti.ReductionWarning, match="set them to zero"):
        sys = lti.StateSpace.from_descriptor(E, A, np.ones((2, 1)), np.ones((1, 2)))
    np.testing.assert_allclose(sys.poles, [-0.85])


@pytest.mark.parametrize("size, rate", [(1e300, 1.0), (1e-200, 1e100), (1.0, 1e-300)])
def test_entries_of_any_size(size, rate):
    sys = lti.StateSpace.from_descriptor(
        size * np.diag([1.0, 2.0, 0.0]), -rate * np.eye(3), np.ones((3, 1)), np.ones((1, 3))
    )
    np.testing.assert_allclose(np.sort(sys.poles) / (rate / size), [-1.0, -0.5])


def semi_explicit(n=30, k=8, seed=0):
    """A sparse system of which k equations in the middle are algebraic."""
    rng = np.random.default_rng(seed)
    sys = random_pencil(n, E="spd", seed=seed)
    size, at = n + k, rng.permutation(n + k)
    A = sparse.block_diag([sys.A, -2 * sparse.eye(k)]) + sparse.block_array(
        [[None, 0.3 * sparse.random(n, k, 0.2, random_state=rng)],
         [0.3 * sparse.random(k, n, 0.2, random_state=rng), None]])  # fmt: skip
    E = sparse.block_diag([sys.E, sparse.csc_array((k, k))])
    B, C = rng.standard_normal((size, 2)), rng.standard_normal((3, size))
    A, E = (sparse.csc_array(x)[at][:, at[::-1]] for x in (A, E))
    return A, B, C, np.ones((3, 2)), E


def test_sparse_systems_of_index_one():
    A, B, C, D, E = semi_explicit()
    sys = lti.SparseStateSpace(A, B, C, D, E)
    dense = lti.StateSpace.from_descriptor(E.toarray(), A.toarray(), B, C, D)
    w = np.array([0.0, 0.3, 5.0])
    expected = lti.frequency_response(dense, w)
    np.testing.assert_allclose(lti.frequency_response(sys, w), expected, atol=1e-10)
    np.testing.assert_allclose(lti.frequency_response(sys.finite_part, w), expected, atol=1e-10)
    found, exact = lti.hankel_singular_values(sys), lti.hankel_singular_values(dense)
    assert np.abs(found - exact[: len(found)]).max() < 1e-9 * exact[0]
    reduction = lti.balanced_truncation(sys, order=6)
    assert reduction.original.order == 30
    same_response(reduction.system, lti.balanced_truncation(dense, order=6).system, 1e-8)
    assert reduction.lower_bound <= reduction.verify() <= reduction.error_bound


@pytest.mark.parametrize(("a", "e"), [(1.0, -2.0), (1.0, -1 + 3j), (0.0, 1.0), (-1.0, 0.0)])
def test_the_operations_of_index_one_fit(a, e):
    A, B, C, D, E = semi_explicit()
    pencil = lti.SparseStateSpace(A, B, C, D, E).finite_part.pencil
    full = a * pencil.product(1.0, 0.0, np.eye(30)) + e * pencil.product(0.0, 1.0, np.eye(30))
    X = np.random.default_rng(1).standard_normal((30, 2))
    np.testing.assert_allclose(pencil.product(a, e, X), full @ X, atol=1e-10)
    np.testing.assert_allclose(pencil.adjoint_product(a, e, X), full.conj().T @ X, atol=1e-10)
    inverse = pencil.factor(a, e)
    np.testing.assert_allclose(full @ inverse.solve(X), X, atol=1e-9)
    np.testing.assert_allclose(full.conj().T @ inverse.adjoint(X), X, atol=1e-9)


def test_sparse_systems_of_a_higher_index_are_refused():
    A, B, C, D, E = semi_explicit()
    zero = np.flatnonzero(E.toarray().any(axis=1) == 0)
    A = A.tolil()
    A[zero[0]] = 0.0
    A[zero[0], np.flatnonzero(E.toarray().any(axis=0))[0]] = 1.0  # a constraint on a state
    with pytest.raises(lti.OptionError, match="index above 1"):
        lti.balance(lti.SparseStateSpace(A, B, C, D, E))
    E = E.tolil()
    E[zero[0], np.flatnonzero(E.toarray().any(axis=0))[0]] = 1.0
    with pytest.raises(lti.OptionError, match="7 zero rows and"):
        lti.balance(lti.SparseStateSpace(A, B, C, D, E))


@pytest.mark.slow
def test_a_constrained_chain_of_masses(data_file):
    """Index 3: a constraint takes a position, a velocity and its multiplier."""
    m = loadmat(data_file("sparse/msd_600_index3.mat"))
    E, A, B, C = (m[name].toarray() for name in "EABC")
    keep = 1201
    found = finite_part(A, E, B, C, np.zeros((3, 1)))
    assert found.index == 3 and len(found.A) == keep - 3
    for s in (0.01j, 1j):
        got = found.C @ np.linalg.solve(s * np.eye(keep - 3) - found.A, found.B) + found.D
        expected = pencil_response(E, A, B, C, s)
        np.testing.assert_allclose(got, expected, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("seed", [39, 59, 64, 101, 125, 137, 138, 162])
@pytest.mark.parametrize("decades", [0, 3, 6])
def test_index_2_in_any_units_of_states_and_equations(decades, seed):
    rng, n = np.random.default_rng(seed), 4
    poles, E, A = -(10.0 ** rng.uniform(-1, 1, 2)), np.diag([1.0, 1, 0, 0]), np.eye(n)
    E[2, 3], A[:2, :2] = 1.0, np.diag(poles)
    L, R = (np.linalg.qr(rng.standard_normal((n, n)))[0] for _ in "LR")
    b, c = rng.standard_normal((n, 1)), rng.standard_normal((1, n))
    b[3] = 0.0  # so that nothing is differentiated
    w = np.array([0.01, 1.0, 100.0])
    expected = [(c[0, :2] / (1j * x - poles) @ b[:2] - c[0, 2:] @ b[2:]).item() for x in w]
    rows, columns = 10.0 ** rng.uniform(-decades, decades, (2, n))
    E, A = (rows[:, None] * (L @ X @ R) * columns for X in (E, A))
    sys = lti.StateSpace.from_descriptor(E, A, rows[:, None] * (L @ b), (c @ R) * columns)
    assert sys.order == 2
    np.testing.assert_allclose(lti.frequency_response(sys, w)[:, 0, 0], expected, rtol=1e-7)
