"""Poles of block triangular sparse systems are those of their diagonal blocks."""

import numpy as np
import pytest
import scipy.sparse as sparse

import lti
from lti.systems.irreducible import irreducible_blocks
from tests.lti.sparse_systems import chain, ports


def triangular(sizes, coupling, *, dtype=float, seed=0):
    """E and A, block triangular with strong couplings and states in random order, and its poles."""
    rng = np.random.default_rng(seed)
    n, first = sum(sizes), np.cumsum([0, *sizes])

    def block(size):
        X = rng.standard_normal((size, size)) + (1j if dtype is complex else 0) * size
        return (X - (3 + size) * np.eye(size)).astype(dtype)

    def above():
        X = coupling * rng.standard_normal((n, n))
        for i, size in zip(first, sizes, strict=False):
            X[i:, i : i + size] = 0.0
        return X

    As, Es = ([block(size) for size in sizes] for _ in range(2))
    A, E = (sparse.block_diag(x).toarray() + above() for x in (As, Es))
    order = rng.permutation(n)
    poles = [np.linalg.eigvals(np.linalg.solve(e, a)) for a, e in zip(As, Es, strict=True)]
    A, E = (sparse.csc_array(x[np.ix_(order, order)]) for x in (A, E))
    return A, E, np.concatenate(poles)


def distance(found, expected):
    """The largest one of a pole to the closest expected one, and the reverse."""
    D = abs(np.asarray(found)[:, None] - np.asarray(expected))
    return max(D.min(axis=0).max(), D.min(axis=1).max())


@pytest.mark.parametrize("dtype", [float, complex])
def test_small_blocks_show_all_poles_and_large_ones_are_returned(dtype):
    A, E, expected = triangular([1, 2, 1, 3, 1, 7, 3], 1e6, dtype=dtype)

    def poles(A, E):
        return np.linalg.eigvals(np.linalg.solve(E, A))

    found, large = irreducible_blocks((A, E), poles)
    assert not large and len(found) == 18
    assert distance(found, expected) < 1e-9
    found, ((a, e),) = irreducible_blocks((A, E), poles, small=3)
    assert len(found) == 11 and a.shape == e.shape == (7, 7)
    rest = np.linalg.eigvals(np.linalg.solve(e.toarray(), a.toarray()))
    assert distance(np.append(found, rest), expected) < 1e-9


@pytest.mark.parametrize("dt", [0, True])
@pytest.mark.parametrize("lower", [False, True])
def test_a_triangular_matrix_shows_its_poles(dt, lower):
    """Of such a one Arnoldi steps find poles at 0.1, which are none: its pseudospectrum."""
    A, pole = chain(600, 1.2), -1.0
    if dt:
        A, pole = A + 1.5 * sparse.eye_array(600), 0.5
    sys = lti.SparseStateSpace(A.T if lower else A, *ports(600), dt=dt)
    np.testing.assert_array_equal(sys.poles, np.full(600, pole))


def test_a_large_block_among_small_ones_has_its_unstable_pole():
    rod = sparse.diags_array([1.0, -2.0, 1.0], offsets=[-1, 0, 1], shape=(300, 300)).tolil()
    rod[150, 150] += 3
    A = sparse.block_array([[chain(40, 5.0), None], [None, rod]]).tolil()
    A[39, 40] = 1e3
    sys = lti.SparseStateSpace(A, *ports(340))
    assert np.count_nonzero(sys.poles == -1) == 40
    assert sys.poles.real.max() == pytest.approx(1.60555128)
    with pytest.raises(lti.UnstableError, match=r"1 of \d+ poles are unstable: the worst, 1\.605"):
        lti.hankel_singular_values(sys)


def test_masses_that_are_not_coupled():
    k = 150
    w, d = np.geomspace(1, 1e3, k), np.linspace(0.1, 3.0, k)
    D = sparse.diags_array(d * w) + sparse.diags_array([1e4], offsets=[1], shape=(k, k))
    M, K = 2 * sparse.eye_array(k), 2 * sparse.diags_array(w**2)
    sys = lti.second_order(M, 2 * D, K, *ports(k))
    root = np.sqrt((d / 2) ** 2 - 1 + 0j)
    expected = np.concatenate([w * (-d / 2 + root), w * (-d / 2 - root)])
    assert len(sys.poles) == 2 * k
    assert distance(sys.poles / abs(sys.poles), expected / abs(expected)) < 1e-6
    np.testing.assert_allclose(np.sort(abs(sys.poles)), np.sort(abs(expected)), rtol=1e-9)
