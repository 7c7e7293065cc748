"""Gramian types: what each changes in a cut, which one is taken, and one from outside."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lti
from compressm import (
    LRU,
    S4D,
    S5,
    Compressor,
    ErrorBound,
    Every,
    GramianType,
    KeepEnergy,
    OptionError,
    SequenceModel,
    States,
    compress_,
    preview,
    register_gramian_type,
)
from compressm.gramians.moments import observability_factor, observed_factor
from compressm.gramians.signals import Signal
from compressm.gramians.types import GRAMIAN_TYPES, INPUT, MODEL, state_values
from tests.compressm.helpers import cut_by, lru, model_of, smooth, used_and_idle
from tests.compressm.selective_layers import own, signal

# ------------------------------------------------------------------ what each type does in a cut


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), stored=st.integers(1, 12))
def test_layers_cut_by_observed_inputs_stay_stable(seed, stored):
    layer = lru(16, seed=seed)
    cut = compress_(layer, States(stored), gramians="input", data=[smooth(4, 50, 4, seed)]).layers[
        0
    ]
    assert cut.skipped is None and layer.d_state == stored
    assert (layer.to_lti().poles.abs() < 1).all()
    assert cut.error_bound == float("inf")


def test_on_the_observed_inputs_the_input_type_beats_the_exact_one():
    u = smooth(8, 200, 4)
    errors = {}
    for name, data in {"model": (), "input": [u]}.items():
        layer = lru(64)
        before = layer(u)
        compress_(layer, States(6), gramians=name, data=data)
        errors[name] = (layer(u) - before).square().mean()
    assert errors["input"] < 0.1 * errors["model"]


def test_inputs_that_are_not_finite_leave_the_layer_alone():
    layer = lru()
    u = smooth(4, 50, 4)
    u[0, 0, 0] = float("inf")
    cut = compress_(layer, States(4), gramians="input", data=[u]).layers[0]
    assert cut.after == 24 and "not finite" in cut.skipped


def test_layers_with_a_pole_at_zero_or_without_states():
    layer = lru()
    torch.nn.init.constant_(layer.nu_log[:1].detach(), 7.0)
    u = smooth(4, 50, 4)
    assert compress_(layer, States(4), gramians="input", data=[u]).layers[0].after == 4
    layer = LRU(4, 0)
    assert compress_(layer, States(4), gramians="input", data=[u]).layers[0].after == 0


def test_states_without_influence_on_the_loss_have_zero_scores():
    layer = lru(16)
    with torch.no_grad():
        layer.C[1:] = layer.C[:1]  # four outputs that are equal

    class Difference(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, u):
            y = self.layer(u) - self.layer.D * u
            return y[..., :1] - y[..., 1:2]  # which is always zero

    model = Difference()
    u = smooth(4, 50, 4)
    cut = compress_(model, KeepEnergy(0.99), gramians="data", data=[u]).layers[0]
    assert cut.after == 16 and "all zero" in cut.skipped


def test_the_data_type_takes_the_gradients_of_the_training_loss():
    torch.manual_seed(0)
    model = SequenceModel(d_input=2, d_output=3, d_model=4, d_state=32, n_layers=2)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    compressor = Compressor(
        model, optimizer, policy=States(8), schedule=Every(2, stop=2), gramians="data"
    )
    events = []
    for _ in range(3):
        model(smooth(5, 40, 2)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        events.append(compressor.step())
    (event,) = filter(None, events)
    assert [(cut.after, cut.skipped) for cut in event.layers] == [(8, None)] * 2
    assert not any(m._forward_hooks for m in model.modules())


@pytest.mark.parametrize("kind", [S4D, S5])
def test_both_directions_are_observed(every_state, kind):
    torch.manual_seed(0)
    layer = kind(3, 4, bidirectional=True, dt_min=0.05, dt_max=0.3)
    G = layer.to_lti()
    u, g = torch.randn(2, 40, 3), torch.randn(2, 40, 3)
    signals = {"": [Signal(u, g)]}
    for gramians in ("input", "data"):
        trial = copy.deepcopy(layer)
        (cut,) = cut_by(trial, signals, States(3), gramians).layers
        S = observed_factor(G, [u, u.flip(1)])
        ways = zip(G.C.split(G.n_outputs // 2, dim=-2), (g, g.flip(1)), strict=True)
        R = torch.cat([observability_factor(replace(G, C=C, D=None), [x]) for C, x in ways], -1)
        R = R if gramians == "data" else None
        expected = lti.balance(G, controllability=S, observability=R).hsv.detach().numpy()
        assert cut.skipped is None and cut.hsv == pytest.approx(expected, rel=1e-9)


def test_a_state_that_only_the_reversed_sequence_drives_is_kept():
    torch.manual_seed(0)
    layer = S4D(1, 8, bidirectional=True, dt_min=0.1, dt_max=0.1)
    u = torch.zeros(4, 50, 1)
    u[:, -1] = torch.randn(4, 1)
    y = layer(u)
    compress_(layer, KeepEnergy(0.9999), gramians="input", data=[u])
    assert (layer(u) - y).norm() < 0.02 * y.norm()


@pytest.mark.parametrize("policy, gramians", [(States(4), "model"), (ErrorBound(5.0), None)])
def test_with_exact_gramians_data_measure_the_cut_and_change_nothing(policy, gramians):
    layer, data = lru(), [smooth(9, 20, 4)]
    (cut,) = compress_(layer, policy, gramians=gramians, data=data, dry_run=True).layers
    (alone,) = compress_(layer, policy, gramians="model", dry_run=True).layers
    assert cut.output_error > 0 and cut.gramians == "model"
    assert (cut.after, cut.error_bound) == (alone.after, alone.error_bound)
    assert alone.output_error is None


# ------------------------------------------------------------------ which one is taken


def test_a_layer_is_scored_by_its_inputs_where_there_are_any():
    u = smooth(4, 50, 4)
    for data, types in ((), ["model", "model"]), ([u], ["input", "model"]):
        cuts = compress_(used_and_idle(), States(4), data=data, dry_run=True).layers
        assert [cut.gramians for cut in cuts] == types
        for cut, name in zip(cuts, types, strict=True):
            given = [u] if name == "input" else ()
            told = preview(used_and_idle(), [States(4)], gramians=name, data=given)[0].layers
            (expected,) = (x for x in told if x.name == cut.name)
            assert (cut.hsv == expected.hsv).all() and cut.error_bound == expected.error_bound


@pytest.mark.parametrize(
    "policy, gramians, types",
    [
        (States(4), None, ["input", "model"]),
        (States(4), "input", ["input", ""]),
        (States(4), "model", ["model", "model"]),
        (ErrorBound(5.0), None, ["model", "model"]),
    ],
)
def test_in_training_only_idle_layers_and_bounds_take_the_exact_gramians(policy, gramians, types):
    model = used_and_idle()
    compressor = Compressor(model, policy=policy, schedule=Every(1), gramians=gramians)
    model(smooth(4, 50, 4)).square().mean().backward()
    event = compressor.step()
    assert [cut.gramians for cut in event.layers] == types
    for cut, name in zip(event.layers, types, strict=True):
        assert (cut.after < cut.before) == (cut.skipped is None) == bool(name)
        assert np.isfinite(cut.error_bound) == (name != "input")
        assert (f"{cut.name}: 24 -> {cut.after}" + f" by {name}" * bool(name)) in str(event)


def test_without_a_policy_each_type_keeps_its_own_energy_fraction(monkeypatch):
    monkeypatch.setattr(MODEL, "energy", 0.7)
    monkeypatch.setattr(INPUT, "energy", 0.95)
    u = smooth(4, 50, 4)
    used, idle = compress_(used_and_idle(), data=[u], dry_run=True).layers
    for cut, name, energy in (used, "input", 0.95), (idle, "model", 0.7):
        events = preview(used_and_idle(), [KeepEnergy(energy)], data=[u])
        (expected,) = (x for x in events[0].layers if x.name == cut.name)
        assert cut.gramians == name and cut.after == expected.after < 24
    model = used_and_idle()
    compressor = Compressor(model, schedule=Every(1))
    model(u)
    assert [x.after for x in compressor.step().layers] == [used.after, idle.after]


# ------------------------------------------------------------------ a fourth type, from outside


class Backwards(GramianType):
    """P is the second moment of the states that the reversed inputs drive; Q is exact."""

    name, energy = "backwards", 0.9

    def factors(self, system, signals, directions):
        return INPUT.factors(system, reversed_in_time(signals), directions)

    def state_values(self, layer, signals):
        return INPUT.state_values(layer, reversed_in_time(signals))


def reversed_in_time(signals):
    return [Signal(signal.u.flip(1)) for signal in signals]


@pytest.fixture(params=["object", "name"])
def backwards(request):
    """Return it as it is, or the name that it is registered by until the test is over."""
    if request.param == "object":
        yield Backwards()
        return
    assert isinstance(register_gramian_type(Backwards()), Backwards)
    yield "backwards"
    del GRAMIAN_TYPES["backwards"]


def test_a_fourth_type_scores_a_linear_layer(backwards):
    layer, u = lru(), smooth(4, 50, 4)
    (expected,) = compress_(lru(), KeepEnergy(0.9), gramians="input", data=[u.flip(1)]).layers
    (cut,) = compress_(layer, gramians=backwards, data=[u]).layers
    assert (cut.hsv == expected.hsv).all() and cut.gramians == "backwards"
    assert cut.after == layer.d_state == expected.after < 24  # its own energy fraction
    assert cut.error_bound == float("inf")


def test_a_fourth_type_scores_a_selective_layer(backwards):
    layer, observed = own(), signal()
    values = state_values(layer, [observed], backwards)
    assert (values == state_values(layer, reversed_in_time([observed]), "input")).all()
    (cut,) = compress_(layer, States(2), gramians=backwards, data=[observed.u]).layers
    assert (cut.hsv == np.sort(values)[::-1]).all() and (cut.after, layer.d_state) == (2, 2)


def test_a_fourth_type_stands_in_a_preview_beside_the_others(backwards):
    u = smooth(4, 50, 4)
    events = preview(lru(), [States(4)], gramians=["model", backwards, "input"], data=[u])
    assert [event.layers[0].gramians for event in events] == ["model", "backwards", "input"]
    assert len({event.layers[0].hsv.tobytes() for event in events}) == 3


def test_a_fourth_type_cuts_in_training(backwards):
    model = model_of()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    compressor = Compressor(
        model, optimizer, policy=States(6), schedule=Every(2, stop=2), gramians=backwards
    )
    seen = []
    model.blocks[0].layer.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    for step in range(3):
        model(smooth(7, 40, 2, seed=step)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        before = copy.deepcopy(model)
        event = compressor.step()
        assert (event is not None) == (step == 1)
        if event:
            signals = {"blocks.0.layer": [Signal(seen[-1].flip(1))]}
            first, second = event.layers
            expected = cut_by(before, signals, States(6), "input").layers[0]
    assert (first.hsv == expected.hsv).all()
    assert [(cut.after, cut.gramians) for cut in (first, second)] == [(6, "backwards")] * 2


def test_a_fourth_type_without_a_bound_is_not_for_an_error_bound(backwards):
    with pytest.raises(ValueError, match="none holds with gramians='backwards'"):
        compress_(lru(), ErrorBound(1.0), gramians=backwards, data=[smooth(4, 50, 4)])


def test_what_is_no_type_cannot_be_registered():
    class Greedy(Backwards):
        name, energy = "greedy", 1.5

    for wrong, message in (("input", "an instance of GramianType"), (Greedy(), "got 1.5")):
        with pytest.raises(ValueError, match=message):
            register_gramian_type(wrong)
    with pytest.raises(ValueError, match="got 'greedy'"):
        compress_(lru(), States(2), gramians="greedy")


@pytest.mark.parametrize(
    "scores, message",
    [
        ([1.0, 2.0, 3.0], r"scores of shape \(3,\) for a layer of 16 states"),
        (np.ones((2, 16)), r"scores of shape \(2, 16\)"),
        (-np.ones(16), "a negative score, -1"),
    ],
)
def test_scores_that_do_not_fit_the_layer_are_refused(scores, message):
    class Wrong(GramianType):
        name, energy = "wrong", 0.9

        def factors(self, system, signals, directions):
            return None

        def state_values(self, layer, signals):
            return np.asarray(scores)

    model = model_of(layer="mamba")
    with pytest.raises(OptionError, match=message):
        compress_(model, States(3), gramians=Wrong(), data=[torch.randn(4, 9, 2)])
    with pytest.raises(OptionError, match=r"must return a pair \(S, R\)"):
        compress_(model_of(), States(3), gramians=Wrong(), data=[torch.randn(4, 9, 2)])
    with pytest.raises(OptionError, match="an instance of a GramianType"):
        compress_(model_of(), States(3), gramians=Wrong)


def test_a_type_without_a_name_says_so():
    class Nameless(type(MODEL)):
        name = property()

    with pytest.raises(OptionError, match="Nameless has no name"):
        compress_(model_of(), States(3), gramians=Nameless())
