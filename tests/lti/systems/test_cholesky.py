"""Cholesky decompositions by scikit-sparse, or by a dense stand-in: the same results as by LU."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sparse

import lti
from lti.systems import cholesky
from lti.systems.cholesky import definite_solver
from lti.systems.pencil import sparse_factor
from tests.lti.sparse_systems import rod

SPD = sparse.csc_array(sparse.diags([-1.0, 2.5, -1.0], [-1, 0, 1], shape=(30, 30)))


def cho_factor(M, lower, order):
    """As that of scikit-sparse 0.5, of a dense matrix."""
    L = np.linalg.cholesky(M.toarray())

    def solve(X):
        assert X.dtype == float
        return np.linalg.solve(L.T, np.linalg.solve(L, X))

    return SimpleNamespace(solve=solve, rcond=1 / np.linalg.cond(M.toarray()))


STAND_IN = SimpleNamespace(
    cho_factor=cho_factor, CholmodNotPositiveDefiniteError=np.linalg.LinAlgError
)


@pytest.fixture(autouse=True, params=["stand-in", "scikit-sparse"])
def cholmod(request, monkeypatch):
    if request.param == "stand-in":
        monkeypatch.setattr(cholesky, "_cholmod", lambda: STAND_IN)
    elif cholesky._cholmod() is None:
        pytest.skip("needs scikit-sparse, the extra `cholesky`")


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("dtype", [float, complex])
def test_solutions_with_definite_matrices(sign, dtype):
    X = (np.random.default_rng(0).standard_normal((30, 4)) * (1 if dtype is float else 1j))[:, :3]
    X.setflags(write=False)
    solve = definite_solver(sign * SPD)
    assert solve is not None and solve(X).dtype == dtype
    np.testing.assert_allclose(sign * SPD @ solve(X), X, atol=1e-13)
    for found in (sparse_factor(sign * SPD).solve(X), sparse_factor(sign * SPD).adjoint(X)):
        np.testing.assert_allclose(found, solve(X), atol=1e-14)


@pytest.mark.parametrize("M", [
    SPD + sparse.diags([0.1], [1], shape=(30, 30)), SPD * (1 + 0j), SPD - 2 * sparse.eye(30),
    SPD - 4 * sparse.eye(30) + sparse.diags(np.where(np.arange(30) == 3, 5.0, 0.0)),
    sparse.block_diag([SPD, np.ones((2, 2))]),
    sparse.block_diag([SPD, [[1.0, 1.0], [1.0, 1.0 + 1e-15]]]),
    sparse.csc_array((3, 3)), sparse.csc_array((0, 0)),
], ids=["nonsymmetric", "complex", "indefinite", "signs", "singular", "nearly", "zero",
    "empty"])  # fmt: skip
def test_others_are_left_to_LU(M):
    assert definite_solver(sparse.csc_array(M)) is None


def test_values_are_the_same(monkeypatch):
    sys = rod(210, m=2, p=2)
    one = lti.balanced_truncation(sys, tol=1e-6)
    monkeypatch.setattr(cholesky, "_cholmod", lambda: None)
    assert definite_solver(sys.E) is None
    two = lti.balanced_truncation(rod(210, m=2, p=2), tol=1e-6)
    np.testing.assert_allclose(one.hsv, two.hsv, atol=1e-12 * two.hsv[0])
    assert one.order == two.order
