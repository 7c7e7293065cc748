"""Frequency weights against SLICOT, and the bound of Wang, Sreeram and Liu."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lti
from lti.systems.operators import product
from tests.lti.helpers import (
    dense_systems,
    quiet,
    random_dense,
    same_response,
)
from tests.lti.oracles import oracle


@pytest.mark.parametrize("dt", [0, True])
@pytest.mark.parametrize(("rule", "alpha"), [("enns", 0.0), ("lin-chiu", 1.0)])
@pytest.mark.parametrize("sides", ["R", "L", "B"])
def test_weighted_values_are_those_of_slicot(dt, rule, alpha, sides):
    sys = random_dense(8, 2, 3, dt=dt, seed=1)
    right, left = random_dense(3, 2, 2, dt=dt, seed=5), random_dense(4, 3, 3, dt=dt, seed=6)
    matrices = [(x.A, x.B, x.C, x.D) for x in (sys, left, right)]
    hsv, (A, B, C, D) = oracle("ab09id", *matrices, bool(dt), alpha, sides, 4)
    weights = {"R": {"input_weight": right}, "L": {"output_weight": left}}
    weights["B"] = weights["R"] | weights["L"]
    balancing = lti.balance(sys, weighting=rule, **weights[sides])
    np.testing.assert_allclose(balancing.hsv, hsv, atol=1e-13 * hsv[0])
    small = quiet(balancing.truncate, 4).system
    same_response(small, lti.StateSpace(A, B, C, D, dt), 1e-9)


@pytest.mark.parametrize("rule", ["enns", "lin-chiu", "wang"])
@pytest.mark.parametrize("dt", [0, True])
def test_weights_of_one_change_nothing_but_the_claim(dt, rule):
    sys = random_dense(5, 2, 2, dt=dt, seed=2)
    one = lti.StateSpace(np.zeros((0, 0)), np.zeros((0, 2)), np.zeros((2, 0)), np.eye(2), dt)
    weighted = lti.balance(sys, input_weight=one, output_weight=one, weighting=rule)
    np.testing.assert_allclose(weighted.hsv, lti.hankel_singular_values(sys), rtol=1e-7)


@settings(max_examples=25)
@given(dense_systems(), st.integers(0, 99), st.sampled_from(["left", "right", "both"]))
def test_the_weighted_bound_of_wang(sys, seed, sides):
    m, p, c = sys.n_inputs, sys.n_outputs, np.iscomplexobj(sys.A)
    W_i = random_dense(2, m, m, dt=sys.dt, seed=seed, is_complex=c) if sides != "left" else None
    W_o = random_dense(3, p, p, dt=sys.dt, seed=seed, is_complex=c) if sides != "right" else None
    balancing = lti.balance(sys, input_weight=W_i, output_weight=W_o, weighting="wang")
    for order in range(sys.order):
        for form in (balancing.truncate, balancing.singular_perturbation):
            reduction = quiet(form, order)
            if np.isfinite(reduction.error_bound):
                assert reduction.lower_bound == 0
                reduction.verify()
                G, F = sys, reduction.system
                if W_i:
                    G, F = product(G, W_i), product(F, W_i)
                if W_o:
                    G, F = product(W_o, G), product(W_o, F)
                error = lti.hinf_norm(G - F)
                assert error <= reduction.error_bound * (1 + 1e-6) + 1e-10 * (1 + lti.hinf_norm(G))


@pytest.mark.parametrize("dt", [0, True])
@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("options", [
    {"weighting": "lin-chiu", "input": True, "output": True},
    {"weighting": "wang", "input": True, "output": True},
    {"weighting": "enns", "input": True},
    {"weighting": "enns", "output": True},
])  # fmt: skip
def test_these_rules_keep_stability(dt, is_complex, options):
    for seed in range(20):
        sys = random_dense(6, 2, 2, dt=dt, seed=seed, is_complex=is_complex)
        weight = random_dense(3, 2, 2, dt=dt, seed=seed + 50, is_complex=is_complex)
        kwargs = {f"{side}_weight": weight for side in ("input", "output") if side in options}
        balancing = lti.balance(sys, weighting=options["weighting"], **kwargs)
        for order in range(7):
            poles = quiet(balancing.truncate, order).system.poles
            assert (abs(poles) < 1).all() if dt else (poles.real < 0).all()


def test_a_weight_pays_off_where_it_is_large():
    sys = random_dense(10, 1, 1, dt=0, seed=9)
    low = lti.StateSpace([[-0.05]], [[0.05]], [[1.0]])
    plain, weighted = (
        lti.balance(sys).truncate(3),
        quiet(lti.balance(sys, input_weight=low).truncate, 3),
    )
    assert weighted.error_bound == np.inf and "Enns" in weighted.method
    measured = replace(plain, claim=weighted.claim)
    assert weighted.verify() < 0.5 * measured.verify()


@pytest.mark.parametrize("unit", [1e-30, 1e8, 1e15, 1e100])
@pytest.mark.parametrize("rule", ["enns", "lin-chiu", "wang"])
@pytest.mark.parametrize("side", ["input_weight", "output_weight"])
@pytest.mark.parametrize("dt", [0, True])
@pytest.mark.parametrize("A", [np.diag([-0.5, -4.0]), np.array([[-0.5, 1.0], [0.3, -4.0]])])
def test_units_of_the_states_of_a_weight_do_not_matter(A, dt, side, rule, unit):
    G = lti.StateSpace([[-1.0, 0], [0, -2.0]], np.ones((2, 1)), np.ones((1, 2)))

    def values(u):
        d = np.array([1.0, u])
        B, C = np.ones((2, 1)) / d[:, None], np.array([[1.0, 2.0]]) * d
        W = lti.StateSpace(A / d[:, None] * d, B, C, [[0.3]])
        pair = (lti.bilinear(G), lti.bilinear(W)) if dt else (G, W)
        return lti.balance(pair[0], weighting=rule, **{side: pair[1]}).hsv

    np.testing.assert_allclose(values(unit), values(1.0), rtol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        dict(frequencies=(0.1, 1.0)),
        dict(times=(0.1, 1.0)),
        dict(input_weight=([[-1.0]], [[1.0]], [[1.0]])),
    ],
)
def test_the_rule_of_wang_without_a_stable_state(options):
    sys = lti.StateSpace(np.diag([1.0, 2.0]), np.ones((2, 1)), np.ones((1, 2)))
    reduced = lti.balanced_truncation(sys, 2, unstable="split", weighting="wang", **options)
    assert reduced.order == 2 and reduced.error_bound == 0
