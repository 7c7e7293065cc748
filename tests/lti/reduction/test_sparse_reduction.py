"""Reductions of sparse systems: the dense results, a certificate that says what it estimates."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sparse
from scipy.io import loadmat

import lti
from lti.reduction import sampled
from lti.systems import split
from tests.lti.helpers import claiming, same_response
from tests.lti.sparse_systems import UNSTABLE, ports, random_pencil, rod

SYSTEMS = {
    "rod": lambda: rod(50, m=2, p=3),
    "nonsymmetric": lambda: random_pencil(E="any"),
    "complex": lambda: random_pencil(E="any", is_complex=True),
    "discrete": lambda: random_pencil(E="any", dt=0.5),
}


@pytest.mark.parametrize("method", [lti.balanced_truncation, lti.singular_perturbation])
@pytest.mark.parametrize("make", SYSTEMS.values(), ids=SYSTEMS)
def test_agrees_with_the_dense_route(make, method):
    sys = make()
    found, expected = method(sys, order=4), method(sys.small_dense(), order=4)
    same_response(found.system, expected.system, 1e-8)
    for name in ("lower_bound", "error_bound"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-6)
    assert found.original is sys and found.order == 4
    E = sys.pencil.product(0.0, 1.0, np.eye(sys.order))
    np.testing.assert_allclose(found.W @ E @ found.T, np.eye(4), atol=1e-9)
    assert found.verify() == pytest.approx(expected.verify(), rel=1e-6)


def test_balancing_free_and_energy():
    sys = rod(50, m=2, p=3)
    plain = lti.balanced_truncation(sys, energy=0.999)
    free = lti.balanced_truncation(sys, energy=0.999, method="balancing-free")
    assert plain.order == free.order
    same_response(plain.system, free.system, 1e-9)


def test_a_tolerance_is_kept():
    sys = rod(700)
    reduction = lti.balanced_truncation(sys, tol=1e-4, relative=True)
    limit = 1e-4 * reduction.hsv[0]
    assert reduction.error_bound <= limit
    assert 0 < reduction.verify() <= reduction.error_bound
    assert "measured at least" in str(reduction)
    assert any("the bound is an estimate" in flag for flag in reduction.flags)
    smaller = lti.balanced_truncation(sys, order=reduction.order - 1)
    assert smaller.error_bound > limit


def test_the_sampled_error_is_close_to_the_norm(monkeypatch):
    """Of lightly damped modes too, whose error has sharp peaks."""
    for sys in (rod(60, m=2, p=2), random_pencil(60, E="any", seed=4), rod(60, dt=0.1)):
        reduction = lti.balanced_truncation(sys, order=4)
        exact = reduction.verify()
        monkeypatch.setattr(sampled, "SMALL", 10)
        found, w = reduction.verify(return_frequency=True)
        monkeypatch.undo()
        assert 0.99 * exact < found <= exact * (1 + 1e-9)
        response = lti.frequency_response(sys, [w]) - lti.frequency_response(reduction.system, [w])
        assert np.linalg.norm(response[0], 2) == pytest.approx(found)


def test_a_measured_error_above_the_bound_is_refused():
    reduction = lti.balanced_truncation(rod(600), order=2)
    wrong = claiming(reduction, error_bound=reduction.error_bound / 100)
    with pytest.raises(lti.CertificateError):
        wrong.verify()


def test_a_tolerance_below_what_is_known_is_refused():
    with pytest.raises(lti.OrderError, match="low-rank factors of the sparse system give"):
        lti.balanced_truncation(rod(300), tol=1e-30)


@pytest.mark.parametrize(
    "options",
    [{"frequencies": (0, 1)}, {"times": (0, 1)}, {"weighting": "wang"},
     {"input_weight": lti.StateSpace([[-1.0]], [[1.0]], [[1.0]])},
     {"gramians": lambda G: None}],
)  # fmt: skip
def test_dense_options_are_refused(options):
    with pytest.raises(lti.OptionError, match="needs dense matrices"):
        lti.balance(rod(20), **options)


def test_user_supplied_factors():
    """Balanced POD: factors from snapshots, of the states and of the dual system."""
    sys = rod(60)
    S, R = lti.gramian_factors(sys)
    states = lti.GramianFactor(S, "observed", 1)
    reduction = lti.balanced_truncation(sys, order=3, controllability=states, observability=R)
    expected = lti.balanced_truncation(sys, order=3)
    assert reduction.method == "balanced truncation, Gramians observed, user-supplied"
    assert np.isinf(reduction.error_bound)
    same_response(reduction.system, expected.system, 1e-9)
    with pytest.raises(lti.DimensionError, match="60 states"):
        lti.balance(sys, controllability=S[:5])


def test_snapshots_give_the_values_of_the_gramians():
    """The script of the examples: impulse responses of a simulator and of its adjoint."""
    example = runpy.run_path(str(Path(__file__).parents[3] / "examples" / "balanced_pod.py"))
    sys = example["plate"](16)
    P, Q = example["factor"](sys.A, sys.B), example["factor"](sys.A.T.tocsc(), sys.C.T)
    assert P.samples == 288
    observed = lti.balance(sys, controllability=P, observability=Q)
    exact = lti.balance(sys)
    np.testing.assert_allclose(observed.hsv[:6], exact.hsv[:6], rtol=0.05)
    errors = [x.truncate(4).verify() for x in (observed, exact)]
    assert errors[0] == pytest.approx(errors[1], rel=0.05)


@pytest.mark.parametrize("name", ["rail_371", "rail_1357"])
def test_rail(data_file, name):
    m = loadmat(data_file(f"sparse/{name}.mat"))
    sys = lti.SparseStateSpace(m["A"], m["B"], m["C"], E=m["E"])
    reduction = lti.balanced_truncation(sys, tol=1e-3)
    assert reduction.lower_bound <= reduction.verify() <= reduction.error_bound <= 1e-3
    if name == "rail_371":
        dense = lti.balanced_truncation(sys.small_dense(), tol=1e-3)
        assert reduction.order == dense.order
        more = reduction.error_bound / dense.error_bound - 1  # what the low-rank factors leave out
        assert -1e-6 <= more <= 1e-5


@pytest.mark.filterwarnings("ignore::lti.ReductionWarning")
@pytest.mark.parametrize("seed", [2, 5])
def test_the_bound_counts_the_rounding_of_large_factors(seed):
    # Strongly non-normal: |S| |R| is 1e13 of the smallest value
    n, rng = 520, np.random.default_rng(seed)
    A = sparse.diags([1.0, -2.1, 0.9], [-1, 0, 1], shape=(n, n))
    B, C = rng.standard_normal((n, 1)), rng.standard_normal((1, n))
    sys = lti.SparseStateSpace(A, B, C)
    reduction = lti.balanced_truncation(sys, 10)
    assert reduction.verify() <= reduction.error_bound


@pytest.mark.parametrize(
    "method",
    [lti.balanced_truncation, pytest.param(lti.singular_perturbation, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("name", UNSTABLE)
def test_unstable_poles_are_split_off(name, method):
    """As by the dense route: they are kept, and the bound is one of the stable part."""
    make, poles = UNSTABLE[name]
    sys, k = make(), len(UNSTABLE[name][1])
    found = method(sys, order=k + 6, unstable="split")
    expected = method(sys.small_dense(), order=k + 6, unstable="split")
    assert found.order == k + 6 and np.isinf(found.hsv[:k]).all() and len(found.hsv) == sys.order
    np.testing.assert_allclose(found.hsv[k : k + 6], expected.hsv[k : k + 6], rtol=1e-7)
    w = np.array([0.01, 0.1, 1.0, 3.0])  # zero may be a pole
    one, other = (lti.frequency_response(x.system, w) for x in (found, expected))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-7 * abs(other).max())
    for bound in ("lower_bound", "error_bound"):
        assert getattr(found, bound) == pytest.approx(getattr(expected, bound), rel=1e-4)
    E = sys.pencil.product(0.0, 1.0, np.eye(sys.order))
    np.testing.assert_allclose(found.W @ E @ found.T, np.eye(k + 6), atol=1e-7)
    assert found.lower_bound <= found.verify() <= found.error_bound
    with pytest.raises(lti.OrderError, match="unstable poles"):
        method(sys, order=k - 1, unstable="split")


def test_a_small_system_is_split_by_its_dense_form():
    sys = rod(60)
    poles = np.sort(sys.poles.real)
    alpha = float(poles[-3:-1].mean())
    found = lti.balanced_truncation(sys, order=5, unstable="split", alpha=alpha)
    expected = lti.balanced_truncation(sys.small_dense(), order=5, unstable="split", alpha=alpha)
    assert np.isinf(found.hsv).sum() == np.isinf(expected.hsv).sum() == 2
    same_response(found.system, expected.system, 1e-8)
    plain = lti.balanced_truncation(rod(20), order=2, unstable="split")  # nothing to split
    assert plain.order == 2 and np.isfinite(plain.hsv).all()


def slow_and_fast(n=260, dt=0.0):
    """Six slow poles, two of them a pair, and fast ones."""
    place = np.append([-0.1, -0.2, -0.5, -0.6], -np.linspace(2, 90, n - 4))
    A = np.diag(place)
    A[1:3, 1:3] = [[-0.2, 3.0], [-3.0, -0.2]]
    A = np.linalg.solve(np.eye(n) - 0.01 * A, np.eye(n) + 0.01 * A) if dt else A
    return lti.SparseStateSpace(A, *ports(n), dt=dt)


@pytest.mark.parametrize("k, alpha", [(1, -0.15), (3, -0.4), (4, -1.0), (9, -3.5)])
@pytest.mark.parametrize("dt", [0, 0.02])
def test_poles_beyond_another_boundary_are_kept(dt, k, alpha):
    """As by the dense route, of a system that is too large for it."""
    sys = slow_and_fast(dt=dt)
    alpha = (1 + 0.01 * alpha) / (1 - 0.01 * alpha) if dt else alpha
    found = lti.balanced_truncation(sys, order=k + 5, unstable="split", alpha=alpha)
    expected = lti.balanced_truncation(
        sys.small_dense(), order=k + 5, unstable="split", alpha=alpha
    )
    assert np.isinf(found.hsv).sum() == np.isinf(expected.hsv).sum() == k
    np.testing.assert_allclose(found.hsv[k : k + 5], expected.hsv[k : k + 5], rtol=1e-7)
    same_response(found.system, expected.system, 1e-7)
    assert found.lower_bound <= found.verify() <= found.error_bound
    with pytest.raises(lti.OptionError, match="alpha must be"):
        lti.balance(sys, unstable="split", alpha=1.5)


def test_too_many_poles_beyond_another_boundary_are_refused(monkeypatch):
    monkeypatch.setattr(split, "MOST", 20)
    with pytest.raises(lti.DefectiveError, match="20 at most are split off"):
        lti.balance(slow_and_fast(), unstable="split", alpha=-60.0)


def test_snapshots_of_a_system_that_is_split():
    """Factors that a user supplies count with their stable part only."""
    sys = UNSTABLE["hot spot"][0]()
    exact = lti.balance(sys, unstable="split")
    S = exact.factors.S + exact.parts.T @ np.ones((1, exact.factors.S.shape[1]))
    R = exact.factors.R + exact.parts.W.T @ np.ones((1, exact.factors.R.shape[1]))
    found = lti.balance(sys, unstable="split", controllability=S, observability=R).truncate(6)
    same_response(found.system, exact.truncate(6).system, 1e-8)


def test_unstable_algebraic_equations():
    """Index 1: the unstable poles are those of the finite part."""
    sys = UNSTABLE["hot spot"][0]()
    A = sparse.block_diag([sys.A, -2 * sparse.eye(2)], format="lil")
    A[0, 300] = A[301, 5] = 0.5
    E = sparse.diags(np.append(np.ones(300), [0.0, 0.0]))
    B, C = np.vstack([sys.B, np.ones((2, 2))]), np.hstack([sys.C, np.ones((2, 2))])
    found = lti.balanced_truncation(lti.SparseStateSpace(A, B, C, E=E), order=8, unstable="split")
    dense = lti.StateSpace.from_descriptor(E.toarray(), A.toarray(), B, C)
    same_response(found.system, lti.balanced_truncation(dense, order=8, unstable="split").system,
                  1e-7)  # fmt: skip
