"""Systems of index 2: the projected pencil, against the dense descriptor route."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sparse

import lti
from lti.systems.index_one import algebraic_part
from lti.systems.index_two import IndexTwoPencil
from tests.lti.helpers import same_response


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
    """Products and solutions are those of the matrices that it stands for."""
    sys = stokes(**form)
    pencil = sys.finite_part.pencil
    eye = np.eye(pencil.order)
    A, E = pencil.product(1.0, 0.0, eye), pencil.product(0.0, 1.0, eye)
    rows, columns = algebraic_part(sys.E)
    np.testing.assert_allclose(E, sys.E[~rows][:, ~columns].toarray(), atol=1e-12)
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
    assert isinstance(reduction.original.pencil.of, IndexTwoPencil)
    assert reduction.original.order == 400
    w = np.array([0.0, 0.3, 2.0])  # held against the system as it was given
    for point in w:
        G = sys.C @ np.linalg.solve(1j * point * sys.E.toarray() - sys.A.toarray(), sys.B) + sys.D
        error = lti.frequency_response(reduction.system, [point])[0] - G
        assert np.linalg.norm(error, 2) <= reduction.error_bound


def test_refusals():
    sys = stokes()
    with pytest.raises(lti.OptionError, match="an input acts on the algebraic equations"):
        lti.balance(lti.SparseStateSpace(sys.A, np.ones_like(sys.B), sys.C, E=sys.E))
    n, k = 6, 2
    G = sparse.csc_array(np.ones((n, k)))  # two equal constraints
    A = sparse.block_array([[-sparse.eye(n), G], [G.T, None]], format="csc")
    E = sparse.block_diag([sparse.eye(n), sparse.csc_array((k, k))], format="csc")
    B = np.eye(n + k, 1)
    with pytest.raises(lti.OptionError, match="index above 2, or is singular"):
        lti.balance(lti.SparseStateSpace(A, B, B.T, E=E))
