"""Systems of index 2 and 3: the projected pencil, against the dense descriptor route."""

import warnings

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sparse
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import loadmat

import lti
from lti.systems.constrained import ConstrainedPencil
from lti.systems.index_one import algebraic_part
from tests.lti.helpers import quiet, same_response


def stokes(n=40, k=8, *, dt=0, is_complex=False, symmetric=False, seed=0):
    """E v' = A v + G p + B u, 0 = H v, y = C_1 v + C_2 p; its rows and columns mixed."""
    rng = np.random.default_rng(seed)
    A1 = sparse.diags([1.0, -2.5, 1.3], [-1, 0, 1], shape=(n, n), format="csc")
    E1 = sparse.diags([0.1, 1.0, 0.1], [-1, 0, 1], shape=(n, n), format="csc")
    if dt:
        A1, E1 = E1 + 0.1 * A1, E1 - 0.1 * A1
    if is_complex:
        A1 = A1 + 0.3j * sparse.diags(rng.standard_normal(n))
    G = sparse.random(n, k, 0.2, random_state=rng) + sparse.eye(n, k)
    H = G.T if symmetric else G.T + 0.1 * sparse.random(k, n, 0.1, random_state=rng)
    A = sparse.block_array([[A1, G], [H, None]], format="csc")
    E = sparse.block_diag([E1, sparse.csc_array((k, k))], format="csc")
    B = np.vstack([rng.standard_normal((n, 2)), np.zeros((k, 2))])
    C, D = rng.standard_normal((3, n + k)), rng.standard_normal((3, 2))
    rows, columns = rng.permutation(n + k), rng.permutation(n + k)
    A, E = (x[rows][:, columns] for x in (A, E))
    return lti.SparseStateSpace(A, B[rows], C[:, columns], D, E, dt)


def dense_of(sys):
    return lti.StateSpace.from_descriptor(
        sys.E.toarray(), sys.A.toarray(), sys.B, sys.C, sys.D, sys.dt
    )


FORMS = {
    "real": {},
    "symmetric": {"symmetric": True},
    "complex": {"is_complex": True},
    "discrete": {"dt": 0.5},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_agrees_with_the_dense_descriptor_route(form):
    sys = stokes(**form)
    dense = dense_of(sys)
    same_response(sys.finite_part.small_dense(), dense, 1e-9)
    found = lti.balanced_truncation(sys, order=4)
    expected = lti.balanced_truncation(dense, order=4)
    np.testing.assert_allclose(found.hsv[:8], expected.hsv[:8], rtol=1e-6)
    same_response(found.system, expected.system, 1e-7)
    assert found.error_bound == pytest.approx(expected.error_bound, rel=1e-5)
    assert found.lower_bound <= found.verify() <= found.error_bound
    same_response(lti.irka(sys, 2).system, lti.irka(dense, 2).system, 1e-3)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_is_a_pencil(form):
    sys = stokes(**form)
    pencil = sys.finite_part.pencil
    check_pencil(pencil)
    rows, columns = algebraic_part(sys.E)
    E = pencil.product(0.0, 1.0, np.eye(pencil.order))
    np.testing.assert_allclose(E, sys.E[~rows][:, ~columns].toarray(), atol=1e-12)


def check_pencil(pencil):
    """Products and solutions are those of the matrices that it stands for."""
    eye = np.eye(pencil.order)
    A, E = pencil.product(1.0, 0.0, eye), pencil.product(0.0, 1.0, eye)
    F = np.arange(2.0 * len(A)).reshape(len(A), 2)
    for a, e in ((1.0, 0.7), (0.0, 2.0), (1.0, 1 + 2j), (-1.0, 0.2j)):
        M, inverse = a * A + e * E, pencil.factor(a, e)
        size = np.linalg.norm(np.linalg.inv(M), 2) * np.linalg.norm(F)
        assert np.linalg.norm(inverse.solve(F) - np.linalg.solve(M, F)) < 1e-11 * size
        assert np.linalg.norm(inverse.adjoint(F) - np.linalg.solve(M.conj().T, F)) < 1e-11 * size
        np.testing.assert_allclose(pencil.product(a, e, F), M @ F, atol=1e-9)
        np.testing.assert_allclose(pencil.adjoint_product(a, e, F), M.conj().T @ F, atol=1e-9)


def test_a_large_one_stays_sparse():
    sys = stokes(400, 60, symmetric=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", lti.DenseWarning)
        reduction = lti.balanced_truncation(sys, tol=1e-3, relative=True)
        assert reduction.verify() <= reduction.error_bound <= 1e-3 * reduction.hsv[0]
    assert isinstance(reduction.original.pencil.of, ConstrainedPencil)
    assert reduction.original.order == 400
    w = np.array([0.0, 0.3, 2.0])  # held against the system as it was given
    for point in w:
        G = sys.C @ np.linalg.solve(1j * point * sys.E.toarray() - sys.A.toarray(), sys.B) + sys.D
        error = lti.frequency_response(reduction.system, [point])[0] - G
        assert np.linalg.norm(error, 2) <= reduction.error_bound


def mechanics(k=12, r=2, *, seed=0, moved=False, is_complex=False):
    """M q'' + D q' + K q = H^T p + B u, 0 = H q + B_2 u: index 3; what is read are positions.

    And velocities and multipliers, unless the supports are moved by u (B_2 is not zero).
    """
    rng = np.random.default_rng(seed)
    chain = sparse.diags([-1.0, 2.5, -1.0], [-1, 0, 1], shape=(k, k))
    M, K = sparse.diags(rng.uniform(0.5, 2, k)), 4 * chain
    D = sparse.csc_array(0.3 * sparse.eye(k) + 0.1 * chain)
    D = D + 1j * sparse.eye(k, format="csc") if is_complex else D
    H = sparse.eye(r, k) + sparse.random(r, k, 0.3, random_state=rng)
    none, one = sparse.csc_array((k, k)), sparse.eye(k)
    A = sparse.block_array([[none, one, None], [-K, -D, -H.T], [H, None, None]], format="csc")
    E = sparse.block_diag([one, M, sparse.csc_array((r, r))], format="csc")
    force, support = rng.standard_normal((k, 2)), rng.standard_normal((r, 2))
    B = np.vstack([np.zeros((k, 2)), force, support * moved])
    C = rng.standard_normal((3, 2 * k + r))
    C[:, k:] *= not moved
    rows, columns = rng.permutation(2 * k + r), rng.permutation(2 * k + r)
    A, E = (x[rows][:, columns] for x in (A, E))
    return lti.SparseStateSpace(A, B[rows], C[:, columns], rng.standard_normal((3, 2)), E)


MECHANICS = {"real": {}, "supports are moved": {"moved": True}, "complex": {"is_complex": True}}


@pytest.mark.parametrize(("sys", "index"), [
    *((stokes(**form), 2) for form in FORMS.values()),
    (mechanics(), 3), (mechanics(is_complex=True), 3),
], ids=[*FORMS, "index 3", "index 3, complex"])  # fmt: skip
def test_the_poles_are_the_finite_ones_of_the_pencil(sys, index):
    count = sys.order - index * np.count_nonzero(algebraic_part(sys.E)[0])
    values = scipy.linalg.eigvals(sys.A.toarray(), sys.E.toarray())
    finite = values[np.argsort(abs(values))][:count]
    assert abs(values[np.isfinite(values)]).max() > 1e3 * abs(finite).max() or (
        np.isfinite(values).sum() == count
    )
    assert len(sys.poles) == count
    apart = abs(sys.poles[:, None] - finite)
    assert max(apart.min(axis=0).max(), apart.min(axis=1).max()) < 1e-7 * abs(finite).max()


@pytest.mark.parametrize("form", MECHANICS.values(), ids=MECHANICS)
def test_index_three_agrees_with_the_dense_descriptor_route(form):
    sys = mechanics(**form)
    dense = dense_of(sys)
    assert sys.finite_part.pencil.of.index == 3 and dense.order == 20
    same_response(sys.finite_part.small_dense(), dense, 1e-9)
    found, expected = (lti.balanced_truncation(x, order=6) for x in (sys, dense))
    np.testing.assert_allclose(found.hsv[:8], expected.hsv[:8], rtol=1e-6)
    same_response(found.system, expected.system, 1e-6)
    assert found.lower_bound <= found.verify() <= found.error_bound
    w = np.array([0.0, 0.7, 5.0])
    expected = [sys.C @ np.linalg.solve(1j * x * sys.E.toarray() - sys.A.toarray(), sys.B) + sys.D
                for x in w]  # fmt: skip
    np.testing.assert_allclose(lti.frequency_response(sys, w), expected, atol=1e-10)


@pytest.mark.parametrize("form", MECHANICS.values(), ids=MECHANICS)
def test_of_index_three_the_four_operations_fit(form):
    check_pencil(mechanics(**form).finite_part.pencil)


def random_rotations(rng, n):
    return np.linalg.qr(rng.standard_normal((2, n, n)))[0]


@given(st.integers(0, 9999), st.sampled_from([2, 3]), st.booleans(), st.booleans())
def test_is_as_proper_as_the_dense_route_says(seed, index, acts, sees):
    """Inputs in the constraints, multipliers in the outputs: both, one or none of them."""
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(4, 8)), int(rng.integers(1, 3))
    if index == 2:
        A1, E1 = rng.standard_normal((n, n)), np.eye(n) + 0.2 * rng.standard_normal((n, n))
        G = rng.standard_normal((n, k))
        H = G.T + 0.2 * rng.standard_normal((k, n))
    else:
        M, D, K = (X @ X.T + np.eye(n) for X in rng.standard_normal((3, n, n)))
        zero, one = np.zeros((n, n)), np.eye(n)
        A1, E1 = np.block([[zero, one], [-K, -D]]), np.block([[one, zero], [zero, M]])
        force = rng.standard_normal((n, k))
        G = np.vstack([np.zeros((n, k)), force])
        H = np.hstack([force.T + 0.2 * rng.standard_normal((k, n)), np.zeros((k, n))])
        n = 2 * n
    A = np.block([[A1, G], [H, np.zeros((k, k))]])
    E = np.zeros_like(A)
    E[:n, :n] = E1
    B, C, D = (rng.standard_normal(shape) for shape in ((n + k, 1), (1, n + k), (1, 1)))
    B[n:], C[:, n:] = acts * B[n:], sees * C[:, n:]
    if index == 3:  # a place that is moved has a velocity that is its derivative
        B[: n // 2], C[:, n // 2 : n] = acts * B[: n // 2], (not acts) * C[:, n // 2 : n]
    if seed % 2:  # in other coordinates, where nothing is exactly zero
        L, R = (scipy.linalg.block_diag(x, np.eye(k)) for x in random_rotations(rng, n))
        A, E, B, C = L @ A @ R, L @ E @ R, L @ B, C @ R
    sys = lti.SparseStateSpace(A, B, C, D, sparse.csc_array(E))
    try:
        dense = quiet(lti.StateSpace.from_descriptor, E, A, B, C, D)
    except lti.OptionError as error:
        assert acts and sees and "improper" in str(error)
        with pytest.raises(lti.OptionError, match="improper: it grows as s"):
            lti.balance(sys)
    else:
        assert sys.finite_part.order == dense.order + (index - 1) * k
        found, w = sys.finite_part.small_dense(), np.array([0.1, 1.0, 3.0])
        expected = np.array([C @ np.linalg.solve(1j * x * E - A, B) + D for x in w])
        for G in (found, sys):
            np.testing.assert_allclose(
                lti.frequency_response(G, w), expected, atol=1e-5 * abs(expected).max()
            )


def test_a_constrained_chain_of_masses(data_file):
    """Index 3, 600 masses; the first and the last move together."""
    m = loadmat(data_file("sparse/msd_600_index3.mat"))
    sys = lti.SparseStateSpace(m["A"], m["B"], m["C"], E=m["E"])
    assert sys.finite_part.order == 1200 and sys.finite_part.pencil.of.index == 3
    reduction = lti.balanced_truncation(sys, tol=1e-3, relative=True)
    assert reduction.verify() <= reduction.error_bound <= 1e-3 * reduction.hsv[0]
    for w in (0.0, 0.01, 0.3):
        s, E, A = 1j * w, sys.E.toarray(), sys.A.toarray()
        G = sys.C @ np.linalg.solve(s * E - A, sys.B)
        np.testing.assert_allclose(lti.frequency_response(sys, [w])[0], G, atol=1e-9 * abs(G).max())
        error = lti.frequency_response(reduction.system, [w])[0] - G
        assert np.linalg.norm(error, 2) <= reduction.error_bound


def test_lost_digits_are_warned_of():
    """The multiplier acts almost at a right angle to its constraint."""
    Q = random_rotations(np.random.default_rng(0), 6)[0]
    G, H = Q[:, :1], Q[:, 1:2].T + 1e-6 * Q[:, :1].T
    with pytest.warns(lti.ReductionWarning, match="has about [1-7] digits: of index 2"):
        assert pairs(6, 1, sparse.csc_array(G), sparse.csc_array(H)).finite_part.order == 6


def pairs(n, k, G, H, E1=None):
    """A system with the constraints H and the multipliers behind G."""
    A = sparse.block_array([[-sparse.eye(n), G], [H, None]], format="csc")
    E = sparse.block_diag([sparse.eye(n) if E1 is None else E1, sparse.csc_array((k, k))])
    B = np.eye(n + k, 1)
    return lti.SparseStateSpace(A, B, B.T, E=E)


def test_refusals():
    sys = stokes()
    with pytest.raises(lti.OptionError, match=r"grows as s\^1.*acts on the algebraic equations"):
        lti.balance(lti.SparseStateSpace(sys.A, np.ones_like(sys.B), sys.C, E=sys.E))
    same = sparse.csc_array(np.ones((6, 2)))  # two equal constraints
    with pytest.raises(lti.OptionError, match="has rank 1 of 2"):
        lti.balance(pairs(6, 2, same, same.T))
    G, H = np.eye(6, 2), np.eye(2, 6, 2)  # of index 2, 3 and 4: the chain of states is cut
    with pytest.raises(lti.OptionError, match="index of the 2 algebraic equations is above 3"):
        lti.balance(pairs(6, 2, sparse.csc_array(G), sparse.csc_array(H)))
    with pytest.raises(lti.OptionError, match="E_1, 6 x 6, is singular"):
        one = sparse.eye(6, 2)
        lti.balance(pairs(6, 2, one, one.T, sparse.csc_array(np.ones((6, 6)))))
