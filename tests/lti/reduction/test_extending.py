"""Extension points from outside: a reduction method, a factor, a pair of Gramians with a claim."""

import inspect

import numpy as np
import pytest
from scipy.linalg import solve_continuous_are, solve_discrete_are

import lti
from lti.cli import main
from lti.reduction import methods
from lti.reduction.options import BalanceOptions
from tests.lti.helpers import random_dense


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(methods, "_METHODS", dict(methods._METHODS))


def leading(balancing, order):
    G, T, W = balancing.coordinates(order)
    A, B, C = G.A[..., :order, :order], G.B[..., :order, :], G.C[..., :order]
    return lti.StateSpace(A, B, C, G.D, G.dt), T[..., :order], W[..., :order, :]


# ------------------------------------------------------------------ methods


def test_the_four_methods_enter_by_the_same_door():
    names = {"balanced-truncation", "singular-perturbation", "hankel-norm", "modal"}
    assert names <= set(methods.method_names())
    sys = random_dense(6, dt=True)
    balancing = lti.balance(sys)
    for name, function in (
        ("balanced-truncation", lti.balanced_truncation),
        ("singular-perturbation", lti.singular_perturbation),
        ("hankel-norm", lti.hankel_norm_approximation),
        ("modal", lti.modal_truncation),
    ):
        one, other = balancing.reduce(name, energy=0.8), function(sys, energy=0.8)
        assert one.method == other.method and one.order == other.order
        np.testing.assert_allclose(one.system.A, other.system.A, atol=1e-13)
        np.testing.assert_allclose(one.error_bound, other.error_bound, rtol=1e-12)


def test_a_registered_method_is_reachable_everywhere(registry, tmp_path, capsys):
    bounds = []

    def error_bounds(balancing):
        bounds.append(balancing.error_bounds)
        return bounds[-1]

    lti.register_method(lti.ReductionMethod("leading-states", leading, error_bounds))
    sys = random_dense(6)
    balancing, truncated = lti.balance(sys), lti.balanced_truncation(sys, 3)
    reduction = balancing.reduce("leading-states", 3)
    assert reduction.method == "leading states" and bounds
    np.testing.assert_array_equal(reduction.system.A, truncated.system.A)
    assert reduction.error_bound == truncated.error_bound
    assert balancing.reduce("leading-states", tol=0.3, relative=True).order == (
        balancing.order_for(0.3, relative=True)
    )
    lti.save(tmp_path / "x.npz", sys)
    out = tmp_path / "y.npz"
    line = ["reduce", tmp_path / "x.npz", "--order", 3, "--method", "leading-states", "-o", out]
    assert main(list(map(str, line))) == 0
    assert "leading states" in " ".join(capsys.readouterr().out.split())
    np.testing.assert_array_equal(lti.load(out).A, reduction.system.A)


def test_a_method_without_a_bound_claims_none():
    method, balancing = lti.ReductionMethod("leading", leading), lti.balance(random_dense(4))
    reduction = balancing.reduce(method, 2)
    assert np.isinf(reduction.error_bound) and reduction.lower_bound == balancing.hsv[2]
    with pytest.raises(lti.OrderError, match="leading states none"):
        balancing.reduce(method, tol=0.1)
    split = lti.balance(
        lti.StateSpace(np.diag([1.0, -1, -2]), np.ones((3, 1)), np.ones((1, 3))), unstable="split"
    ).reduce(method, 2)
    np.testing.assert_allclose(split.system.A[0], [1, 0], atol=1e-14)


def test_methods_that_are_none(registry):
    balancing = lti.balance(random_dense(4))
    with pytest.raises(lti.OptionError, match="no reduction method 'guess', only balanced-trunc"):
        balancing.reduce("guess", 2)
    with pytest.raises(lti.OptionError, match="a method has a name and reduce"):
        lti.register_method(leading)
    weighted = lti.balance(random_dense(4), frequencies=(0, 1))
    for name in ("hankel-norm", "modal"):
        with pytest.raises(lti.OptionError, match="got Gramians band-limited"):
            weighted.reduce(name, 2)


# ------------------------------------------------------------------ one factor


@pytest.mark.parametrize("dt", [0, True])
def test_a_function_makes_the_exact_factors(dt):
    sys, seen = random_dense(5, dt=dt), []

    def exact(G):
        seen.append(G)
        return lti.GramianFactor(lti.gramian_factors(G)[0], "exact by hand")

    plain = lti.balance(sys)
    made = lti.balance(sys, controllability=exact, observability=exact)
    np.testing.assert_allclose(made.hsv, plain.hsv, rtol=1e-10)
    np.testing.assert_array_equal(seen[0].B, sys.B)
    np.testing.assert_array_equal(seen[1].B, sys.C.T)  # the dual
    assert made.truncate(2).method == "balanced truncation, Gramians exact by hand"
    assert np.isinf(made.truncate(2).error_bound)


def test_a_function_gets_the_stable_part_in_double_precision():
    A = np.diag([1.0, -1.0, -2.0]).astype(np.float32)
    sys = lti.StateSpace(A, np.ones((3, 1), "f4"), np.ones((1, 3), "f4"))

    def exact(G):
        assert G.order == 2 and G.A.dtype == np.float64 and (G.poles.real < 0).all()
        return lti.gramian_factors(G)[0]

    made = lti.balance(sys, unstable="split", controllability=exact)
    np.testing.assert_allclose(made.hsv, lti.balance(sys, unstable="split").hsv, rtol=1e-6)
    with pytest.raises(lti.DimensionError, match="the system has 2 states"):
        lti.balance(sys, unstable="split", controllability=lambda G: np.ones((3, 1)))
    with pytest.raises(lti.UnstableError):
        lti.balance(sys, controllability=exact)


# ------------------------------------------------------------------ a pair


def lqg(G):
    """A Y + Y A^H - Y C^H C Y + B B^H = 0, and its dual: LQG balancing (Jonckheere, Silverman)."""
    care = solve_discrete_are if G.is_discrete else solve_continuous_are
    eye_m, eye_p = np.eye(G.n_inputs), np.eye(G.n_outputs)
    Y = care(G.A.T, G.C.T, G.B @ G.B.T, eye_p)
    X = care(G.A, G.B, G.C.T @ G.C, eye_m)
    S, R = (lti.GramianFactor.of_gramian(Z).factor for Z in (Y, X))
    return lti.GramianPair(S=S, R=R, name="LQG")


def test_lqg_balancing_from_outside():
    sys = random_dense(5)
    sys = lti.StateSpace(sys.A, sys.B, sys.C)
    balancing = lti.balance(sys, gramians=lqg)
    pair = lqg(sys)
    values = np.sqrt(np.linalg.eigvals(pair.S @ pair.S.T @ pair.R @ pair.R.T).real)
    np.testing.assert_allclose(balancing.hsv, np.sort(values)[::-1], rtol=1e-9)
    # Balanced: both Riccati equations have the solution diag(values)
    full = balancing.truncate(5).system
    again = lqg(full)
    for S in (again.S, again.R):
        np.testing.assert_allclose(S @ S.T, np.diag(balancing.hsv), atol=1e-10)
    reduction = balancing.truncate(3)
    assert reduction.method == "balanced truncation, Gramians LQG"
    assert np.isinf(reduction.error_bound) and reduction.lower_bound == 0
    with pytest.raises(lti.OrderError, match="none is known where Gramians are LQG"):
        balancing.truncate(tol=0.1)


def test_the_claim_of_a_pair_is_a_function_of_the_values():
    sys = random_dense(5)
    S, R = lti.gramian_factors(sys)

    def twice(sigma):
        return 2 * lti.error_bound(sigma)

    balancing = lti.balance(
        sys, gramians=lambda G: lti.GramianPair(S=S, R=R, name="twice", error_bounds=twice)
    )
    plain = lti.balance(sys)
    np.testing.assert_allclose(balancing.error_bounds, 2 * plain.error_bounds, rtol=1e-12)
    tol = float(2.01 * plain.error_bounds[3])
    assert balancing.order_for(tol) == balancing.truncate(tol=tol).order == 3
    assert balancing.truncate(3).verify() <= plain.error_bounds[3]


def test_pairs_that_are_none():
    sys = random_dense(3)
    with pytest.raises(lti.OptionError, match="must return a GramianPair, got a tuple"):
        lti.balance(sys, gramians=lti.gramian_factors)
    with pytest.raises(lti.OptionError, match="gramians= makes both"):
        lti.balance(sys, gramians=lqg, frequencies=(0, 1))
    with pytest.raises(lti.DimensionError, match="S has shape"):
        lti.balance(
            sys, gramians=lambda G: lti.GramianPair(S=np.ones((2, 1)), R=np.eye(3), name="x")
        )


# ------------------------------------------------------------------ options


def test_the_options_of_balance_are_stated_everywhere():
    options = set(lti.balance.__kwdefaults__)
    assert options == set(BalanceOptions.__annotations__)
    for function in (lti.balanced_truncation, lti.singular_perturbation):
        assert options < set(inspect.signature(function).parameters)
        assert "balancing-free" in function.__doc__ and "**options" not in function.__doc__


def test_old_keywords_are_aliases():
    sys = random_dense(3)
    for call in (
        lambda **k: lti.hinf_norm(sys, **k),
        lambda **k: lti.linf_norm(sys, **k),
        lambda **k: lti.balanced_truncation(sys, 2).verify(**k),
    ):
        assert call(tol=1e-5) == call(rtol=1e-5)
        with pytest.raises(lti.OptionError, match="tol is the old name of rtol; give rtol alone"):
            call(tol=1e-5, rtol=1e-5)
    with pytest.raises(lti.OptionError, match="got -1"):
        lti.hinf_norm(sys, tol=-1)


def test_warnings_point_at_the_caller():
    sys = lti.StateSpace(np.diag([-1.0, -1e-12]), np.ones((2, 1)), np.ones((1, 2)))
    for call in (
        lambda: lti.balanced_truncation(sys, 1),
        lambda: lti.balance(sys).truncate(1),
        lambda: lti.hankel_norm_approximation(sys, 1),
    ):
        with pytest.warns(lti.ReductionWarning) as caught:
            call()
        assert {note.filename for note in caught} == {__file__}


def test_what_a_method_returns_is_checked():
    balancing = lti.balance(
        lti.StateSpace(-np.diag([1.0, 2.0, 5.0]), np.ones((3, 1)), np.ones((1, 3)))
    )

    def leading(balancing, order):
        G, T, W = balancing.coordinates(order)
        A, B, C = G.A[:order, :order], G.B[:order], G.C[:, :order]
        return lti.StateSpace(A, B, C, G.D, G.dt), T[:, :order], W[:order]

    def method(form, bounds=None):
        return lti.ReductionMethod("mine", form, bounds)

    with pytest.raises(lti.OrderError, match="returned 3 states for the order 2"):
        balancing.reduce(method(lambda b, order: leading(b, order + 1)), 2)
    with pytest.raises(lti.OptionError, match="returned StateSpace; it must return a"):
        balancing.reduce(method(lambda b, order: leading(b, order)[0]), 2)
    with pytest.raises(lti.OptionError, match="returned 3 bounds; it must return 4"):
        balancing.reduce(method(leading, lambda b: b.hsv), tol=1e-3)
    with pytest.raises(lti.OptionError, match="is no reduction method; give a name"):
        balancing.reduce(leading, 2)
