"""Cutting a model: the loop goes on, the certificate holds, what is unsafe is left alone."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.utils.prune
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import lti
from compressm import (
    LRU,
    S4D,
    S5,
    Budget,
    Compressor,
    ErrorBound,
    Every,
    KeepEnergy,
    MetricDrop,
    OptionError,
    Order,
    SequenceModel,
    compress_,
    hankel_spectra,
    preview,
)
from compressm.gramians.signals import Signal
from tests.compressm.helpers import cut_by

W = torch.linspace(0, 2 * torch.pi, 513, dtype=torch.float64)


def model_of(d_state=16, n_layers=2, seed=0, **options):
    torch.manual_seed(seed)
    return SequenceModel(
        d_input=2, d_output=3, d_model=4, d_state=d_state, n_layers=n_layers, **options
    )


def lru(d_model=4, d_state=24, seed=0, **options):
    torch.manual_seed(seed)
    return LRU(d_model, d_state, **options)


@torch.no_grad()
def gap(G, F, w=W):
    """max over w of the largest singular value of G - F."""
    return float(
        torch.linalg.matrix_norm(lti.frequency_response(G, w) - lti.frequency_response(F, w), 2)
        .max()
    )  # fmt: skip


def real_response(layer, w=W):
    """The transfer function of Re(C x), from a complex G: (G(z) + conj(G(conj z))) / 2."""
    G = layer.to_lti(conjugate=False)
    forward, backward = (lti.frequency_response(G, s * w) for s in (1, -1))
    return (forward + backward.conj()) / 2


def snapshot(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
def test_the_loop_of_the_readme_trains_on_and_moves_every_parameter(make):
    model = model_of(dropout=0.0)
    options = {"momentum": 0.9} if make is torch.optim.SGD else {}
    optimizer = make(model.parameters(), lr=1e-2, **options)
    compressor = Compressor(model, optimizer, policy=Order(6), schedule=Every(2, stop=2))
    identities = [id(p) for p in model.parameters()]
    u, target = torch.randn(8, 20, 2), torch.randint(0, 3, (8,))
    events = []
    for _ in range(4):
        loss = nn.functional.cross_entropy(model(u), target)  # held, as loops do, across the cut
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        events.append(compressor.step())
        before = snapshot(model)
    assert [event is not None for event in events] == [False, True, False, False]
    assert [(cut.before, cut.after, cut.skipped) for cut in events[1].layers] == [(16, 6, None)] * 2
    assert events[1].step == 2
    assert [id(p) for p in model.parameters()] == identities
    loss = nn.functional.cross_entropy(model(u), target)
    loss.backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        assert (parameter != before[name]).any(), f"{name} is frozen"
        assert torch.isfinite(parameter).all()


@pytest.mark.parametrize("system", ["real", "complex"])
@pytest.mark.parametrize("policy", [KeepEnergy(0.9), ErrorBound(4.0), Order(8)], ids=str)
def test_the_response_after_a_cut_is_the_reduced_system_within_the_bound(system, policy):
    layer = lru(r_max=0.99)
    original = copy.deepcopy(layer)
    balancing = lti.balance(layer.to_lti(conjugate=system == "real"))
    cut = compress_(layer, policy, system=system).layers[0]
    assert cut.after == layer.d_state < cut.before and cut.skipped is None
    reduced = balancing.truncate(cut.order).system
    written = layer.to_lti(conjugate=system == "real")
    w = torch.cat([W, written.poles.angle()])
    peak = torch.linalg.matrix_norm(lti.frequency_response(reduced, w), 2).max()
    assert gap(written, reduced, w) / peak < 1e-5
    error = real_response(layer) - real_response(original)  # what the layer outputs is real
    assert torch.linalg.matrix_norm(error, 2).max() <= cut.error_bound
    bound = float(lti.error_bound(cut.hsv, cut.order))
    assert bound <= cut.error_bound <= bound * (1 + 1e-4)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    d_model=st.integers(1, 4),
    d_state=st.integers(2, 20),
    stored=st.integers(1, 20),
    max_phase=st.sampled_from([0.1, math.pi, 2 * math.pi]),
)
def test_any_cut_stays_within_its_bound_and_near_its_system(
    seed, d_model, d_state, stored, max_phase
):
    layer = lru(d_model, d_state, seed, r_max=0.99, max_phase=max_phase)
    before = copy.deepcopy(layer).to_lti()
    cut = compress_(layer, Order(stored)).layers[0]
    assert layer.d_state <= max(stored, 1)
    if cut.after < cut.before:
        assert gap(layer.to_lti(), before) <= cut.error_bound
        assert cut.rounding < 1e-4


def test_the_real_system_needs_fewer_states_than_the_complex_one_at_one_error():
    errors = {}
    for system in ("real", "complex"):
        layer = lru(8, 64)
        before = real_response(layer)
        compress_(layer, Order(24), system=system)
        assert layer.d_state == 24
        errors[system] = torch.linalg.matrix_norm(real_response(layer) - before, 2).max()
    assert errors["real"] < 0.8 * errors["complex"]


def test_keeping_everything_changes_nothing_bit_for_bit():
    model = model_of()
    before = snapshot(model)
    for policy in (KeepEnergy(1.0), Order(16), Order(100), ErrorBound(0.0)):
        for cut in compress_(model, policy).layers:
            assert (cut.before, cut.after, cut.skipped) == (16, 16, None)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_layers_end_at_orders_of_their_own():
    model = model_of(d_state=32)
    with torch.no_grad():
        model.blocks[1].layer.B[4:] *= 1e-3  # its other states hardly matter
    first, second = compress_(model, KeepEnergy(0.95)).layers
    assert second.after < first.after < 32


def test_the_schedule_is_obeyed_and_resumes():
    def cuts(compressor, steps):
        return [event.step for _ in range(steps) if (event := compressor.step())]

    def fresh():
        return Compressor(model_of(), policy=KeepEnergy(0.9), schedule=Every(3, start=4, stop=10))

    assert cuts(fresh(), 20) == [4, 7, 10]
    first, second = fresh(), fresh()
    assert cuts(first, 5) == [4]
    second.load_state_dict(first.state_dict())
    assert cuts(second, 15) == [7, 10]


def test_nan_weights_are_skipped_with_the_reason_and_the_rest_is_cut():
    model = model_of()
    with torch.no_grad():
        model.blocks[0].layer.C[0, 0, 0] = math.nan
    before = snapshot(model)
    first, second = compress_(model, Order(4)).layers
    assert first.after == 16 and "C has" in first.skipped and "nan" in first.skipped
    assert second.after == 4 and second.skipped is None
    for name, parameter in model.named_parameters():
        if name.startswith("blocks.0"):
            assert torch.equal(parameter.nan_to_num(7), before[name].nan_to_num(7))


def test_a_layer_without_output_is_left_alone():
    layer = lru()
    nn.init.zeros_(layer.C)
    cut = compress_(layer, KeepEnergy(0.9)).layers[0]
    assert cut.after == 24 and "all zero" in cut.skipped


def test_parameters_tied_to_another_module_are_refused():
    model = model_of()
    model.blocks[1].layer.B = model.blocks[0].layer.B
    for cut in compress_(model, Order(4)).layers:
        assert cut.after == 16 and "B is also a parameter of another module" in cut.skipped


def test_a_layer_used_twice_is_cut_once():
    model = model_of()
    model.blocks[1] = model.blocks[0]
    (cut,) = compress_(model, Order(4)).layers
    assert cut.after == 4 and model(torch.randn(1, 5, 2)).shape == (1, 3)


def test_frozen_parameters_stay_frozen():
    model = model_of(n_layers=1)
    model.blocks[0].layer.B.requires_grad_(False)
    compress_(model, Order(4))
    flags = {name: p.requires_grad for name, p in model.blocks[0].layer.named_parameters()}
    assert flags.pop("B") is False and all(flags.values())


def test_nothing_global_changes():
    def state():
        return (
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.get_num_threads(),
            torch.get_rng_state().tolist(),
            np.geterr(),
        )

    model = model_of()
    before = state()
    compress_(model, Order(4))
    assert state() == before and model.training


def test_a_compressed_model_loads_into_a_fresh_one_of_full_size(tmp_path):
    model = model_of(d_state=32)
    compress_(model, KeepEnergy(0.9))
    torch.save(model.state_dict(), tmp_path / "model.pt")
    fresh = model_of(d_state=32, seed=1)
    fresh.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    u = torch.randn(3, 9, 2)
    model.eval(), fresh.eval()
    assert torch.equal(model(u), fresh(u))
    assert hankel_spectra(model).keys() == hankel_spectra(fresh).keys()


def test_model_optimizer_and_compressor_resume_to_the_same_run():
    def build():
        model = model_of(dropout=0.0)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        policy, schedule = KeepEnergy(0.9), Every(2, stop=6)
        return model, optimizer, Compressor(model, optimizer, policy=policy, schedule=schedule)

    u, target = torch.randn(8, 20, 2), torch.randint(0, 3, (8,))

    def train(parts, steps):
        model, optimizer, compressor = parts
        for _ in range(steps):
            nn.functional.cross_entropy(model(u), target).backward()
            optimizer.step()
            optimizer.zero_grad()
            compressor.step()

    whole, half, resumed = build(), build(), build()
    train(whole, 8)
    train(half, 3)
    for to, source in zip(resumed, half, strict=True):
        to.load_state_dict(copy.deepcopy(source.state_dict()))
    train(resumed, 5)
    for a, b in zip(whole[0].parameters(), resumed[0].parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_policy_that_fails_on_one_layer_leaves_every_layer_as_it_was():
    def policy(hsv, slots, seen=[]):  # noqa: B006
        seen.append(len(hsv))
        if len(seen) == 2:
            raise RuntimeError("no idea")
        return 4

    model = model_of()
    before = snapshot(model)
    with pytest.raises(RuntimeError, match="no idea"):
        compress_(model, policy)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_what_is_no_optimizer_fails_before_anything_is_written():
    model = model_of()
    before = snapshot(model)
    with pytest.raises(OptionError, match=r"must be a torch.optim.Optimizer, or a list .* object"):
        compress_(model, Order(4), object())
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_real_eigenvalues_that_fill_the_slots_are_named():
    layer = lru(2, 4, r_min=0.1, r_max=0.9, max_phase=1e-3)
    cut = compress_(layer, KeepEnergy(0.9999)).layers[0]
    assert cut.after == 4 and "some of its eigenvalues are real" in cut.skipped


def test_an_unknown_system_is_refused():
    with pytest.raises(ValueError, match="'real' or 'complex'"):
        compress_(model_of(), Order(2), system="Real")
    with pytest.raises(ValueError, match="'real' or 'complex'"):
        Compressor(model_of(), policy=Order(2), schedule=Every(1), system="imaginary")


def test_a_dry_run_says_what_a_cut_would_do_and_changes_nothing():
    model = model_of()
    before = snapshot(model)
    planned = compress_(model, KeepEnergy(0.9), dry_run=True)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert str(planned) == str(compress_(model, KeepEnergy(0.9)))
    assert all(cut.after < 16 for cut in planned.layers)


def test_numbers_in_place_of_a_policy_or_a_schedule_are_refused():
    model = model_of()
    with pytest.raises(ValueError, match=r"how far to cut, such as KeepEnergy\(0.99\), got 0.9"):
        compress_(model, 0.9)
    with pytest.raises(ValueError, match="how far to cut"):
        compress_(model, KeepEnergy)
    with pytest.raises(ValueError, match="when to cut"):
        Compressor(model, schedule=Every)
    with pytest.raises(ValueError, match=r"when to cut, such as At\(1_000\), got 100"):
        Compressor(model, schedule=100)


@pytest.mark.parametrize("policy", [KeepEnergy(0.9), Order(13), Budget(total=30)], ids=str)
def test_stored_states_come_in_multiples(policy):
    model, other = model_of(d_state=32), model_of(d_state=32)
    event = compress_(model, policy, multiple_of=8)
    plain = compress_(other, policy)
    for cut, free in zip(event.layers, plain.layers, strict=True):
        assert cut.after % 8 == 0 and cut.after < 32
        if isinstance(policy, KeepEnergy):
            assert free.after <= cut.after < free.after + 8
            assert cut.energy_kept >= free.energy_kept
        else:
            assert cut.after <= free.after
    with pytest.raises(ValueError, match="multiple_of"):
        compress_(model, policy, multiple_of=0)
    with pytest.raises(ValueError, match="leaves no multiple of 4 to store"):
        compress_(model, Order(3), multiple_of=4)


def test_a_budget_is_shared_by_the_layers():
    model = model_of(d_state=32)
    with torch.no_grad():
        model.blocks[1].layer.B[4:] *= 1e-3  # its other states hardly matter
    equal = compress_(model, Order(12), dry_run=True).layers
    first, second = compress_(model, Budget(total=24)).layers
    assert second.after < first.after and 20 <= first.after + second.after <= 24
    assert min(first.energy_kept, second.energy_kept) > min(cut.energy_kept for cut in equal)


def test_an_order_is_raised_to_what_its_slots_hold():
    layer = lru(4, 24)
    cut = compress_(layer, lambda hsv, slots: 7).layers[0]
    assert cut.order >= 7 and cut.after == layer.d_state
    deeper = lru(4, 24)
    assert compress_(deeper, lambda hsv, slots: cut.order).layers[0].after == cut.after


def test_an_outlook_says_of_many_policies_what_each_would_do():
    model = model_of()
    before = snapshot(model)
    policies = [KeepEnergy(0.8), KeepEnergy(0.9), Order(2), Budget(total=9)]
    events = preview(model, policies)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    for event, policy in zip(events, policies, strict=True):
        trial = copy.deepcopy(model)
        done = compress_(trial, policy)
        assert str(done) == str(event)
        for cut, name in zip(event.layers, ("blocks.0.layer", "blocks.1.layer"), strict=True):
            held = [sum(p.numel() for p in m.get_submodule(name).parameters())
                    for m in (model, trial)]  # fmt: skip
            assert cut.parameters == tuple(held)
            assert cut.flops == (16 * 40, cut.after * 40)  # 4 inputs, 4 outputs


def test_the_smallest_order_that_the_metric_allows_is_found_on_copies():
    model = model_of(d_state=24).eval()
    u = torch.randn(6, 40, 2)
    y = model(u)
    before, seen = snapshot(model), []

    def closeness(trial):
        seen.append(trial)
        assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
        return closeness_of(trial, u, y)

    event = compress_(model, MetricDrop(closeness, 0.02))
    assert all(cut.after < 24 for cut in event.layers) and len(seen) < 10
    assert closeness_of(model, u, y) >= -0.02
    closest_refused = max(c for trial in seen if (c := closeness_of(trial, u, y)) < -0.02)
    assert -0.04 < closest_refused  # the search ended next to what the metric refuses


def closeness_of(model, u, y):
    return -((model(u) - y).norm() / y.norm()).item()


def test_a_metric_that_switches_to_evaluation_leaves_the_model_training():
    model = model_of(dropout=0.5)
    policy = MetricDrop(lambda trial: trial.eval()(torch.ones(1, 5, 2)).sum().item(), 1.0)
    compress_(model, policy)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("kind", [S4D, S5])
def test_the_bound_of_two_directions_holds_where_their_errors_add_up(kind):
    layer = kind(1, 4, bidirectional=True).double()
    G = layer.to_lti()
    poles = torch.exp(-torch.tensor([0.05, 0.2, 0.8, 2.0], dtype=torch.float64)) + 0j
    shape = G.poles.shape
    B, C = torch.ones_like(G.B), torch.ones_like(G.C) / 2
    layer.load_lti_(lti.DiagonalStateSpace(poles.expand(shape), B, C, dt=True, conjugate=True))
    before, u = copy.deepcopy(layer), torch.ones(1, 2000, 1, dtype=torch.float64)
    (cut,) = compress_(layer, Order(1)).layers
    gain = (layer(u) - before(u))[0, 1000].abs().item()  # in the middle of a constant
    bound = float(lti.error_bound(cut.hsv, cut.order).max())
    assert cut.after == 1 and bound < gain <= cut.error_bound <= 1.5 * bound


def test_what_shares_a_part_with_another_layer_is_left_alone():
    one, other = model_of().blocks
    with torch.no_grad():
        pair = nn.ModuleList([one.layer, other.layer])
    pair[1].B = pair[0].B
    assert all("B is also" in cut.skipped for cut in compress_(pair, Order(4)).layers)


def test_a_pruned_parameter_is_named():
    layer = lru()
    nn.utils.prune.random_unstructured(layer, "B", amount=0.5)
    (cut,) = compress_(layer, Order(4)).layers
    assert cut.after == 24 and "B is no parameter of the layer" in cut.skipped


def test_inputs_without_a_batch_are_named():
    layer = lru()
    (cut,) = cut_by(layer, {"": [Signal(torch.randn(9, 4))]}, Order(4), "input").layers
    assert "not (batch, length, 4)" in cut.skipped
