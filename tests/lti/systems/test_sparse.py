"""Sparse systems: what they accept, how they respond, and when they become dense."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sparse
import torch

import lti
from lti.systems.sparse import SMALL
from tests.lti.helpers import same_response
from tests.lti.sparse_systems import random_pencil, rod

W = np.array([0.0, 0.1, 1.0, 30.0])
FORMS = {
    "identity": {"E": None},
    "definite": {"E": "spd"},
    "nonsymmetric": {"E": "any"},
    "complex": {"E": "any", "is_complex": True},
    "discrete": {"E": "any", "dt": 0.5},
}


@pytest.mark.parametrize("m", [1, 4], ids=["few inputs", "few outputs"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_responds_as_its_dense_form(form, m):
    sys = random_pencil(m=m, **form)
    dense = sys.small_dense()
    w = np.append(W, -3.0) if sys.dt == 0 else W[:3]
    expected = lti.frequency_response(dense, w)
    found = lti.frequency_response(sys, w)
    assert np.abs(found - expected).max() < 1e-12 * np.abs(expected).max()
    gain = lti.dcgain(sys)
    assert np.abs(gain - lti.dcgain(dense)).max() < 1e-12 * np.abs(expected).max()
    assert gain.dtype == (complex if form.get("is_complex") else float)


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil", "dia"])
def test_any_sparse_format_and_array_or_matrix(form):
    sys = rod(20)
    for make in (sparse.csr_matrix, sparse.csr_array):
        A = make(sys.A).asformat(form)
        other = lti.as_statespace((A, sparse.csr_array(sys.B), sys.C), 0.5)
        assert isinstance(other, lti.SparseStateSpace) and other.dt == 0.5
        assert (other.A != sys.A).nnz == 0 and type(other.B) is np.ndarray


def test_says_what_it_is():
    sys = lti.SparseStateSpace(*rod(9).matrices[:3], dt=0.1, labels=lti.Labels(inputs=["heat"]))
    assert repr(sys) == "SparseStateSpace(order=9, inputs=1, outputs=1, discrete dt=0.1, float64)"
    assert sys.labels.inputs == ("heat",) and not sys.D.any() and sys.batch_shape == ()


A, B, C = (rod(5).A, np.ones((5, 1)), np.ones((1, 5)))
WRONG = [
    ((A[:4], B, C), {}, lti.DimensionError, "A must be square"),
    ((A, B[:4], C), {}, lti.DimensionError, r"B has shape \(4, 1\) but A has 5 states"),
    ((A, B, C[:, :4]), {}, lti.DimensionError, "C has shape"),
    ((A, B, C, np.ones((2, 2))), {}, lti.DimensionError, "D has shape"),
    ((A, B, C), {"E": sparse.eye(4)}, lti.DimensionError, r"E has shape \(4, 4\) but A \(5, 5\)"),
    ((A * np.nan, B, C), {}, lti.NonFiniteError, "A has 13 entries"),
    ((A, B * np.inf, C), {}, lti.NonFiniteError, "B has 5 entries"),
    ((A, B, C), {"E": sparse.eye(5) * np.nan}, lti.NonFiniteError, "E has 5"),
    ((A, B, C), {"dt": -1}, lti.TimebaseError, "dt=-1"),
    ((A, B, C), {"labels": lti.Labels(inputs=["a", "b"])}, lti.DimensionError, "1 inputs but 2"),
    ((None, B, C), {}, lti.DimensionError, "A must be square"),
    ((np.ones(5), B, C), {}, lti.DimensionError, "A must be a matrix"),
    ((A, np.array([["x"]] * 5), C), {}, lti.DimensionError, "numbers"),
]


@pytest.mark.parametrize(("matrices", "options", "error", "message"), WRONG)
def test_refuses_what_is_no_system(matrices, options, error, message):
    with pytest.raises(error, match=message):
        lti.SparseStateSpace(*matrices, **options)


def test_a_frequency_at_a_pole_is_refused():
    n = 4
    sys = lti.SparseStateSpace(sparse.csc_array((n, n)), np.ones((n, 1)), np.ones((1, n)))
    with pytest.raises(lti.OptionError, match="pole at frequency zero"):
        lti.frequency_response(sys, [0.0])
    with pytest.raises(lti.OptionError, match="pole at frequency zero"):
        lti.dcgain(sys)
    moved = lti.SparseStateSpace(sparse.eye_array(n) * 1j, sys.B, sys.C)
    with pytest.raises(lti.OptionError, match="singular"):
        lti.frequency_response(moved, [1.0])


@pytest.mark.parametrize("dt", [0, True])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("with_E", [False, True])
def test_a_sparse_integrator_in_any_units_has_no_gain_at_zero(with_E, seed, dt):
    n, rng = 300, np.random.default_rng(seed)
    between = rng.uniform(0.5, 2.0, n - 1)  # conductances of a bar that no end cools
    L = sparse.diags_array([between, between], offsets=[-1, 1])
    L = L - sparse.diags_array(L.sum(axis=1))
    row, column = (sparse.diags_array(10.0 ** rng.uniform(-4, 4, n)) for _ in "ab")
    M = sparse.diags_array(rng.uniform(0.5, 2.0, n))

    def in_units(A):
        if with_E:
            E = row @ M @ column
            return lti.SparseStateSpace(row @ A @ column + E * bool(dt), b, b.T, E=E, dt=dt)
        A = sparse.linalg.inv(column.tocsc()) @ A @ column
        return lti.SparseStateSpace(A + sparse.eye_array(n) * bool(dt), b, b.T, dt=dt)

    b = np.eye(n)[:, :1]
    for of in (lti.dcgain, lambda G: lti.frequency_response(G, [0.0])):
        with pytest.raises(lti.OptionError, match="pole at frequency zero"):
            of(in_units(0.1 * L))
        cooled = of(in_units(0.1 * L - sparse.diags_array(np.eye(n)[-1] * 1e-3)))
        assert np.isfinite(cooled).all()


def leaking_line(n=2000, leak=1e-8):
    """Stable, with a gain of 1 / leak, and four digits or more."""
    g, b = np.ones(n - 1), np.eye(1, n, n - 1).T
    D = np.append(g, 0) + np.append(0, g)
    D[0] += leak
    A = sparse.diags_array([g, -D, g], offsets=[-1, 0, 1])
    return lti.SparseStateSpace(A, b, b.T, E=1e-12 * sparse.eye_array(n)), 1 / leak + n - 1


def beam(n=500):
    """Simply supported, with the exact deflection of its middle."""
    L, b = sparse.diags_array([1.0, -2, 1], offsets=[-1, 0, 1], shape=(n, n)), np.zeros((n, 1))
    b[n // 2] = 1.0
    x = np.arange(1, n + 1)
    green = np.minimum(x, n // 2 + 1) * (n + 1 - np.maximum(x, n // 2 + 1)) / (n + 1)
    return lti.SparseStateSpace(-(L @ L), b, b.T), float(green @ green)


@pytest.mark.parametrize("made", [leaking_line, beam])
def test_a_large_gain_is_no_integrator(made):
    sys, expected = made()
    assert lti.dcgain(sys).item() == pytest.approx(expected, rel=1e-4)
    assert lti.frequency_response(sys, [0.0]).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("k", [150, 301])
def test_a_free_chain_of_second_order_has_no_gain_at_zero(k):
    g = np.random.default_rng(1).uniform(0.5, 2, k - 1)
    K = sparse.diags_array([-g, np.append(g, 0) + np.append(0, g), -g], offsets=[-1, 0, 1])
    b = np.eye(k)[:, :1]
    sys = lti.second_order(sparse.eye_array(k), 0.01 * K, K, b, b.T)
    for of in (lti.dcgain, lambda G: lti.frequency_response(G, [0.0])):
        with pytest.raises(lti.OptionError, match="pole at frequency zero"):
            of(sys)
    held = lti.second_order(sparse.eye_array(k), 0.01 * K, K + 1e-3 * sparse.eye_array(k), b, b.T)
    assert 0 < lti.dcgain(held) < 1e4


@pytest.mark.parametrize("dt", [0, 0.5])
def test_poles_are_those_closest_to_the_origin_or_to_one(dt):
    n = SMALL + 50
    sys = rod(n, dt=dt)
    expected = sys.small_dense().poles
    expected = expected[np.argsort(abs(expected - (1 if dt else 0)))][: len(sys.poles)]
    found = sys.poles[np.argsort(abs(sys.poles - (1 if dt else 0)))]
    assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()
    small = rod(20, dt=dt)
    assert len(small.poles) == 20


DENSE = {
    "hinf_norm": lti.hinf_norm,
    "h2_norm": lti.h2_norm,
    "controllability_gramian": lti.controllability_gramian,
    "minimal": lti.minimal,
    "step_response": lambda sys: lti.step_response(sys, np.linspace(0, 1, 5)),
    "series": lambda sys: lti.series(sys, sys),
    "feedback": lambda sys: lti.feedback(sys, sys),
    "discretize": lambda sys: lti.discretize(sys, 0.1),
    "bilinear": lti.bilinear,
    "freqsep": lambda sys: lti.freqsep(sys, 50.0),
    "modal": lambda sys: lti.modal_truncation(sys, order=3).system,
    "hankel_norm_approximation": lambda sys: lti.hankel_norm_approximation(sys, order=2).system,
    "diagonalize": lti.diagonalize,
}


@pytest.mark.parametrize("name", DENSE)
def test_other_functions_make_it_dense_and_say_so(name):
    sys = rod(12)
    with pytest.warns(lti.DenseWarning, match="12 x 12"):
        found = DENSE[name](sys)
    expected = DENSE[name](sys.small_dense())
    for one, other in zip(*(x if isinstance(x, tuple) else (x,) for x in (found, expected)),
                          strict=True):  # fmt: skip
        if hasattr(one, "B"):
            assert same_response(one, other, 1e-9) is None
        else:
            np.testing.assert_allclose(one, other, rtol=1e-9)


def test_large_systems_are_not_made_dense():
    n = 20_001
    sys = lti.SparseStateSpace(-sparse.eye(n), np.ones((n, 1)), np.ones((1, n)))
    with pytest.raises(lti.DimensionError, match="20,001 states is too large"):
        lti.hinf_norm(sys)


def test_torch_tensors_are_refused():
    with pytest.raises(lti.DimensionError, match="B is a torch tensor"):
        lti.SparseStateSpace(A, torch.ones(5, 1), C)


def test_stays_sparse():
    with warnings.catch_warnings():
        warnings.simplefilter("error", lti.DenseWarning)
        sys = rod(600)
        lti.frequency_response(sys, W)
        reduction = lti.balanced_truncation(sys, order=3)
        reduction.verify()
        assert reduction.original is sys


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("n", [40, 700])
def test_matrices_of_the_user_stay_as_they_are(n, index):
    # Products of sparse matrices are not sorted, and decompositions sort in place
    E = sparse.diags([0.2, 1.0, 0.2], [-1, 0, 1], shape=(n, n)).tocsc()
    blocks = [[[-0.1 * w, w], [-w, -0.1 * w]] for w in np.geomspace(1, 30, n // 2)]
    A = E @ sparse.block_diag(blocks, format="csc")
    A.indices, A.indptr = A.indices.astype(index), A.indptr.astype(index)
    assert not A.has_sorted_indices
    before, B = [x.copy() for x in (A.data, A.indices, E.data, E.indices)], np.ones((n, 1))
    sys = lti.SparseStateSpace(A, E @ B, B.T, E=E)
    lti.balanced_truncation(sys, 4)
    lti.frequency_response(sys, [1.0])
    for x, old in zip((A.data, A.indices, E.data, E.indices), before, strict=True):
        np.testing.assert_array_equal(x, old)
    blocks = lti.StateSpace(sparse.block_diag(blocks).toarray(), B, B.T)
    if n < SMALL:
        expected = lti.hankel_singular_values(blocks)
        np.testing.assert_allclose(lti.hankel_singular_values(sys), expected, atol=1e-9)
