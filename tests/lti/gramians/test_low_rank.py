"""Low-rank factors of sparse systems: residuals, dense values, shared decompositions."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sparse
from scipy.io import loadmat

import lti
from lti.gramians import low_rank
from lti.gramians.low_rank import low_rank_factors
from lti.systems import rightmost
from tests.lti.sparse_systems import chain, masses, random_pencil, rod

FORMS = {
    "identity": lambda seed: random_pencil(E=None, seed=seed),
    "definite": lambda seed: random_pencil(E="spd", seed=seed),
    "nonsymmetric": lambda seed: random_pencil(E="any", seed=seed),
    "complex": lambda seed: random_pencil(E="any", is_complex=True, seed=seed),
    "discrete": lambda seed: random_pencil(E="any", dt=0.5, seed=seed),
    "discrete, complex": lambda seed: random_pencil(E="any", dt=True, is_complex=True, seed=seed),
    "rod": lambda seed: rod(60, m=2, p=3),
    "rod, discrete": lambda seed: rod(60, dt=True),
}


def residuals(sys, S, R):
    """Both equations as they stand, relative to the constant term."""
    A, E = sys.A.toarray(), np.eye(sys.order) if sys.E is None else sys.E.toarray()
    dual = (A.conj().T, E.conj().T, sys.C.conj().T, R)
    for K, M, B, Z in ((A, E, sys.B, S), dual):
        AS, ES, Q = K @ Z, M @ Z, B @ B.conj().T
        if sys.is_discrete:
            found = AS @ AS.conj().T - ES @ ES.conj().T + Q
        else:
            found = AS @ ES.conj().T + ES @ AS.conj().T + Q
        yield np.linalg.norm(found, 2) / np.linalg.norm(Q, 2)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)
def test_residuals_and_values(make, seed):
    sys = make(seed)
    found = low_rank_factors(sys)
    assert found.S.dtype == found.R.dtype == np.result_type(sys.A, sys.B)
    rounding = 1e-14 * np.linalg.cond(sys.pencil.product(0.0, 1.0, np.eye(sys.order)))
    for residual, stated in zip(residuals(sys, found.S, found.R), found.residuals, strict=True):
        # What was dropped, 1e-8 of the factor, adds to the residual of the iteration
        assert residual < 1e-9 + rounding and stated <= 1e-10
    values, exact = lti.hankel_singular_values(sys), lti.hankel_singular_values(sys.small_dense())
    assert np.abs(values - exact[: len(values)]).max() < 1e-9 * exact[0]
    assert (values <= exact[: len(values)] + 1e-13 * exact[0]).all()  # from below


@pytest.mark.parametrize("tol", [1e-4, 1e-7, 1e-10])
@pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)
def test_the_estimate_covers_what_a_loose_tolerance_hides(make, tol):
    sys = make(3)
    found = low_rank_factors(sys, tol)
    values = np.linalg.svd(found.R.conj().T @ sys.times_E(found.S), compute_uv=False)
    exact = lti.hankel_singular_values(sys.small_dense())
    assert exact.sum() - values.sum() <= found.hidden + 1e-12 * exact.sum()


@pytest.mark.parametrize("name", ["rail_371", "rail_1357"])
def test_rail(data_file, name):
    """Published: 0.25448127, 0.03768161, 0.02831029 and twice the tail 1.05e-4 for n = 1357."""
    m = loadmat(data_file(f"sparse/{name}.mat"))
    sys = lti.SparseStateSpace(m["A"], m["B"], m["C"], E=m["E"])
    found = low_rank_factors(sys)
    assert found.S.shape[1] < 180 and found.R.shape[1] < 180 and found.solves < 100
    values = np.linalg.svd(found.R.T @ sys.times_E(found.S), compute_uv=False)
    if name == "rail_371":
        exact = lti.hankel_singular_values(sys.small_dense())
        assert np.abs(values - exact[: len(values)]).max() < 1e-10 * exact[0]
    else:
        np.testing.assert_allclose(values[:3], [0.25448127, 0.03768161, 0.02831029], atol=5e-9)
        assert values[20] == pytest.approx(4.465e-4, rel=1e-4)
        assert 2 * values[40:].sum() == pytest.approx(1.05e-4, rel=1e-2)


def test_values_do_not_depend_on_the_basis():
    """(L A R, L B, C R, L E R) is the same system."""
    sys = random_pencil(E="any", seed=5)
    rng = np.random.default_rng(0)
    n = sys.order
    L, R = (
        sparse.diags(rng.uniform(0.1, 10, n)) @ sparse.eye(n, format="csr")[rng.permutation(n)]
        for _ in range(2)
    )
    other = lti.SparseStateSpace(L @ sys.A @ R, L @ sys.B, sys.C @ R, sys.D, L @ sys.E @ R)
    one, two = (lti.hankel_singular_values(x)[:8] for x in (sys, other))
    np.testing.assert_allclose(one, two, atol=1e-8 * one[0])


def test_both_equations_share_decompositions(monkeypatch):
    sys, counted = rod(80, m=2, p=2), []
    assert (sys.poles.real < 0).all()  # known from then on
    factor = type(sys.pencil).factor
    monkeypatch.setattr(
        type(sys.pencil), "factor", lambda self, *at: counted.append(at) or factor(self, *at)
    )
    found = low_rank_factors(sys)
    assert len(counted) == found.solves
    assert all(type(shift) is float for _, shift in counted)  # real shifts: real arithmetic
    assert min(found.S.shape[1], found.R.shape[1]) > 2


def test_no_input_or_no_output():
    A = rod(30).A
    found = low_rank_factors(lti.SparseStateSpace(A, np.zeros((30, 1)), np.ones((1, 30))))
    assert found.S.shape == (30, 0) and found.R.shape[1] > 3
    empty = lti.SparseStateSpace(A, np.zeros((30, 0)), np.zeros((0, 30)))
    S, R = lti.gramian_factors(empty)
    assert S.shape == R.shape == (30, 0) and lti.hankel_singular_values(empty).size == 0


def test_inputs_that_repeat_others_take_no_columns():
    sys = rod(40)
    twice = lti.SparseStateSpace(sys.A, np.hstack([sys.B, 2 * sys.B]), sys.C, E=sys.E)
    assert low_rank_factors(twice).S.shape == low_rank_factors(sys).S.shape


def test_an_unstable_pole_is_named(monkeypatch):
    n = 300
    A = (rod(n).A * 0.0).tolil()
    A.setdiag(-np.linspace(1.0, 300.0, n))
    A[0, 0] = 0.5
    sys = lti.SparseStateSpace(A, np.ones((n, 1)), np.ones((1, n)))
    with pytest.raises(lti.UnstableError, match="0.5"):
        lti.gramian_factors(sys)
    # Far from zero, and overlooked by the search for poles
    monkeypatch.setattr(rightmost, "suspects", lambda *_: ([], np.zeros(0)))
    A[0, 0], A[1, 1], A[1, 0], A[0, 1] = 0.1, 0.1, -1000.0, 1000.0
    A.setdiag(1e-3, 1)  # a ring, so that no block shows it
    A[0, 1], A[n - 1, 0] = 1000.0, 1e-3
    sys = lti.SparseStateSpace(A, np.ones((n, 1)), np.ones((1, n)))
    with pytest.raises(lti.UnstableError, match=r"grows: a pole near 0\.1.*1000j"):
        lti.gramian_factors(sys)


def test_no_convergence_is_an_error(monkeypatch):
    monkeypatch.setattr(low_rank, "MOST", 3)
    with pytest.raises(lti.ConvergenceError, match="after 3 decompositions"):
        low_rank_factors(rod(50))


@pytest.mark.parametrize("n", [20, 300])
def test_a_singular_E_is_refused(n):
    """One whose algebraic equations do not show as zero rows."""
    sys, E = rod(n), sparse.eye(n, format="lil")
    E[0, 1] = E[1, 0] = 1.0
    with pytest.raises(lti.OptionError, match="singular"):
        lti.balance(lti.SparseStateSpace(sys.A, sys.B, sys.C, E=E))


@pytest.mark.parametrize("b, c", [(1e200, 1e-200), (1e170, 1.0), (1e-200, 1.0), (3e-160, 1e-140)])
def test_values_of_any_magnitude(b, c):
    sys = FORMS["nonsymmetric"](0)
    usual = lti.hankel_singular_values(sys)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = lti.hankel_singular_values(replace(sys, B=b * sys.B, C=c * sys.C))
    np.testing.assert_allclose(found[:5], b * c * usual[:5], rtol=1e-10)


@pytest.mark.parametrize("turned", [False, True])
def test_inputs_and_outputs_of_very_different_gain(turned):
    """The bound is about as tight as that of the dense route."""
    sys, turn = rod(210, m=2, p=2), np.array([[0.6, -0.8], [0.8, 0.6]])
    B, C = sys.B * [1.0, 1e8], sys.C * [[1e8], [1.0]]
    sys = replace(sys, B=B @ turn, C=turn @ C) if turned else replace(sys, B=B, C=C)
    found, dense = (lti.balance(x) for x in (sys, sys.small_dense()))
    for order in (8, 16):
        assert found.error_bound(order) == pytest.approx(dense.error_bound(order), rel=0.3)


def undamped_at(k, *places):
    """Dampers at all masses but some."""
    d = np.ones(k)
    d[list(places)] = 0.0
    return d


SKEW = {
    "driven mass": masses(20, undamped_at(20, 0)),
    "in the middle": masses(31, undamped_at(31, 15), [15]),
    "every second": masses(20, np.arange(20) % 2, [0, 2]),
    "absorbing end": masses(30, np.arange(30) == 29),
    "more than 200 states": masses(110, undamped_at(110, 0)),
}


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("name", SKEW)
def test_shifts_where_A_is_skew_on_the_inputs(name, plain):
    """There B^T A B is zero: the pencil, projected on B, has no pole that is a shift."""
    sys, dense = SKEW[name], SKEW[name].small_dense()
    if plain:
        sys = lti.SparseStateSpace(dense.A, dense.B, dense.C)
    found, expected = lti.hankel_singular_values(sys), lti.hankel_singular_values(dense)
    found = np.pad(found, (0, len(expected) - len(found)))
    np.testing.assert_allclose(found, expected, atol=1e-6 * expected[0])


@pytest.mark.parametrize("kind", ["position", "symmetric"])
def test_second_order_truncation_without_a_damper_at_the_input(kind):
    _, reduction = lti.second_order_truncation(SKEW["driven mass"], 8, kind)
    assert reduction.verify() < 0.05


@pytest.mark.filterwarnings("ignore::lti.ReductionWarning")
@pytest.mark.parametrize(
    ("n", "gain", "back", "lower"),
    [
        (150, 1.5, 0.0, False),
        (300, 1.5, 0.0, False),
        (300, 1.5, 0.0, True),
        (300, 1.5, 1e-3, False),
    ],
)
def test_far_from_normal_the_dense_form_has_the_values(n, gain, back, lower):
    """Projected poles are unstable there, and the iteration diverges: the system does not."""
    A, b, c = chain(n, gain, back), np.eye(n)[:, [40]], np.eye(1, n)
    A, b, c = (A.T, c.T, b.T) if lower else (A, b, c)
    sys = lti.SparseStateSpace(A, b, c)
    expected = lti.balanced_truncation(lti.StateSpace(A.toarray(), b, c), 5)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = lti.balanced_truncation(sys, 5)
    assert any(x.category is lti.errors.DenseWarning for x in said) == (n > 200)
    assert found.error_bound == pytest.approx(float(expected.error_bound), rel=1e-5)
    assert found.verify() == pytest.approx(float(expected.verify()), rel=1e-5)


@pytest.mark.parametrize("E", [None, "any"])
@pytest.mark.parametrize("dt", [0, 0.5])
def test_dense_factors_are_those_of_the_same_equations(dt, E, monkeypatch):
    sys = random_pencil(E=E, dt=dt)
    expected = lti.hankel_singular_values(sys)
    monkeypatch.setattr(low_rank, "MOST", 2)
    S, R = lti.gramian_factors(sys)
    assert max(residuals(sys, S, R)) < 1e-11
    np.testing.assert_allclose(lti.hankel_singular_values(sys), expected, atol=1e-8 * expected[0])


@pytest.mark.parametrize(("gain", "back"), [(1.5, 0.0), (4.0, 0.0), (1.5, 1e-3)])
def test_a_large_system_far_from_normal_does_not_converge(gain, back):
    """And is not called unstable: its poles are about -1."""
    n = 2000
    sys = lti.SparseStateSpace(chain(n, gain, back), np.eye(n)[:, [40]], np.eye(1, n))
    with pytest.raises(lti.ConvergenceError, match="far from normal|far more than it is driven"):
        lti.hankel_singular_values(sys)


@pytest.mark.filterwarnings("ignore::lti.DenseWarning")
def test_what_rounding_makes_unstable_does_not_converge():
    """The dense form of the dual of that chain has eigenvalues at 0.3, and is no proof either."""
    n = 300
    A = chain(n, 1.5, 1e-3).T
    sys = lti.SparseStateSpace(A, np.eye(n, 1), np.eye(n)[[40]])
    assert sys.small_dense().poles.real.max() > 0.1
    with pytest.raises(lti.ConvergenceError):
        lti.hankel_singular_values(sys)
