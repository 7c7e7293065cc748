"""Second-order systems are their linearisation, and solve with k x k matrices only."""

import numpy as np
import pytest
import scipy.sparse as sparse

import lti
from lti.systems import second_order
from lti.systems.second_order import SecondOrderPencil

POINTS = [(1.0, -2.0), (1.0, -0.1 + 3j), (0.0, 1.0), (1.0, 0.0), (-1.0, 0.3j), (0.5, 4.0)]


def gyroscope(k=12, *, is_complex=False, seed=0):
    """M, D with a skew part, K, of masses in a chain."""
    rng = np.random.default_rng(seed)
    M = sparse.diags(rng.uniform(0.5, 2, k))
    K = sparse.diags([-1.0, 2.5, -1.0], [-1, 0, 1], shape=(k, k)) * 4
    G = sparse.random(k, k, 0.2, random_state=rng)
    D = 0.3 * sparse.eye(k) + 0.1 * K + (G - G.T)
    if is_complex:
        D = D + 1j * sparse.diags(rng.uniform(0, 1, k))
    B, C, V = (rng.standard_normal(shape) for shape in ((k, 2), (3, k), (3, k)))
    return M, D, K, B, C, V


def linearised(M, D, K, B, C, V):
    k = M.shape[0]
    M, D, K = (x.toarray() for x in (M, D, K))
    A = np.block([[np.zeros((k, k)), np.eye(k)], [-np.linalg.solve(M, K), -np.linalg.solve(M, D)]])
    return lti.StateSpace(
        A, np.vstack([np.zeros_like(B), np.linalg.solve(M, B)]), np.hstack([C, V])
    )


@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize(("a", "e"), POINTS)
def test_the_four_operations_fit(a, e, is_complex):
    M, D, K, *_ = gyroscope(is_complex=is_complex)
    k, pencil = M.shape[0], SecondOrderPencil(M, D, K)
    zero, one = np.zeros((k, k)), np.eye(k)
    A = np.block([[zero, one], [-K.toarray(), -D.toarray()]])
    full = a * A + e * np.block([[one, zero], [zero, M.toarray()]])
    X = np.random.default_rng(1).standard_normal((2 * k, 2))
    for Y in (X, X + 1j * X[::-1]):
        np.testing.assert_allclose(pencil.product(a, e, Y), full @ Y, atol=1e-11)
        np.testing.assert_allclose(pencil.adjoint_product(a, e, Y), full.conj().T @ Y, atol=1e-11)
        inverse = pencil.factor(a, e)
        np.testing.assert_allclose(full @ inverse.solve(Y), Y, atol=1e-10)
        np.testing.assert_allclose(full.conj().T @ inverse.adjoint(Y), Y, atol=1e-10)


@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
def test_is_its_linearisation(is_complex):
    parts = gyroscope(is_complex=is_complex)
    sys, dense = lti.second_order(*parts), linearised(*parts)
    w = np.array([0.0, 0.5, 3.0, 50.0])
    expected = lti.frequency_response(dense, w)
    np.testing.assert_allclose(lti.frequency_response(sys, w), expected, atol=1e-11)
    found, exact = lti.hankel_singular_values(sys), lti.hankel_singular_values(dense)
    assert np.abs(found - exact[: len(found)]).max() < 1e-9 * exact[0]
    reduction = lti.balanced_truncation(sys, order=8)
    assert reduction.lower_bound <= reduction.verify() <= reduction.error_bound
    np.testing.assert_allclose(reduction.error_bound, lti.error_bound(exact, 8), rtol=1e-6)


def test_solves_have_half_the_size(monkeypatch):
    sizes, factor = [], second_order.__globals__["sparse_factor"]
    monkeypatch.setitem(
        second_order.__globals__, "sparse_factor",
        lambda M, *rest: sizes.append(M.shape[0]) or factor(M, *rest),
    )  # fmt: skip
    lti.balance(lti.second_order(*gyroscope(12)))
    assert set(sizes) == {12}


def test_velocity_or_position_alone():
    M, D, K, B, C, V = gyroscope()
    both = lti.second_order(M, D, K, B, C, V)
    w = [0.7]
    parts = [lti.second_order(M, D, K, B, C), lti.second_order(M, D, K, B, C_velocity=V)]
    total = sum(lti.frequency_response(x, w) for x in parts)
    np.testing.assert_allclose(total, lti.frequency_response(both, w), atol=1e-12)


M, D, K, B, C, V = gyroscope(4)
WRONG = [
    ((M, D, K, B), lti.DimensionError, "no output"),
    ((M, D[:3], K, B, C), lti.DimensionError, "M, D and K must be square"),
    ((M, D, K, B[:3], C), lti.DimensionError, "B has shape"),
    ((M, D, K, B, C[:, :3]), lti.DimensionError, "C_position has shape"),
    ((M, D, K, B, C, V[:2]), lti.DimensionError, "one row for each output"),
    ((M, D * np.nan, K, B, C), lti.NonFiniteError, "D has"),
]


@pytest.mark.parametrize(("matrices", "error", "message"), WRONG)
def test_refuses_what_is_no_system(matrices, error, message):
    with pytest.raises(error, match=message):
        lti.second_order(*matrices)
