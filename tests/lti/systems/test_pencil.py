"""Products and solutions with a A + e E, against dense matrices."""

import numpy as np
import pytest
import scipy.sparse as sparse

import lti
from lti.systems.pencil import MatrixPencil, cayley, nonsingular_factor, sparse_factor
from tests.lti.sparse_systems import random_pencil

POINTS = [(1.0, -2.0), (1.0, -2.0 + 3j), (0.0, 1.0), (-1.0, 0.0), (2.0, 0.5j)]


def dense_of(pencil, a, e):
    return pencil.product(a, e, np.eye(pencil.order))


@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("E", [None, "any"])
@pytest.mark.parametrize("transform", [False, True], ids=["itself", "cayley"])
@pytest.mark.parametrize(("a", "e"), POINTS)
def test_the_four_operations_fit(a, e, transform, E, is_complex):
    sys = random_pencil(12, E=E, is_complex=is_complex)
    A = sys.A.toarray()
    M = np.eye(12) if E is None else sys.E.toarray()
    pencil = MatrixPencil(sys.A, sys.E)
    if transform:
        A, M, pencil = A - M, A + M, cayley(pencil)
    full = a * A + e * M
    X = np.random.default_rng(1).standard_normal((12, 2))
    for Y in (X, X + 1j * X[::-1]):
        found = pencil.product(a, e, Y), pencil.adjoint_product(a, e, Y)
        np.testing.assert_allclose(found[0], full @ Y, atol=1e-12 * np.abs(full).sum())
        np.testing.assert_allclose(found[1], full.conj().T @ Y, atol=1e-12 * np.abs(full).sum())
        inverse = pencil.factor(a, e)
        np.testing.assert_allclose(full @ inverse.solve(Y), Y, atol=1e-10)
        np.testing.assert_allclose(full.conj().T @ inverse.adjoint(Y), Y, atol=1e-10)


def test_a_singular_matrix_is_refused():
    with pytest.raises(lti.OptionError, match="M is singular"):
        sparse_factor(np.diag([1.0, 0.0]), "M")


@pytest.mark.parametrize("size", [1e15, 1e-15, 1e200])
def test_no_unit_makes_a_nonsingular_E_singular(size):
    units = np.where(np.arange(5) % 2, size, 1.0)
    for E in (size * np.eye(5), np.diag(units)):
        nonsingular_factor(sparse.csc_matrix(E), "E", "")
    with pytest.raises(lti.OptionError, match="E is singular"):
        nonsingular_factor(sparse.csc_matrix(size * np.ones((2, 2))), "E", "")
