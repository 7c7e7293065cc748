"""State bytes, operations and seconds of a step, before and after a cut."""

import pytest
import torch
from torch import nn

from compressm import (
    DSS,
    LRU,
    LSSL,
    S4,
    S4D,
    S5,
    KeepEnergy,
    Mamba,
    OptionError,
    States,
    compress_,
    preview,
)
from compressm.compression import units
from tests.compressm.foreign_layers import MinimalLRU
from tests.compressm.helpers import is_unchanged, model_of, parameters_of
from tests.compressm.selective_layers import language_model, tokens


def bytes_of(*parts):
    """Of the first sequence of tensors (batch, ...)."""
    return sum(x[0].numel() * x.element_size() for x in parts)


PER_STATE = {LRU: 2, S5: 2, S4D: 8, DSS: 8, S4: 8, LSSL: 4}  # real numbers, of 4 channels


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", PER_STATE)
def test_state_bytes_are_those_of_a_streaming_step(kind, dtype):
    torch.manual_seed(0)
    layer = kind(4, 12).to(dtype)
    (cut,) = compress_(layer, States(6)).layers
    each = PER_STATE[kind] * dtype.itemsize
    diagonal = 2 * each if kind is LSSL else each  # its dense real A becomes diagonal and complex
    assert cut.after < 12 and cut.state_bytes == (12 * each, cut.after * diagonal)
    state = layer.step(torch.zeros(2, 4, dtype=dtype))[1]
    assert bytes_of(state) == cut.state_bytes[1]


def test_two_directions_have_two_states():
    (cut,) = compress_(S4D(4, 12, bidirectional=True), States(6)).layers
    assert cut.state_bytes == (2 * 8 * 12 * 4, 2 * 8 * 6 * 4)


def test_the_state_of_a_layer_of_another_package():
    (cut,) = compress_(MinimalLRU(4, 12), States(6)).layers
    assert cut.state_bytes == (12 * 8, 6 * 8)


def test_the_state_of_our_mamba_includes_its_convolution():
    layer = Mamba(4, 12)
    (cut,) = compress_(layer, States(6), data=[torch.randn(8, 20, 4)]).layers
    assert cut.state_bytes[1] == bytes_of(*layer.step(torch.zeros(2, 4))[1]) < cut.state_bytes[0]


@pytest.mark.parametrize("name", ["Mamba", "Mamba2", "FalconMamba"])
def test_state_bytes_of_a_language_model_are_those_of_its_cache(name):
    model = language_model(name).eval()
    event = compress_(model, States(4), data=[tokens()])
    cache = model(tokens()[:1], use_cache=True).cache_params
    kernel = model.config.conv_kernel
    for cut, layer in zip(event.layers, cache.layers, strict=True):
        states, inputs = layer.recurrent_states[0], layer.conv_states[0]
        windows = bytes_of(inputs) * (kernel - 1) // kernel  # the cache holds one more
        assert cut.state_bytes[1] == bytes_of(states) + windows < cut.state_bytes[0]


def test_operations_of_a_selective_layer_fall_with_its_states():
    layer = Mamba(8, 16)
    held = sum(p.numel() for p in layer.parameters())
    (cut,) = compress_(layer, States(4), data=[torch.randn(8, 20, 8)]).layers
    left = sum(p.numel() for p in layer.parameters())
    assert cut.flops == (2 * held + 6 * 16 * 16, 2 * left + 6 * 16 * 4)


def test_a_layer_that_stays_has_equal_numbers():
    (cut, _) = compress_(model_of(), KeepEnergy(1.0)).layers
    assert cut.state_bytes == (16 * 8, 16 * 8) and cut.flops[0] == cut.flops[1] > 0
    refused = cut.refused("no")
    assert refused.state_bytes == cut.state_bytes and refused.flops == cut.flops


# ------------------------------------------------------------------ seconds


def test_a_preview_times_each_layer_once_at_each_size():
    model = model_of()
    for block in model.blocks:  # a hook that may not see the copies
        block.layer.register_forward_hook(lambda *_: calls.append(1))
    calls, before, seed = [], parameters_of(model), torch.random.get_rng_state()
    u = torch.randn(8, 30, 2)
    after = torch.random.get_rng_state()
    events = preview(model, [States(8), States(4), States(8)], data=[u], measure=True)
    assert torch.equal(torch.random.get_rng_state(), after) and not torch.equal(seed, after)
    first, second, again = ([cut.step_seconds for cut in event.layers] for event in events)
    assert all(x > 0 for pair in (*first, *second) for x in pair)
    assert first == again and [x for x, _ in first] == [x for x, _ in second] and first != second
    assert len(calls) == 2 and is_unchanged(model, before)
    assert all(p.grad is None for p in model.parameters())
    assert preview(model, [States(8)], data=[u])[0].layers[0].step_seconds is None


def test_a_language_model_is_timed():
    model = language_model().eval()
    (event,) = preview(model, [States(2)], data=[tokens()], measure=True)
    assert all(min(cut.step_seconds) > 0 for cut in event.layers)


class NeedsMore(LRU):
    def forward(self, u, state=None, *, more=None):
        return super().forward(u, state) * more


def test_a_layer_that_needs_more_than_its_input_is_not_timed():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = NeedsMore(4, 12)

        def forward(self, u):
            return self.layer(u, more=1.0)

    (event,) = preview(Model(), [States(4)], data=[torch.randn(8, 20, 4)], measure=True)
    assert event.layers[0].after == 4 and event.layers[0].step_seconds is None


def test_a_layer_without_derivatives_is_not_timed():
    class Constant(LRU):
        def forward(self, u, state=None):
            with torch.no_grad():
                return super().forward(u, state)

    event = compress_(Constant(4, 12), States(4), data=[torch.randn(8, 20, 4)], measure=True)
    assert event.layers[0].after == 4 and event.layers[0].step_seconds is None


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory"),
            r"no memory on cpu .* Failing .*\(2, 5, 4\); .*smaller",
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "no memory on cpu"),
        (MemoryError(), "no memory on cpu"),
    ],
)
def test_a_measurement_without_memory_says_so(error, message):
    u = torch.randn(2, 5, 4)
    with pytest.raises(OptionError, match=message):
        units.step_seconds(Failing(error), u)
    with pytest.raises(OptionError, match=message):
        units.step_seconds(Failing(error, backward=True), u)


@pytest.mark.parametrize("backward", [False, True])
def test_a_layer_that_cannot_be_run_is_not_timed(backward):
    u = torch.randn(2, 5, 4)
    assert units.step_seconds(Failing(RuntimeError("no such kernel"), backward), u) is None


class Failing(LRU):
    """A layer whose forward or backward pass fails."""

    def __init__(self, error, backward=False):
        super().__init__(4, 12)
        self.error, self.backward = error, backward

    def forward(self, u, state=None):
        y = super().forward(u, state)
        if not self.backward:
            raise self.error
        y.register_hook(self.fail)
        return y

    def fail(self, _):
        raise self.error


def test_a_measurement_needs_data():
    with pytest.raises(OptionError, match="give data="):
        compress_(model_of(), States(4), measure=True)
    with pytest.raises(OptionError, match="give data="):
        preview(model_of(), [States(4)], measure=True)


def test_a_batch_as_large_as_the_observed_one_is_timed(monkeypatch):
    seen = []
    monkeypatch.setattr(units, "step_seconds", lambda layer, u: seen.append(u.shape) or 1.0)
    model, u = nn.Sequential(Mamba(8, 6)), torch.randn(16, 12, 8)
    preview(model, [States(3)], data=u.split(8), measure=True)
    assert seen == [(8, 12, 8)] * 2
