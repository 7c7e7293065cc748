"""Unstable poles of sparse systems: found wherever they are, and their subspaces."""

import numpy as np
import pytest
import scipy.sparse as sparse

import lti
from lti.systems import rightmost, split
from lti.systems.moved import MovedPencil
from lti.systems.rightmost import refined, unstable_poles, unstable_subspaces
from lti.systems.split import parts_of
from tests.lti.sparse_systems import UNSTABLE, chain, free_rod, masses, ports, random_pencil


@pytest.mark.parametrize(("make", "expected"), UNSTABLE.values(), ids=UNSTABLE)
def test_the_worst_is_named(make, expected):
    sys = make()
    worst = expected[-1] if sys.dt == 0 else -1.3
    found = sys.poles[np.argmax(abs(sys.poles) if sys.is_discrete else sys.poles.real)]
    assert min(abs(found - worst), abs(found - np.conj(worst))) < 1e-6 * max(1, abs(worst))
    with pytest.raises(lti.UnstableError, match='unstable="split"'):
        lti.balance(sys)


@pytest.mark.parametrize(("make", "expected"), UNSTABLE.values(), ids=UNSTABLE)
def test_the_subspaces_are_invariant(make, expected):
    sys = make()
    parts = parts_of(sys, "split")
    X, W, L = parts.T, parts.W, parts.rest.A
    poles = np.sort_complex(np.linalg.eigvals(L))
    np.testing.assert_allclose(
        poles, np.sort_complex(expected), atol=1e-7 * max(1, abs(poles).max())
    )
    A, E = (sys.pencil.product(*which, np.eye(sys.order)) for which in ((1.0, 0.0), (0.0, 1.0)))
    size = np.linalg.norm(A, 2)
    assert np.linalg.norm(A @ X - E @ X @ L) < 1e-9 * size * np.linalg.norm(X)
    assert np.linalg.norm(W @ A - L @ W @ E) < 1e-9 * size * np.linalg.norm(W)
    np.testing.assert_allclose(W @ E @ X, np.eye(len(L)), atol=1e-12)
    assert not np.iscomplexobj(X)
    stable = parts.stable.small_dense().poles
    assert ((abs(stable) < 1) if sys.is_discrete else (stable.real < 0)).all()


@pytest.mark.parametrize("is_complex", [False, True])
def test_a_moved_pencil_is_one(is_complex):
    """Products and solutions are those of the matrices that it stands for."""
    sys = random_pencil(40, E="any", is_complex=is_complex, seed=2)
    values, V = np.linalg.eig(np.linalg.solve(sys.E.toarray(), sys.A.toarray()))
    real_parts = np.sort(values.real)
    at = values.real >= (real_parts[-3] + real_parts[-4]) / 2
    X = V[:, at] if is_complex else np.linalg.svd(np.hstack([V[:, at].real, V[:, at].imag]))[0]
    X = X[:, : at.sum()]
    rows = np.linalg.inv(V)[at]
    W = rows if is_complex else np.linalg.svd(np.vstack([rows.real, rows.imag]))[2][: at.sum()]
    W = np.linalg.solve(W @ X, W) @ np.linalg.inv(sys.E.toarray())
    moved = MovedPencil(sys.pencil, X, W, -7.0)
    eye = np.eye(40)
    A, E = moved.product(1.0, 0.0, eye), moved.product(0.0, 1.0, eye)
    np.testing.assert_allclose(E, sys.E.toarray(), atol=1e-10)
    poles = np.linalg.eigvals(np.linalg.solve(E, A))
    assert np.count_nonzero(abs(poles + 7) < 1e-6) == at.sum()
    for a, e in ((1.0, 0.3), (1.0, -1 + 2j), (-1.0, values[at][0])):  # the last is a moved pole
        M = a * A + e * E
        F = np.arange(80.0).reshape(40, 2)
        found = moved.factor(a, e)
        size = np.linalg.norm(np.linalg.inv(M)) * np.linalg.norm(F)
        assert np.linalg.norm(found.solve(F) - np.linalg.solve(M, F)) < 1e-10 * size
        assert np.linalg.norm(found.adjoint(F) - np.linalg.solve(M.conj().T, F)) < 1e-10 * size
        np.testing.assert_allclose(moved.product(a, e, F), M @ F, atol=1e-9)
        np.testing.assert_allclose(moved.adjoint_product(a, e, F), M.conj().T @ F, atol=1e-9)


def test_a_shift_at_a_moved_pole_of_a_singular_matrix():
    """LU of the insulated rod breaks down at zero exactly; its stable part responds there."""
    sys = lti.SparseStateSpace(free_rod(300), *ports(300))
    parts = parts_of(sys, "split")
    dense = split.split(sys.small_dense())
    found, expected = (lti.dcgain(x.stable) for x in (parts, dense))
    np.testing.assert_allclose(found, expected, atol=1e-9 * abs(expected).max())


def test_a_stable_system_has_no_unstable_subspace():
    sys = lti.SparseStateSpace(free_rod(300, -0.5), *ports(300))
    X, W = unstable_subspaces(sys.pencil, 0.3 + 0j, False)
    assert X.shape == (300, 0) and W.shape == (0, 300)
    assert (sys.poles.real < 0).all()


def test_too_many_unstable_poles_are_refused(monkeypatch):
    monkeypatch.setattr(split, "MOST", 2)
    A = sparse.diags(np.append(-np.linspace(1, 9, 295), [1.0, 2.0, 3.0, 4.0, 5.0]))
    with pytest.raises(lti.UnstableError, match="poles are split off"):
        lti.balance(lti.SparseStateSpace(A, *ports(300)), unstable="split")


@pytest.mark.parametrize("alpha", [-5e2, -1e5, -4e6, -1e7])
def test_a_boundary_beyond_too_many_poles_is_refused(alpha):
    A = 9e4 * sparse.diags([1.0, -2.0, 1.0], [-1, 0, 1], shape=(300, 300))
    sys = lti.SparseStateSpace(A, *ports(300))
    if alpha > -1e3:
        assert lti.balance(sys, unstable="split", alpha=alpha).smallest_order > 0
        return
    with pytest.raises(lti.DefectiveError, match="closer to the boundary"):
        lti.balance(sys, unstable="split", alpha=alpha)


def test_a_stable_pole_at_an_unstable_one_is_not_split(monkeypatch):
    monkeypatch.setattr(rightmost, "APART", 2.0)
    with pytest.raises(lti.DefectiveError, match="too close to be split"):
        lti.balance(UNSTABLE["hot spot"][0](), unstable="split")


def test_an_estimate_among_many_poles_is_refined_until_it_settles():
    """Masses whose only damper is at an end have no pole with a positive real part."""
    pencil = masses(300, np.arange(300) == 299, ends=1.0).equilibrated.system.pencil
    pole = refined(pencil, -0.000926 + 1.99683j)
    assert pole is None or pole.real < 0
    assert refined(pencil, 0.000818 + 1.97561j).real < 0


@pytest.mark.parametrize("back", [1e-3, 1e-9])
def test_far_from_normal_no_unstable_pole_is_claimed(back):
    """What Arnoldi steps find are poles of a pencil that differs by rounding, on both sides."""
    n = 220
    sys = lti.SparseStateSpace(chain(n, 1.5, back), *ports(n))
    assert sys.poles.real.max(initial=-1.0) < 0
    for near in (0.38 + 0j, 1e-6 + 0j):
        assert not unstable_poles(sys.pencil, near, False).size


@pytest.mark.parametrize("far", [0.0, 20.0])
def test_an_unstable_pole_of_a_system_far_from_normal_is_found(far):
    n = 220
    A = chain(n, 1.5, 1e-3).tolil()
    A[7, 7] = 0.6
    A[6, 7] += far
    sys = lti.SparseStateSpace(A, *ports(n))
    worst = sys.small_dense().poles.real.max()
    assert sys.poles.real.max() == pytest.approx(worst, rel=1e-6)
    with pytest.raises(lti.UnstableError, match="unstable: the worst, 0.6"):
        lti.balance(sys)
