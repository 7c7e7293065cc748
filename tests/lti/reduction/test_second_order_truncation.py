"""Second-order balanced truncation: the dense formulas, and what of the structure stays."""

import numpy as np
import pytest
import scipy.sparse as sparse

import lti
from tests.lti.helpers import same_response
from tests.lti.sparse_systems import free_rod, rod

KINDS = ["position", "velocity", "symmetric"]


def beam(k=40, *, symmetric=True, velocity=False, m=2, seed=0):
    """Masses in a chain; damped, held by springs, and where not symmetric, with gyroscopic forces.

    Also the matrices M, D, K, B, C_position, C_velocity.
    """
    rng = np.random.default_rng(seed)
    M = sparse.diags(rng.uniform(0.5, 2, k))
    K = -free_rod(k, -0.2)
    D = 0.3 * K + 0.5 * sparse.eye(k)
    if not symmetric:
        G = sparse.diags([np.full(k - 1, 0.3), np.full(k - 1, -0.3)], [1, -1])
        M, D = M + 0.1 * sparse.random(k, k, 0.05, random_state=rng), D + G
    B = rng.standard_normal((k, m))
    C = [rng.standard_normal((3, k)), rng.standard_normal((3, k))]
    if velocity:
        C = [np.zeros((m, k)), B.T]
    return lti.second_order(M, D, K, B, *C), (M, D, K, B, *C)


def dense_gramians(sys):
    """P, Q of ``A P E^H + E P A^H + B B^H = 0`` and its dual by the dense route."""
    dense, E = sys.small_dense(), sys.pencil.product(0.0, 1.0, np.eye(sys.order))
    P, Q = lti.controllability_gramian(dense), lti.observability_gramian(dense)
    return P, np.linalg.solve(E.T, np.linalg.solve(E.T, Q).T)


def leading(X, r):
    """The span of the leading columns, as a projection."""
    Q = np.linalg.qr(X[:, :r])[0]
    return Q @ Q.T


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_the_dense_formulas(kind, symmetric):
    """Values and eigenvectors of P_p Q_p, and of P_v M^H Q_v M, as Reis and Stykel have them."""
    sys, (M, D, K, B, C_p, C_v) = beam(symmetric=symmetric)
    r, k = 6, sys.order // 2
    model, reduction = lti.second_order_truncation(sys, r, kind)
    P, Q = dense_gramians(sys)
    M = M.toarray()
    P_p, P_v, Q_p, Q_v = P[:k, :k], P[k:, k:], Q[:k, :k], Q[k:, k:]
    products = {
        "position": P_p @ Q_p, "velocity": P_v @ M.T @ Q_v @ M, "left": Q_v @ M @ P_v @ M.T
    }  # fmt: skip
    found = {}
    for name, X in products.items():
        values, vectors = np.linalg.eig(X)
        order = np.argsort(-values.real)
        found[name] = np.sqrt(np.maximum(values.real[order], 0)), vectors[:, order].real
    values, right = found["velocity" if kind == "velocity" else "position"]
    left = right if kind == "symmetric" else found["left"][1]
    np.testing.assert_allclose(model.values[:r], values[:r], rtol=1e-6)
    T, W = leading(right, r), leading(left, r)
    V = reduction.T[:k, :r]
    assert np.linalg.norm(T @ V - V) < 1e-6
    W_r = reduction.W[r:, k:].T
    assert np.linalg.norm(W @ W_r - W_r) < 1e-6 * np.linalg.norm(W_r)
    V, U = np.linalg.qr(right[:, :r])[0], np.linalg.qr(left[:, :r])[0]
    small = lti.second_order(U.T @ M @ V, U.T @ D @ V, U.T @ K @ V, U.T @ B, C_p @ V, C_v @ V)
    same_response(reduction.system, small.small_dense(), 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_two_results_are_one(kind):
    """The model of second order, the system of first order, and the projection."""
    sys, _ = beam(symmetric=False)
    model, reduction = lti.second_order_truncation(sys, 5, kind)
    assert model.order == 5 and reduction.order == 10 == reduction.system.order
    same_response(model.to_first_order(), reduction.system, 1e-12)
    E = sys.pencil.product(0.0, 1.0, np.eye(sys.order))
    np.testing.assert_allclose(reduction.W @ E @ reduction.T, np.eye(10), atol=1e-10)
    same_response(sys.projected(reduction.T, reduction.W), reduction.system, 1e-10)
    assert np.isinf(reduction.error_bound) and reduction.hsv.shape == (0,)
    assert "no error bound is known" in reduction.flags[-1]
    best = lti.balanced_truncation(sys, 5).verify()  # of half as many states
    assert reduction.verify() < (2 if kind == "symmetric" else 1) * best


@pytest.mark.parametrize("kind", KINDS)
def test_all_positions_give_the_system_itself(kind):
    sys, _ = beam(4)
    _, reduction = lti.second_order_truncation(sys, 4, kind)
    same_response(reduction.system, sys.small_dense(), 1e-9)


def test_symmetric_definite_matrices_stay_so():
    sys, _ = beam()
    for order in (1, 3, 8):
        model, reduction = lti.second_order_truncation(sys, order, "symmetric")
        for X in (model.M, model.D, model.K):
            np.testing.assert_allclose(X, X.T, atol=1e-13)
            assert np.linalg.eigvalsh(X).min() > 0
        assert (reduction.system.poles.real < 0).all()


def test_velocity_keeps_collocated_symmetric_systems_symmetric():
    """C_velocity = B^H: the two bases are one, up to signs."""
    sys, _ = beam(velocity=True)
    model, _ = lti.second_order_truncation(sys, 4, "velocity")
    for X in (model.M, model.D, model.K):
        assert np.linalg.norm(abs(X) - abs(X.T)) < 1e-6 * np.linalg.norm(X)


def test_complex_matrices():
    sys, (M, D, K, B, C_p, C_v) = beam(20, symmetric=False)
    turned = lti.second_order(M, D, K, 1j * B, C_p, (1 + 1j) * C_v)
    model, reduction = lti.second_order_truncation(turned, 3)
    assert np.iscomplexobj(model.B)
    w = np.array([-1.0, 0.0, 0.5])
    error = lti.frequency_response(reduction.system, w) - lti.frequency_response(turned, w)
    assert np.abs(error).max() <= reduction.verify()


def test_refusals(monkeypatch):
    sys, _ = beam(20)
    with pytest.raises(lti.DimensionError, match="needs the system that lti.second_order returns"):
        lti.second_order_truncation(rod(20), 3)
    with pytest.raises(lti.OptionError, match="kind"):
        lti.second_order_truncation(sys, 3, "acceleration")
    with pytest.raises(lti.OrderError, match="from 0 to 20"):
        lti.second_order_truncation(sys, 21)
    with pytest.raises(lti.OrderError, match="rank of the factors"):
        k = 300
        held = lti.second_order(sparse.eye(k), 3 * sparse.eye(k), sparse.eye(k), np.eye(k, 1),
                                np.eye(1, k))  # fmt: skip
        lti.second_order_truncation(held, 200)
    monkeypatch.setattr(lti.reduction.second_order, "is_stable", lambda system: np.asarray(False))
    with pytest.warns(lti.ReductionWarning, match="unstable"):
        lti.second_order_truncation(sys, 3)
