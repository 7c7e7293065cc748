"""What users test with: systems are what was asked for, and assertions catch small mistakes."""

import subprocess
import sys as python
from dataclasses import replace
from functools import partial
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

import lti
from lti import testing
from lti.testing import assertions, stable_systems, strategies, unstable_systems
from tests.lti import bounds
from tests.lti.helpers import claiming, distance, random_dense

FORMS = {"dense": lti.StateSpace, "diagonal": lti.DiagonalStateSpace}


# ------------------------------------------------------------------ systems


@settings(max_examples=200)
@given(stable_systems())
def test_systems_are_stable_and_of_modest_size(sys):
    assert 1 <= sys.order <= 6 and 1 <= sys.n_inputs <= 3 and 1 <= sys.n_outputs <= 3
    assert sys.dt in (0, True, 0.5) and distance(sys).min() > 0.9e-9


MADE = [
    (form, kind)
    for form in strategies.FORMS
    for kind in strategies.KINDS
    if kind != "chain" or form == "dense"
]


@settings(max_examples=20)
@pytest.mark.parametrize(("form", "kind"), MADE)
@given(st.data())
def test_options_are_kept(form, kind, data):
    field = data.draw(st.sampled_from(["real", "complex"] if form != "conjugate" else ["real"]))
    dt = data.draw(st.sampled_from([0, True, 0.1]))
    options = {"form": form, "kind": kind, "field": field, "dt": dt}
    sizes = {"order": 4, "inputs": 2, "outputs": (2, 4)}
    sys = data.draw(stable_systems(**options, **sizes, feedthrough=False))
    assert type(sys) is FORMS.get(form, lti.DiagonalStateSpace)
    assert getattr(sys, "conjugate", False) == (form == "conjugate")
    assert (sys.order, sys.n_inputs) == (4, 2) and sys.n_outputs in (2, 3, 4)
    assert sys.dt is dt and not sys.D.any()
    assert np.iscomplexobj(sys.to_dense().A) == (field == "complex")


@given(stable_systems(kind="generic"))
def test_generic_poles_keep_away_from_the_boundary(sys):
    assert distance(sys).min() > 0.1


@given(stable_systems(kind="near-boundary"))
def test_a_pole_near_the_boundary(sys):
    assert 0.9e-9 < distance(sys).min() < 1.1e-3


@given(stable_systems(kind="non-minimal"))
def test_hidden_states_are_hidden(sys):
    assert lti.balance(sys).minimal_order < sys.order


@given(stable_systems(kind="repeated"))
def test_every_value_twice(sys):
    hsv = lti.hankel_singular_values(sys)
    scale = lti.balance(sys).roundoff_scale
    np.testing.assert_allclose(hsv[::2], hsv[1::2], rtol=0, atol=1e-12 * scale)


@given(stable_systems(kind="all-pass"))
def test_all_pass_systems_have_one_value_and_one_gain(sys):
    hsv = lti.hankel_singular_values(sys)
    np.testing.assert_allclose(hsv, hsv[0], rtol=1e-12 * lti.balance(sys).roundoff_scale / hsv[0])
    gains = np.linalg.svd(lti.frequency_response(sys, [0.0, 0.3, 2.0]), compute_uv=False)
    np.testing.assert_allclose(gains, hsv[0], rtol=1e-9)


@given(unstable_systems())
def test_unstable_systems_are_reduced_where_they_are_stable(sys):
    assert distance(sys).min() < -0.2
    method = partial(lti.balanced_truncation, unstable="split")
    errors = testing.assert_error_bound(sys, method=method)
    assert len(errors) == 1 + (distance(sys) > 0).sum()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "nice"}, "kind must be one of 'generic'"),
        ({"form": "banded"}, "form must be one of 'dense'"),
        ({"field": "quaternion"}, "field must be one of 'real'"),
        ({"form": "conjugate", "field": "complex"}, "no system has form='conjugate'"),
        ({"form": "conjugate", "order": 3}, "conjugate ones are real and of even order"),
        ({"kind": "repeated", "inputs": 1}, "repeated ones have two equal parts"),
    ],
)
def test_senseless_options(options, message):
    with pytest.raises(lti.OptionError, match=message):
        stable_systems(**options)


# ------------------------------------------------------------------ failures are readable


@pytest.mark.parametrize("kind", [pytest.param("generic", marks=pytest.mark.slow), "all-pass"])
def test_examples_shrink_to_few_states_and_quarters(kind):
    # Shrinking goes by luck and may get stuck once; the best of three does not
    quiet = settings(database=None, suppress_health_check=list(HealthCheck))
    found = (
        find(
            stable_systems(order=(1, 4), kind=kind),
            lambda sys: lti.hankel_norm(sys) > 1.3,
            settings=quiet,
            random=Random(seed),
        )
        for seed in range(3)
    )
    small = min(found, key=lambda sys: sys.order)
    assert small.order == 1
    if kind == "generic":
        matrices = np.concatenate([x.ravel() for x in (small.A, small.B, small.C, small.D)])
        np.testing.assert_array_equal(4 * matrices, np.round(4 * matrices))
        assert np.count_nonzero(matrices) == 3


def test_a_failing_example_prints_its_matrices():
    seen = []

    @settings(database=None, phases=[Phase.generate])
    @given(stable_systems())
    def fails(sys):
        seen.append(sys)
        raise ValueError

    with pytest.raises(ValueError) as caught:
        fails()
    assert caught.value.__notes__[0] == f"sys = {testing.as_code(seen[-1])}"


@given(stable_systems())
def test_code_makes_the_same_system(sys):
    again = eval(testing.as_code(sys), {"lti": lti, "np": np})
    assert type(again) is type(sys) and again.dt == sys.dt
    for name in ("A", "B", "C", "D"):
        np.testing.assert_array_equal(getattr(again, name), getattr(sys, name))


def test_code_of_a_system_without_states_in_single_precision():
    empty = lti.balanced_truncation(random_dense(2), 0).system
    again = eval(testing.as_code(empty), {"lti": lti, "np": np})
    assert again.A.shape == (0, 0) and again.C.shape == empty.C.shape
    single = lti.StateSpace(*(np.float32([[x]]) for x in (0.1, 1, 2)), dt=True)
    again = eval(testing.as_code(single), {"lti": lti, "np": np})
    assert again.A.dtype == np.float32 and again.A == single.A


# ------------------------------------------------------------------ assertions


@pytest.fixture
def reduction():
    return lti.balanced_truncation(random_dense(5, seed=8), 2)


def test_a_small_mistake_in_a_bound_is_caught(reduction):
    error = testing.assert_error_bound(reduction)
    np.testing.assert_allclose(error, reduction.verify(), rtol=1e-8)
    low = claiming(reduction, error_bound=error * (1 - 1e-6))
    high = claiming(reduction, lower_bound=error * (1 + 1e-6))
    with pytest.raises(AssertionError, match="order 2: the error is above its bound") as caught:
        testing.assert_error_bound(low)
    code = str(caught.value).partition("sys = ")[2].partition("\nlti.hinf")[0]
    again = eval(code, {"lti": lti})
    np.testing.assert_array_equal(again.A, reduction.original.A)
    with pytest.raises(AssertionError, match="below what an order can reach"):
        testing.assert_error_bound(high)
    for fair in (error * (1 - 1e-10), error):
        testing.assert_error_bound(claiming(reduction, error_bound=fair))


def test_a_norm_that_missed_the_peak_is_caught(reduction, monkeypatch):
    norm = lti.hinf_norm
    monkeypatch.setattr(assertions, "hinf_norm", lambda sys, rtol: 0.9 * norm(sys, rtol))
    with pytest.raises(AssertionError, match="the gain at .* is above the norm"):
        testing.assert_error_bound(reduction)


def test_a_method_that_keeps_the_wrong_states_is_caught():
    sys = random_dense(4, seed=3)

    def wrong(sys, order):
        right, full = lti.balanced_truncation(sys, order), lti.balanced_truncation(sys, 4).system
        last = slice(4 - order, 4)
        kept = lti.StateSpace(full.A[last, last], full.B[last], full.C[:, last], full.D)
        return replace(right, system=kept)

    with pytest.raises(AssertionError, match="balanced truncation to order [123]: the error is"):
        testing.assert_error_bound(sys, method=wrong)
    assert testing.assert_error_bound(sys, 4, method=wrong) < 1e-12


def test_weights_stacks_and_infinite_bounds():
    sys, weight = random_dense(5, seed=1), lti.StateSpace([[-1.0]], [[1.0]], [[2.0]])
    sys = replace(sys, B=sys.B[:, :1], D=sys.D[:, :1])
    for weighting in ("wang", "enns"):
        options = {"input_weight": weight, "weighting": weighting}
        reduction = lti.balanced_truncation(sys, 2, **options)
        error = testing.assert_error_bound(reduction)
        assert (
            np.isinf(error)
            if weighting == "enns"
            else error == pytest.approx(reduction.verify(), rel=1e-7)
        )
    with pytest.raises(AssertionError, match="above its bound"):
        false = lti.balanced_truncation(sys, 2, input_weight=weight, weighting="wang")
        testing.assert_error_bound(claiming(false, error_bound=0 * false.error_bound))
    stack = lti.balanced_truncation(random_dense(4, stack=(3,)), 2)
    assert testing.assert_error_bound(stack).shape == (3,)
    bounds = stack.error_bound * np.array([1, 1e-3, 1])
    with pytest.raises(AssertionError, match=r"order 2, member \(1,\): the error is above"):
        testing.assert_error_bound(claiming(stack, error_bound=bounds))


def test_balanced_means_both_gramians_are_the_values():
    reduction = lti.balanced_truncation(random_dense(4, seed=2), 4)
    sys, hsv = reduction.system, reduction.hsv
    testing.assert_balanced(sys)
    testing.assert_balanced(sys, hsv)
    with pytest.raises(AssertionError, match=r"P deviates from diag\(hsv\) by .* at \(0, 0\)"):
        testing.assert_balanced(sys, hsv * (1 + 1e-6))
    skew = replace(sys, C=sys.C * (1 + 1e-6), B=sys.B / (1 + 1e-6))
    with pytest.raises(AssertionError, match="deviates from diag"):
        testing.assert_balanced(skew)
    with pytest.raises(AssertionError, match="Q deviates from diag"):
        testing.assert_balanced(replace(sys, C=2 * sys.C), hsv)


@pytest.mark.parametrize("dt", [0, True])
def test_gramians_solve_their_equation(dt):
    sys = random_dense(4, dt=dt, is_complex=True)
    P, Q = lti.controllability_gramian(sys), lti.observability_gramian(sys)
    testing.assert_gramian(sys, P)
    testing.assert_gramian(sys, Q, "observability")
    for kind, wrong in (("controllability", Q), ("observability", Q * (1 + 1e-6))):
        with pytest.raises(AssertionError, match=f"the {kind} Gramian has a residual"):
            testing.assert_gramian(sys, wrong, kind)
    with pytest.raises(lti.OptionError, match="kind must be one of"):
        testing.assert_gramian(sys, P, "both")


def test_a_solution_that_is_no_gramian():
    negative = lti.StateSpace([[1.0]], [[1.0]], [[1.0]])  # unstable: P = -1/2 has no residual
    with pytest.raises(AssertionError, match="negative eigenvalue of 0.5"):
        testing.assert_gramian(negative, [[-0.5]])
    lossless = lti.StateSpace([[0.0, 0], [0, 0]], [[0.0], [0]], [[1.0, 1]])  # any P will do
    with pytest.raises(AssertionError, match=r"P - P\^H of"):
        testing.assert_gramian(lossless, [[1.0, 1], [0, 1]])


def test_hypothesis_is_asked_for_by_name():
    code = "import sys; sys.modules['hypothesis'] = None; import lti; import lti.testing"
    done = subprocess.run([python.executable, "-c", code], capture_output=True, text=True)
    assert "ImportError: lti.testing needs hypothesis" in done.stderr
    assert "run 'pip install hypothesis'" in done.stderr


# ------------------------------------------------------------------ make bounds


def test_bounds_are_counted_and_violations_told(monkeypatch):
    job = ("generic", "dense", 0, 10, True)
    kind, tally = bounds.check(job)
    assert kind == "generic" and tally.systems == 10 and 20 <= tally.pairs <= 70
    assert not tally.violations and 0 < tally.loosest[0] < tally.tightest[0] < 1 + 1e-8
    assert "to order" in tally.tightest[1] and "lti.StateSpace(" in tally.loosest[1]

    def refuse(reduction):
        assert reduction.original.order < 2, "the error is above"
        return reduction.error_bound

    monkeypatch.setattr(bounds, "assert_error_bound", refuse)
    _, wrong = bounds.check(job)
    assert wrong.pairs == tally.pairs and 10 < len(wrong.violations) <= wrong.pairs
    assert wrong.violations[0] == ("the error is above", job)
    with pytest.raises(AssertionError, match="the error is above"):
        bounds.check(job, shrink=True)
