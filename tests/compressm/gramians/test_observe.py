"""Gramians from observed inputs: what they tend to, and what they buy."""

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
    KeepEnergy,
    Order,
    SequenceModel,
    compress_,
    preview,
)
from compressm.gramians.moments import observability_factor, observed_factor
from compressm.gramians.observe import observe
from compressm.gramians.signals import Signal
from compressm.gramians.types import INPUT, MODEL
from tests.compressm.helpers import cut_by


def lru(d_state=24, seed=0, **options):
    torch.manual_seed(seed)
    return LRU(4, d_state, **options)


def smooth(batch, length, m, seed=0):
    """Inputs of low frequency only."""
    torch.manual_seed(seed)
    return torch.randn(batch, length, m).cumsum(1) / length**0.5


@pytest.mark.parametrize("conjugate", [True, False])
def test_white_inputs_give_the_controllability_gramian(every_state, conjugate):
    system = lru(5, r_max=0.95).to_lti(conjugate=conjugate)
    torch.manual_seed(1)
    S = observed_factor(system, [torch.randn(300, 900, 4)])
    P = lti.controllability_gramian(system)
    assert S.shape == P.shape
    assert torch.linalg.norm(S @ S.mH - P) < 0.1 * torch.linalg.norm(P)


@pytest.mark.parametrize("conjugate", [True, False])
@pytest.mark.parametrize("length", [1, 7, 64])
def test_it_is_the_second_moment_of_the_states_of_a_plain_loop(every_state, conjugate, length):
    system = lru(20, r_max=0.95).to_lti(conjugate=conjugate)
    dense = system.to_dense()
    u = torch.randn(3, length, 4, dtype=torch.float64)  # few samples: every step is looked at
    x, states = torch.zeros(3, dense.order, dtype=dense.A.dtype), []
    for t in range(length):
        x = x @ dense.A.mT + u[:, t].to(dense.B.dtype) @ dense.B.mT
        states.append(x)
    x = torch.cat(states)
    S = observed_factor(system, [u])
    torch.testing.assert_close(S @ S.mH, x.mT @ x.conj() / len(x), rtol=1e-10, atol=1e-12)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), stored=st.integers(1, 12))
def test_layers_cut_by_observed_inputs_stay_stable(seed, stored):
    layer = lru(16, seed)
    cut = compress_(layer, Order(stored), gramians="input", data=[smooth(4, 50, 4, seed)]).layers[0]
    assert cut.skipped is None and layer.d_state == stored
    assert (layer.to_lti().poles.abs() < 1).all()
    assert cut.error_bound == float("inf")


def test_on_the_inputs_observed_it_beats_the_exact_gramian_at_equal_size():
    u = smooth(8, 200, 4)
    errors = {}
    for name, data in {"model": (), "input": [u]}.items():
        layer = lru(64)
        before = layer(u)
        compress_(layer, Order(6), gramians=name, data=data)
        errors[name] = (layer(u) - before).square().mean()
    assert errors["input"] < 0.1 * errors["model"]


def test_a_compressor_observes_the_training_batch_of_the_step_and_nothing_else():
    torch.manual_seed(0)
    model = SequenceModel(d_input=2, d_output=3, d_model=4, d_state=32, n_layers=2, dropout=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    compressor = Compressor(
        model, optimizer, policy=KeepEnergy(0.99), schedule=Every(2, stop=2), gramians="input"
    )
    seen = {}
    for name, module in model.named_modules():
        if isinstance(module, LRU):
            module.register_forward_pre_hook(
                lambda _, args, name=name: seen.__setitem__(name, args[0].detach())
            )
    for step in range(2):
        model(smooth(5, 40, 2)).square().mean().backward()
        optimizer.step()
        if step == 0:
            assert compressor.step() is None
    inputs = dict(seen)
    expected = copy.deepcopy(model)
    model.eval()
    model(torch.randn(5, 40, 2) * 100)  # an evaluation before the cut must not count
    model.train()
    event = compressor.step()
    signals = {name: [Signal(u)] for name, u in inputs.items()}
    other = cut_by(expected, signals, KeepEnergy(0.99), "input")
    assert [cut.after for cut in event.layers] == [cut.after for cut in other.layers]
    assert all(cut.after < 32 and cut.skipped is None for cut in event.layers)
    for a, b in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_layer_whose_inputs_were_not_observed_is_left_alone():
    model = torch.nn.ModuleDict({"used": lru(), "idle": lru()})
    model.forward = lambda u: model["used"](u)
    used, idle = compress_(model, Order(4), gramians="input", data=[smooth(4, 50, 4)]).layers
    assert used.after == 4 and idle.after == 24 and "none of its inputs" in idle.skipped
    with pytest.raises(ValueError, match="no data reached the layers"):
        compress_(model, Order(4), gramians="input")


def test_inputs_that_are_not_finite_leave_the_layer_alone():
    layer = lru()
    u = smooth(4, 50, 4)
    u[0, 0, 0] = float("inf")
    cut = compress_(layer, Order(4), gramians="input", data=[u]).layers[0]
    assert cut.after == 24 and "not finite" in cut.skipped


def test_layers_with_a_pole_at_zero_or_without_states():
    layer = lru()
    torch.nn.init.constant_(layer.nu_log[:1].detach(), 7.0)
    u = smooth(4, 50, 4)
    assert compress_(layer, Order(4), gramians="input", data=[u]).layers[0].after == 4
    layer = LRU(4, 0)
    assert compress_(layer, Order(4), gramians="input", data=[u]).layers[0].after == 0


def test_an_error_bound_is_not_promised_on_observed_inputs():
    with pytest.raises(ValueError, match="promises a bound"):
        compress_(lru(), ErrorBound(1.0), gramians="input")
    with pytest.raises(ValueError, match="promises a bound"):
        Compressor(lru(), policy=ErrorBound(1.0), schedule=Every(1), gramians="input")


@pytest.mark.parametrize("conjugate", [True, False])
def test_white_gradients_give_the_observability_gramian(every_state, conjugate):
    system = lru(5, r_max=0.95).to_lti(conjugate=conjugate)
    torch.manual_seed(1)
    R = observability_factor(system, [torch.randn(300, 900, 4)])
    Q = lti.observability_gramian(system)
    assert torch.linalg.norm(R @ R.mH - Q) < 0.1 * torch.linalg.norm(Q)


def test_adjoints_are_gradients_for_what_enters_the_state(every_state):
    system = lru(3, r_max=0.95).to_lti()
    dense = system.to_dense()
    torch.manual_seed(1)
    v = torch.zeros(2, 9, 6, dtype=torch.float64, requires_grad=True)
    x, y = torch.randn(2, 6, dtype=torch.float64), []
    for t in range(9):
        x = x @ dense.A.mT + v[:, t]
        y.append(x @ dense.C.mT)
    y = torch.stack(y, dim=1)
    loss = y.sin().sum()
    (g,) = torch.autograd.grad(loss, v, retain_graph=True)
    (gy,) = torch.autograd.grad(loss, y)
    g = g.flatten(0, 1)
    R = observability_factor(system, [gy])
    torch.testing.assert_close(R @ R.mT, g.mT @ g / len(g), rtol=1e-10, atol=1e-12)


def test_many_signals_are_one_sample(every_state):
    system = lru(5).to_lti()
    u = smooth(12, 30, 4)
    S, one = observed_factor(system, list(u.split(4))), observed_factor(system, [u])
    torch.testing.assert_close(S @ S.mT, one @ one.mT)


def test_a_stack_of_channels_is_observed_channel_by_channel(every_state):
    members = [lru(5, seed=s).to_lti() for s in range(3)]
    stack = lti.DiagonalStateSpace(
        torch.stack([x.poles for x in members]),
        torch.stack([x.B[:, :1] for x in members]),
        torch.stack([x.C[:1] for x in members]),
        conjugate=True,
    )
    u = smooth(4, 60, 3)
    for system in (stack, stack.to_dense()):
        S, R = observed_factor(system, [u]), observability_factor(system, [u])
        for k, x in enumerate(members):
            one = lti.DiagonalStateSpace(x.poles, x.B[:, :1], x.C[:1], conjugate=True)
            S_k = observed_factor(one, [u[..., k : k + 1]])
            R_k = observability_factor(one, [u[..., k : k + 1]])
            torch.testing.assert_close(S[k] @ S[k].mT, S_k @ S_k.mT)
            torch.testing.assert_close(R[k] @ R[k].mT, R_k @ R_k.mT)


def test_data_are_run_in_evaluation_mode_and_leave_no_trace():
    torch.manual_seed(0)
    model = SequenceModel(d_input=2, d_output=3, d_model=4, d_state=16, n_layers=2, dropout=0.5)
    model.blocks[0].eval()
    model(smooth(3, 20, 2)).sum().backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    before = copy.deepcopy(model.state_dict())
    modes = [m.training for m in model.modules()]
    signals = observe(model, [smooth(3, 20, 2), (smooth(2, 10, 2), "label")], gradients=True)
    assert [m.training for m in model.modules()] == modes
    for a, b in zip(gradients, model.parameters(), strict=True):
        assert torch.equal(a, b.grad)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert not any(m._forward_hooks for m in model.modules())
    for seen in signals.values():
        assert [s.u.shape for s in seen] == [s.g.shape for s in seen] == [(3, 20, 4), (2, 10, 4)]
        assert all(s.g.any() for s in seen)


def test_what_the_loss_does_not_feel_goes_for_nothing():
    layer = lru(16)
    with torch.no_grad():
        layer.C[1:] = layer.C[:1]  # four outputs of one kind

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


def test_gramians_from_data_in_training_come_from_its_own_backward():
    torch.manual_seed(0)
    model = SequenceModel(d_input=2, d_output=3, d_model=4, d_state=32, n_layers=2)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    compressor = Compressor(
        model, optimizer, policy=Order(8), schedule=Every(2, stop=2), gramians="data"
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


def test_without_a_backward_pass_there_are_no_gramians_from_data():
    model = SequenceModel(d_input=2, d_output=3, d_model=4, d_state=32, n_layers=1)
    compressor = Compressor(model, policy=Order(8), schedule=Every(1, stop=1), gramians="data")
    model(smooth(5, 40, 2))
    assert "no gradient at its output" in compressor.step().layers[0].skipped


def test_few_states_are_drawn_from_all_times_of_a_sequence():
    with torch.no_grad():
        system = lru(16).to_lti()
    torch.manual_seed(1)
    u = torch.randn(200, 600, 4) * torch.linspace(0, 1, 600)[:, None]  # ever louder
    dense, x, squares = system.to_dense(), torch.zeros(200, 32, dtype=torch.float64), []
    for v in u.double().unbind(1):
        x = x @ dense.A.mT + v @ dense.B.mT
        squares.append(x.square().sum(-1).mean())
    S = observed_factor(system, list(u.split(20)))
    assert S.square().sum() == pytest.approx(torch.stack(squares).mean().item(), rel=0.1)
    assert torch.equal(S, observed_factor(system, list(u.split(20))))  # the same ones each time


def test_channels_that_would_blow_up_take_the_exact_gramian_and_the_others_do_not(every_state):
    torch.manual_seed(3)  # a draw of which one channel would be unstable
    layer = S4D(3, 8, dt_min=0.05, dt_max=0.3)
    G = layer.to_lti()
    u, g = torch.randn(2, 30, 3), torch.randn(2, 30, 3)
    g[..., 1] = torch.linspace(0, 1, 30) ** 8 * 100  # of which the loss feels the end only
    signals = {"": [Signal(u, g)]}
    (cut,) = cut_by(layer, signals, Order(3), "data").layers
    assert cut.skipped is None and cut.after <= 3 and (layer.to_lti().poles.abs() < 1).all()
    S = observed_factor(G, [u])
    values = {
        name: lti.balance(G, controllability=S, observability=R).hsv.detach().numpy()
        for name, R in {"data": observability_factor(G, [g]), "exact": None}.items()
    }
    kinds = [
        next(
            (
                k
                for k, v in values.items()
                if np.allclose(v[i] / v[i, 0], cut.hsv[i] / cut.hsv[i, 0])
            ),
            None,
        )
        for i in range(3)
    ]  # the exact one in units of the other
    assert None not in kinds and "data" in kinds and "exact" in kinds


@pytest.mark.parametrize("kind", [S4D, S5])
def test_two_directions_are_both_observed(every_state, kind):
    torch.manual_seed(0)
    layer = kind(3, 4, bidirectional=True, dt_min=0.05, dt_max=0.3)
    G = layer.to_lti()
    u, g = torch.randn(2, 40, 3), torch.randn(2, 40, 3)
    signals = {"": [Signal(u, g)]}
    for gramians in ("input", "data"):
        trial = copy.deepcopy(layer)
        (cut,) = cut_by(trial, signals, Order(3), gramians).layers
        S = observed_factor(G, [u, u.flip(1)])
        ways = zip(G.C.split(G.n_outputs // 2, dim=-2), (g, g.flip(1)), strict=True)
        R = torch.cat([observability_factor(replace(G, C=C, D=None), [x]) for C, x in ways], -1)
        R = R if gramians == "data" else None
        expected = lti.balance(G, controllability=S, observability=R).hsv.detach().numpy()
        assert cut.skipped is None and cut.hsv == pytest.approx(expected, rel=1e-9)


def test_a_state_that_only_the_way_back_drives_is_kept():
    torch.manual_seed(0)
    layer = S4D(1, 8, bidirectional=True, dt_min=0.1, dt_max=0.1)
    u = torch.zeros(4, 50, 1)
    u[:, -1] = torch.randn(4, 1)
    y = layer(u)
    compress_(layer, KeepEnergy(0.9999), gramians="input", data=[u])
    assert (layer(u) - y).norm() < 0.02 * y.norm()


def test_preview_does_not_depend_on_what_was_asked_before():
    torch.manual_seed(1)  # a draw of which a channel falls back to the exact Gramian on the way
    model = torch.nn.Sequential(S4D(6, 8, dt_min=0.05, dt_max=0.3), torch.nn.Linear(6, 1))
    u = torch.randn(3, 40, 6).cumsum(1) / 40**0.5
    policies = [Order(2), Order(3), KeepEnergy(0.9), KeepEnergy(0.99)]

    def asked(policies):
        torch.manual_seed(5)  # of the projections
        return [str(x) for x in preview(model, policies, gramians="data", data=[u])]

    assert asked(policies) == [asked([policy])[0] for policy in policies]


def test_a_model_that_is_watched_can_be_saved(tmp_path):
    model = SequenceModel(1, 2, d_model=3, d_state=4, n_layers=1)
    Compressor(model, policy=Order(2), schedule=Every(1), gramians="input")
    torch.save(model, tmp_path / "model.pt")


def test_gradients_need_a_parameter_to_go_to():
    model = SequenceModel(1, 2, d_model=3, d_state=4, n_layers=1).requires_grad_(False)
    with pytest.raises(ValueError, match="none of them requires one"):
        compress_(model, Order(2), gramians="data", data=[torch.randn(2, 9, 1)])


@pytest.mark.parametrize("policy, gramians", [(Order(4), "model"), (ErrorBound(5.0), None)])
def test_with_the_gramians_of_the_model_data_measure_the_cut_and_change_nothing(policy, gramians):
    layer, data = lru(), [smooth(9, 20, 4)]
    (cut,) = compress_(layer, policy, gramians=gramians, data=data, dry_run=True).layers
    (alone,) = compress_(layer, policy, gramians="model", dry_run=True).layers
    assert cut.output_error > 0 and cut.gramians == "model"
    assert (cut.after, cut.error_bound) == (alone.after, alone.error_bound)
    assert alone.output_error is None


# ------------------------------------------------------------------ what is at hand decides


def used_and_idle():
    """A model of two layers, of which its inputs reach one."""
    model = torch.nn.ModuleDict({"used": lru(), "idle": lru(seed=1)})
    model.forward = lambda u: model["used"](u)
    return model


def test_a_layer_is_weighed_by_its_inputs_where_there_are_any():
    u = smooth(4, 50, 4)
    for data, kinds in ((), ["model", "model"]), ([u], ["input", "model"]):
        cuts = compress_(used_and_idle(), Order(4), data=data, dry_run=True).layers
        assert [cut.gramians for cut in cuts] == kinds
        for cut, kind in zip(cuts, kinds, strict=True):
            given = [u] if kind == "input" else ()
            told = preview(used_and_idle(), [Order(4)], gramians=kind, data=given)[0].layers
            (expected,) = (x for x in told if x.name == cut.name)
            assert (cut.hsv == expected.hsv).all() and cut.error_bound == expected.error_bound


@pytest.mark.parametrize(
    "policy, gramians, kinds",
    [
        (Order(4), None, ["input", "model"]),
        (Order(4), "input", ["input", ""]),
        (Order(4), "model", ["model", "model"]),
        (ErrorBound(5.0), None, ["model", "model"]),
    ],
)
def test_in_training_a_bound_and_idle_layers_alone_take_the_gramians_of_the_model(
    policy, gramians, kinds
):
    model = used_and_idle()
    compressor = Compressor(model, policy=policy, schedule=Every(1), gramians=gramians)
    model(smooth(4, 50, 4)).square().mean().backward()
    event = compressor.step()
    assert [cut.gramians for cut in event.layers] == kinds
    for cut, kind in zip(event.layers, kinds, strict=True):
        assert (cut.after < cut.before) == (cut.skipped is None) == bool(kind)
        assert np.isfinite(cut.error_bound) == (kind != "input")
        assert (f"{cut.name}: 24 -> {cut.after}" + f" by {kind}" * bool(kind)) in str(event)


def test_without_a_policy_each_kind_keeps_a_share_of_its_own(monkeypatch):
    monkeypatch.setattr(MODEL, "energy", 0.7)
    monkeypatch.setattr(INPUT, "energy", 0.95)
    u = smooth(4, 50, 4)
    used, idle = compress_(used_and_idle(), data=[u], dry_run=True).layers
    for cut, kind, energy in (used, "input", 0.95), (idle, "model", 0.7):
        events = preview(used_and_idle(), [KeepEnergy(energy)], data=[u])
        (expected,) = (x for x in events[0].layers if x.name == cut.name)
        assert cut.gramians == kind and cut.after == expected.after < 24
    model = used_and_idle()
    compressor = Compressor(model, schedule=Every(1))
    model(u)
    assert [x.after for x in compressor.step().layers] == [used.after, idle.after]


def test_an_outlook_shows_the_kinds_side_by_side_from_one_run_of_the_data():
    torch.manual_seed(0)
    model = SequenceModel(d_input=2, d_output=3, d_model=4, d_state=16, n_layers=2)
    batches, policies = [smooth(3, 40, 2, seed) for seed in range(2)], [Order(4), None]
    kinds, runs = ("model", "input", "data"), []
    model.register_forward_hook(lambda *_: runs.append(1))

    def asked(gramians):
        torch.manual_seed(5)  # of the projections
        data = () if gramians == "model" else iter(batches)
        return preview(model, policies, gramians=gramians, data=data)

    events = asked(kinds)
    assert len(runs) == len(batches)
    assert [{cut.gramians for cut in event.layers} for event in events[::2]] == [{x} for x in kinds]
    alone = [event for kind in kinds for event in asked(kind)]
    assert list(map(str, events)) == list(map(str, alone))
    assert str(preview(model)[0]) == str(alone[1])
    with pytest.raises(ValueError, match="no data reached the layers"):
        preview(model, gramians=("model", "input"))
    with pytest.raises(ValueError, match="promises a bound"):
        preview(model, [ErrorBound(1.0)], gramians=("model", "input"), data=batches)


def test_a_cut_says_that_stability_took_the_exact_observability(every_state):
    torch.manual_seed(3)
    layer = S4D(1, 8, dt_min=0.05, dt_max=0.3)
    u, g = torch.randn(2, 30, 1), torch.linspace(0, 1, 30)[:, None].expand(2, 30, 1) ** 8 * 100
    (cut,) = cut_by(layer, {"": [Signal(u, g)]}, Order(3), "data", dry_run=True).layers
    (same,) = cut_by(layer, {"": [Signal(u)]}, Order(3), "input", dry_run=True).layers
    assert cut.gramians == "input" and (cut.hsv == same.hsv).all()


def test_the_share_is_kept_of_the_values_that_stability_took(every_state):
    torch.manual_seed(39)
    layer = S4D(1, 8, dt_min=0.05, dt_max=0.3)
    u, g = torch.randn(2, 30, 1), torch.linspace(0, 1, 30)[:, None].expand(2, 30, 1) ** 8 * 100
    signals = {"": [Signal(u.cumsum(1), g)]}  # of their own values 5 states keep enough
    (cut,) = cut_by(layer, signals, KeepEnergy(0.99), "data", dry_run=True).layers
    assert cut.gramians == "input" and cut.energy_kept >= 0.99
    (cut,) = cut_by(layer, signals, Order(5), "data", dry_run=True).layers
    assert cut.gramians == "input" and cut.after == 5
