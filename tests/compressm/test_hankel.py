"""Gramians from observed inputs: what they tend to, and what they buy."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lti
from compressm import (
    LRU,
    Compressor,
    ErrorBound,
    Every,
    KeepEnergy,
    Order,
    SequenceModel,
    compress_,
    hankel_spectra,
)
from compressm.hankel import observed_factor


def lru(d_state=24, seed=0, **options):
    torch.manual_seed(seed)
    return LRU(4, d_state, **options)


def smooth(batch, length, m, seed=0):
    """Inputs of low frequency only."""
    torch.manual_seed(seed)
    return torch.randn(batch, length, m).cumsum(1) / length**0.5


@pytest.mark.parametrize("conjugate", [True, False])
def test_white_inputs_give_the_controllability_gramian(conjugate):
    system = lru(5, r_max=0.95).to_lti(conjugate=conjugate)
    torch.manual_seed(1)
    S = observed_factor(system, torch.randn(2000, 900, 4))
    P = lti.controllability_gramian(system)
    assert S.shape == P.shape
    assert torch.linalg.norm(S @ S.mH - P) < 0.1 * torch.linalg.norm(P)


@pytest.mark.parametrize("conjugate", [True, False])
@pytest.mark.parametrize("length", [1, 7, 64])
def test_it_is_the_second_moment_of_the_states_of_a_plain_loop(conjugate, length):
    system = lru(20, r_max=0.95).to_lti(conjugate=conjugate)
    dense = system.to_dense()
    u = torch.randn(3, length, 4, dtype=torch.float64)  # few samples: every step is looked at
    x, states = torch.zeros(3, dense.order, dtype=dense.A.dtype), []
    for t in range(length):
        x = x @ dense.A.mT + u[:, t].to(dense.B.dtype) @ dense.B.mT
        states.append(x)
    x = torch.cat(states)
    S = observed_factor(system, u)
    torch.testing.assert_close(S @ S.mH, x.mT @ x.conj() / len(x), rtol=1e-10, atol=1e-12)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), stored=st.integers(1, 12))
def test_layers_cut_by_observed_inputs_stay_stable(seed, stored):
    layer = lru(16, seed)
    cut = compress_(layer, Order(stored), inputs={"": smooth(4, 50, 4, seed)}).layers[0]
    assert cut.skipped is None and layer.d_state == stored
    assert (layer.to_lti().poles.abs() < 1).all()
    assert cut.error_bound == float("inf")


def test_on_the_inputs_observed_it_beats_the_exact_gramian_at_equal_size():
    u = smooth(8, 200, 4)
    errors = {}
    for name, inputs in {"model": None, "input": {"": u}}.items():
        layer = lru(64)
        before = layer(u)
        compress_(layer, Order(6), inputs=inputs)
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
    other = compress_(expected, KeepEnergy(0.99), inputs=inputs)
    assert [cut.after for cut in event.layers] == [cut.after for cut in other.layers]
    assert all(cut.after < 32 and cut.skipped is None for cut in event.layers)
    for a, b in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_layer_whose_inputs_were_not_observed_is_left_alone():
    layer = lru()
    cut = compress_(layer, Order(4), inputs={}).layers[0]
    assert cut.after == 24 and "no input" in cut.skipped


def test_inputs_that_are_not_finite_leave_the_layer_alone():
    layer = lru()
    u = smooth(4, 50, 4)
    u[0, 0, 0] = float("inf")
    cut = compress_(layer, Order(4), inputs={"": u}).layers[0]
    assert cut.after == 24 and "not finite" in cut.skipped


def test_layers_with_a_pole_at_zero_or_without_states():
    layer = lru()
    torch.nn.init.constant_(layer.nu_log[:1].detach(), 7.0)
    u = smooth(4, 50, 4)
    assert compress_(layer, Order(4), inputs={"": u}).layers[0].after == 4
    layer = LRU(4, 0)
    assert compress_(layer, Order(4), inputs={"": u}).layers[0].after == 0


def test_an_error_bound_is_not_promised_on_observed_inputs():
    with pytest.raises(ValueError, match="promises a bound"):
        compress_(lru(), ErrorBound(1.0), inputs={})
    with pytest.raises(ValueError, match="promises a bound"):
        Compressor(lru(), policy=ErrorBound(1.0), schedule=Every(1), gramians="input")


def test_spectra_are_those_of_the_layers():
    torch.manual_seed(0)
    model = SequenceModel(d_input=2, d_output=3, d_model=4, d_state=8, n_layers=2)
    spectra = hankel_spectra(model)
    assert list(spectra) == ["blocks.0.layer", "blocks.1.layer"]
    for name, hsv in spectra.items():
        expected = lti.hankel_singular_values(model.get_submodule(name).to_lti().to_dense())
        assert hsv == pytest.approx(expected.detach().numpy(), abs=1e-12 * hsv[0])
