"""Sets of states: greedy elimination against sums over all sets, and what states take over."""

import copy
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lti
from compressm import LRU, KeepEnergy, States, UnsupportedLayerError, compress_, keep_states_
from compressm.gramians.elimination import eliminate, eliminate_with_takeover, takeover
from compressm.gramians.scores import readout_moments
from compressm.gramians.signals import Signal
from compressm.gramians.types import selection
from compressm.systems.selective import form_of, state_count
from compressm.systems.selective.evaluate import coefficients, layer_output
from tests.compressm.delta_layers import layer_of as delta_layer
from tests.compressm.selective_layers import N, foreign, own, signal, step_through


def moments(seed, n=5, samples=40):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, n, dtype=torch.float64, generator=generator)
    mix = torch.randn(n, n, dtype=torch.float64, generator=generator)
    return (x @ mix).mT @ (x @ mix) / samples


@given(st.integers(0, 10**6), st.integers(1, 6))
def test_costs_add_up_to_what_is_lost_and_grow(seed, n):
    K = moments(seed, n)
    found = eliminate(K)
    assert sorted(found.order) == list(range(n)) and (found.costs >= 0).all()
    assert (found.costs.diff() <= 0).all()
    removed, lost = torch.zeros(n, dtype=torch.float64), 0.0
    for i, cost in zip(found.order[::-1], found.costs.tolist()[::-1], strict=True):
        removed[i] = 1.0
        lost += cost
        assert lost >= removed @ K @ removed * (1 - 1e-12)  # never promised too little
    first = found.order[-1]
    assert K[first, first] == K.diagonal().min()


@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(1, 5))
def test_with_takeover_the_cost_is_the_least_squares_residual(seed, n, r):
    """Of C x for independent C and x, removed by any order: tr of E C C^T times the Schur part."""
    r = min(r, n - 1)
    P, Q = moments(seed, n), moments(seed + 1, n)
    found = eliminate_with_takeover(P, Q)
    kept = sorted(found.order[:r])
    T = takeover(P, kept)
    change = torch.eye(n, dtype=torch.float64)
    change[:, kept] -= T.mT  # (C - T^T-mixed C) x: what x is multiplied with, by C
    lost = torch.trace(change @ P @ change.mT @ Q)
    np.testing.assert_allclose(found.costs[r:].sum(), lost, rtol=1e-2)
    assert (found.costs.diff() <= 0).all()


@given(st.integers(0, 10**6))
def test_no_unit_of_the_states_changes_the_choice(seed):
    P, Q = moments(seed), moments(seed + 1)
    d = 2.0 ** torch.arange(5, dtype=torch.float64).mul(7).sub(14)
    usual = eliminate_with_takeover(P, Q)
    other = eliminate_with_takeover(P * d * d[:, None], Q / d / d[:, None])
    assert usual.order == other.order
    torch.testing.assert_close(usual.costs, other.costs)


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_takeover_is_the_least_squares_prediction(seed):
    x = torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    x = torch.cat([x, x @ torch.ones(4, 1, dtype=torch.float64)], 1)  # the fifth is known
    T = takeover(x.mT @ x, [0, 1, 2, 3])
    expected = torch.cat([torch.eye(4), torch.ones(4, 1)], 1).double()
    torch.testing.assert_close(T, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["own", "Mamba2"])
def test_moments_are_those_of_a_plain_loop(name):
    layer, s = own() if name == "own" else foreign(name), signal(batch=3, length=7)
    found = readout_moments(layer, [Signal(s.u[:1]), Signal(s.u[1:])])
    states, (_, _, _, B, C), _ = step_through(layer, s.u)
    groups = coefficients(layer, s.u).B.shape[2]
    h = torch.stack(states, 1).detach()  # (batch, length, channels, N)
    # The same weights, from the same directions
    generator, weights = torch.Generator().manual_seed(0), []
    for part in (s.u[:1], s.u[1:]):
        y = layer_output(layer, part)
        weights.append(torch.randn(y.shape, generator=generator))
    direction = torch.cat(weights).to(s.u)
    x = torch.zeros(h.shape[:3], dtype=torch.float64, requires_grad=True)
    c = coefficients(layer, s.u)
    form = form_of(layer)
    y = form.recurrence.run(c)[1] + x
    (form.tail(y, c.x, c.z) * direction).sum().backward()
    w = x.grad.square().unflatten(2, (groups, -1))
    h, C = h.unflatten(2, (groups, -1)), C.unflatten(2, (groups, -1))
    P = torch.einsum("btgc,btgci,btgcj->gij", w, h, h)
    K = torch.einsum("btgc,btgci,btgcj->gij", w, h * C, h * C)
    torch.testing.assert_close(found.P, P, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(found.K, K.detach(), rtol=1e-5, atol=1e-8)


def twin(layer):
    """State 5 moves as 0.5 times state 2, and both are read by rows of C of their own."""
    rank = layer.dt_proj.weight.shape[1]
    with torch.no_grad():
        layer.A_log[:, 5] = layer.A_log[:, 2]
        layer.x_proj.weight[rank + 5] = 0.5 * layer.x_proj.weight[rank + 2]
    return layer


def test_a_state_that_others_predict_costs_nothing():
    layer, s = twin(own()), signal(batch=16, length=20)
    before = layer(s.u)
    chosen = compress_(copy.deepcopy(layer), States(N - 1), gramians="input", data=[s.u])
    alone = chosen.layers[0].output_error
    event = compress_(layer, States(N - 1), gramians="output", data=[s.u])
    assert state_count(layer) == N - 1
    assert event.layers[0].output_error < 1e-4 < alone
    assert (layer(s.u) - before).abs().max() < 1e-3 * before.abs().max()


@pytest.mark.parametrize("name", ["Mamba2", "FalconMamba"])
def test_a_set_is_no_worse_than_the_scores_of_single_states(name):
    """Where nothing can be taken over: the mean over sizes of the change of the output."""
    layer, s = foreign(name).float(), signal(batch=16, length=30)
    errors = {}
    for gramians in ("input", "output"):
        found = []
        for n in range(1, N):
            event = compress_(
                copy.deepcopy(layer), States(n), gramians=gramians, data=[s.u.float()]
            )
            found.append(event.layers[0].output_error)
        errors[gramians] = np.mean(found)
    assert errors["output"] <= errors["input"] * 1.02


def test_one_of_two_equal_parts_stays():
    """Single values would drop both of them, which are smaller than the third."""
    y, z = torch.eye(2, dtype=torch.float64)
    parts = torch.stack([y, y, 1.2 * z], 1)
    K = parts.mT @ parts
    assert K.diagonal().argsort().tolist()[:2] == [0, 1]
    assert set(eliminate(K).order[:1]) < {0, 1}
    order = eliminate(K).order
    best = min(combinations(range(3), 2), key=lambda d: float(K[list(d)][:, list(d)].sum()))
    assert set(order[1:]) == set(best)


def test_the_delta_rule_keeps_its_scores():
    layer, u = delta_layer("Qwen3_5"), torch.randn(4, 9, 8)
    s = [Signal(u)]
    one, other = (selection(layer, s, x) for x in ("output", "input"))
    assert (one.ranking == other.ranking).all() and one.P is None


def test_a_cut_names_the_type_that_stood_in_for_the_output():
    u = torch.randn(4, 9, 8)
    for layer, expected in (
        (delta_layer("Qwen3_5"), "input"),
        (LRU(8, 8), "input"),
        (own().float(), "output"),
    ):
        (cut,) = compress_(layer, States(4), gramians="output", data=[u], dry_run=True).layers
        assert (cut.skipped, cut.after, cut.gramians) == (None, 4, expected)
    (cut,) = compress_(delta_layer("Qwen3_5"), States(4), data=[u], dry_run=True).layers
    assert cut.gramians == "input"


def test_energy_counts_what_the_output_keeps():
    layer, s = own(), signal(batch=16, length=20)
    event = compress_(layer, KeepEnergy(0.9), gramians="output", data=[s.u])
    cut = event.layers[0]
    assert cut.gramians == "output" and 0.9 <= cut.energy_kept <= 1 and cut.after < N


def test_a_readout_that_does_not_fit_is_refused():
    with pytest.raises(UnsupportedLayerError, match="C of Mamba2Mixer is not linear"):
        keep_states_(foreign("Mamba2"), [0, 1], readout=torch.ones(2, N))
    layer = own()
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises(lti.DimensionError, match=r"\(3, 6\); .* \(2, 6\)"):
        keep_states_(layer, [0, 1], readout=torch.ones(3, N))
    assert all(torch.equal(x, before[name]) for name, x in layer.state_dict().items())


@pytest.mark.parametrize("name", ["own", "Mamba2"])
@pytest.mark.parametrize("value", [float("nan"), 1e30])
def test_what_is_not_finite_is_refused_and_nothing_changes(name, value):
    layer, u = (own() if name == "own" else foreign(name)).float(), signal(16, 8).u.float()
    u[0, 3, 2] = value
    before = copy.deepcopy(layer.state_dict())
    cut = compress_(layer, States(3), gramians="output", data=[u]).layers[0]
    assert "not finite" in cut.skipped
    assert all(torch.equal(x, before[key]) for key, x in layer.state_dict().items())
    if name == "own":
        with pytest.raises(lti.NonFiniteError, match="readout is not finite"):
            keep_states_(layer, [0, 1], readout=torch.full((2, N), float("nan")))


def test_states_that_nothing_sees_have_no_values():
    layer = own()
    layer.out_proj.weight.data.zero_()
    cut = compress_(layer, States(3), gramians="output", data=[signal(16, 8).u]).layers[0]
    assert cut.skipped == "the scores of its states are all zero"


def test_states_that_never_move_are_removed_first():
    P, Q = torch.diag(torch.tensor([0.0, 2.0, 1.0])).double(), torch.eye(3).double()
    found = eliminate_with_takeover(P, Q)
    assert found.order == [1, 2, 0] and found.costs[-1] == 0
    assert takeover(P, [1]).tolist() == [[0.0, 1.0, 0.0]]


def test_a_cut_in_inference_mode():
    layer = own()
    with torch.inference_mode():
        event = compress_(layer, States(3), gramians="output", data=[signal(16, 8).u])
    assert event.layers[0].after == 3
