"""irka: the interpolation conditions of H2-optimal reduced systems, and what it says of itself."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sparse
import torch

import lti
from lti.reduction import interpolation
from lti.systems.operators import difference
from tests.lti.helpers import same_response
from tests.lti.sparse_systems import free_rod, ports, random_pencil, rod

SYSTEMS = {
    "rod": (lambda: rod(60, m=2, p=3), 4),
    "one input": (lambda: rod(60), 5),
    "nonsymmetric": (lambda: random_pencil(E="any"), 4),
    "complex": (lambda: random_pencil(E="any", is_complex=True), 5),
    "discrete": (lambda: random_pencil(E="any", dt=0.5), 5),
    "discrete, complex": (lambda: random_pencil(E="any", dt=True, is_complex=True), 4),
    "second order": (lambda: lti.second_order(
        sparse.eye(40), 2 * sparse.eye(40), -free_rod(40, -0.1), ports(40)[0],
        C_velocity=ports(40)[1]), 4),
}  # fmt: skip


def value_and_derivative(sys, s):
    """G(s) and G'(s) of a dense system."""
    M = s * np.eye(sys.order) - sys.A
    X = np.linalg.solve(M, sys.B + 0j)
    return sys.C @ X + sys.D, -sys.C @ np.linalg.solve(M, X)


@pytest.mark.parametrize("form", ["sparse", "dense"])
@pytest.mark.parametrize("make, order", SYSTEMS.values(), ids=SYSTEMS)
def test_interpolates_at_its_mirrored_poles(make, order, form):
    """Meier and Luenberger: value in both directions, and derivative, at each mirrored pole."""
    sys = make()
    dense = sys.small_dense()
    reduction = lti.irka(sys if form == "sparse" else dense, order, rtol=1e-9, most_iterations=500)
    small = reduction.system
    assert small.order == order and len(reduction.flags) == 1
    poles, X = np.linalg.eig(small.A)
    b, c = np.linalg.solve(X, small.B + 0j), small.C @ X
    for i, pole in enumerate(poles):
        s = 1 / pole.conj() if small.is_discrete else -pole.conj()
        (G, dG), (H, dH) = (value_and_derivative(x, s) for x in (dense, small))
        left, right = c[:, i].conj() / np.linalg.norm(c[:, i]), b[i].conj() / np.linalg.norm(b[i])
        tol = 1e-6 * np.linalg.norm(G)
        assert np.linalg.norm((G - H) @ right) < tol
        assert np.linalg.norm(left @ (G - H)) < tol
        assert abs(left @ (dG - dH) @ right) < 1e-5 * np.linalg.norm(dG)
    E = sys.pencil.product(0.0, 1.0, np.eye(sys.order)) if form == "sparse" else np.eye(sys.order)
    np.testing.assert_allclose(reduction.W @ E @ reduction.T, np.eye(order), atol=1e-8)


@pytest.mark.parametrize("make, order", SYSTEMS.values(), ids=SYSTEMS)
def test_the_h2_error_is_no_larger_than_that_of_balanced_truncation(make, order):
    sys = make()
    dense = sys.small_dense()
    errors = [
        lti.h2_norm(difference(dense, method(sys, order).system))
        for method in (lti.irka, lti.balanced_truncation)
    ]
    assert errors[0] <= errors[1]


def test_says_that_no_bound_is_known():
    reduction = lti.irka(rod(600), 3)
    assert np.isinf(reduction.error_bound) and reduction.lower_bound == 0
    assert reduction.hsv.shape == (0,)
    assert "no error bound is known" in str(reduction) and "no bound known" in repr(reduction)
    assert 0 < reduction.verify() < 1e-2
    assert "measured at least" in str(reduction)


def test_a_system_of_the_same_order_is_found_again():
    sys = lti.StateSpace(np.diag([-1.0, -2.0, -5.0]), np.ones((3, 1)), np.ones((1, 3)), [[2.0]])
    same_response(lti.irka(sys, 3).system, sys, 1e-10)
    none = lti.irka(sys, 0).system
    assert none.order == 0 and none.D == 2.0


def test_a_real_point_where_the_start_has_only_a_pair():
    sys = (np.array([[-3.0, 2.0], [-2.0, -3.0]]), np.ones((2, 1)), np.ones((1, 2)))
    assert lti.irka(sys, 1).system.poles.real < 0


@pytest.mark.parametrize("a, b, c", [
    (1e200, 1, 1), (1e-200, 1, 1), (1, 1e-200, 1), (1, 1, 1e200), (1e150, 1e-150, 1),
    (1e200, 1e200, 1e-200), (1e100, 1e200, 1e-100),
])  # fmt: skip
@pytest.mark.parametrize("form", ["sparse", "dense"])
def test_numbers_of_any_magnitude(form, a, b, c):
    A = -np.diag(np.arange(1.0, 13.0))
    A[0, 1] = 0.5
    B, C = np.eye(12, 2) + 1.0, np.ones((1, 12))
    usual = lti.irka((A, B, C), 3).system
    A = sparse.csc_array(a * A) if form == "sparse" else a * A
    with np.errstate(over="raise"):
        found = lti.irka((A, b * B, c * C), 3).system
    poles, expected = (np.sort_complex(x.poles) for x in (found, usual))
    np.testing.assert_allclose(poles / a, expected, rtol=1e-5)
    gains = [(x.C @ x.B).ravel() for x in (found, usual)]
    np.testing.assert_allclose(gains[0] / (b * c), gains[1], rtol=1e-5)


def test_an_order_beyond_the_minimal_one_is_refused():
    sys = lti.StateSpace(np.diag([-1.0, -2.0, -5.0]), [[1.0], [1.0], [0.0]], np.ones((1, 3)))
    with pytest.raises(lti.OrderError, match="a smaller order gives the system itself"):
        lti.irka(sys, 3)
    with pytest.raises(lti.OrderError, match="from 0 to 3"):
        lti.irka(sys, 4)
    with pytest.raises(lti.OrderError, match="fewer directions"):
        lti.irka(replace(sys, C=np.array([[1.0, 0.0, 0.0]])), 2)


def test_flags():
    with pytest.warns(lti.ReductionWarning, match="not converged: after 1 iterations"):
        reduction = lti.irka(random_pencil(E="any"), 4, most_iterations=1)
    assert "not converged" in reduction.flags[0]


def test_an_unstable_result_is_flagged(monkeypatch):
    monkeypatch.setattr(interpolation, "is_stable", lambda system: np.asarray(False))
    with pytest.warns(lti.ReductionWarning, match="order 2 is unstable"):
        lti.irka(rod(30), 2)


def test_refusals():
    A = np.diag([-1.0, -2.0])
    B, C = np.ones((2, 1)), np.ones((1, 2))
    with pytest.raises(lti.UnstableError, match="H2-optimal interpolation needs a stable one"):
        lti.irka((-A, B, C), 1)
    with pytest.raises(lti.DimensionError, match=r"batch of shape \(3,\)"):
        lti.irka((np.stack([A] * 3), np.stack([B] * 3), np.stack([C] * 3)), 1)
    with pytest.raises(lti.DerivativeError, match="irka has no derivative"):
        lti.irka(tuple(torch.tensor(x, requires_grad=True) for x in (A, B, C)), 1)
    with pytest.raises(lti.OptionError, match="rtol"):
        lti.irka((A, B, C), 1, rtol=0.0)
    with pytest.raises(lti.OptionError, match="most_iterations"):
        lti.irka((A, B, C), 1, most_iterations=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128])
def test_torch_in_torch_out(dtype):
    sys = lti.StateSpace(*(torch.tensor(x, dtype=dtype) for x in (
        np.diag([-1.0, -2.0, -5.0]), np.ones((3, 1)), np.ones((1, 3)))))  # fmt: skip
    reduction = lti.irka(sys, 1)
    assert reduction.system.A.dtype == reduction.T.dtype == dtype
    assert float(reduction.verify()) > 0
