"""Layers with parameters in half precision are cut as in single precision, or a sentence says why
they are not."""

import copy

import pytest
import torch
from torch import nn

from compressm import (
    LRU,
    LSSL,
    S4D,
    At,
    Compressor,
    OutputError,
    States,
    UnsupportedLayerError,
    compress_,
    load_checkpoint,
    preview,
    save_checkpoint,
)
from compressm.systems.selective import form_of, state_count
from tests.compressm import delta_layers, selective_layers
from tests.compressm.foreign_layers import MinimalLRU, PublishedS4D, PytorchLRU, neural_lru, s5
from tests.compressm.helpers import is_unchanged, parameters_of

HALF = (torch.bfloat16, torch.float16)
SELECTIVE = ("own", *selective_layers.FOREIGN, *delta_layers.FOREIGN)
QUICK = ("own", "Qwen3Next")
EACH = pytest.mark.parametrize(
    "name", [pytest.param(x, marks=[pytest.mark.slow] * (x not in QUICK)) for x in SELECTIVE]
)


def layer_of(name):
    of = delta_layers if name in delta_layers.FOREIGN else selective_layers
    layer = of.layer_of(name).float()
    with torch.no_grad():
        for p in layer.parameters():  # far from what float16 can hold
            p.mul_(0.5)
    return layer


def inputs(dtype=torch.float32):
    return [torch.randn(16, 9, 8, generator=torch.Generator().manual_seed(0)).to(dtype)]


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("gramians", ["model", "input", "data", "output"])
@EACH
def test_a_selective_layer_is_cut_as_in_single_precision(name, gramians, dtype):
    half = nn.Sequential(layer_of(name).to(dtype))
    single = copy.deepcopy(half).float()
    (cut,) = compress_(half, States(3), data=inputs(dtype), gramians=gramians).layers
    assert (cut.after, cut.skipped) == (3, None) and cut.gramians in (gramians, "input")
    assert all(p.dtype == dtype for p in half.parameters())
    if gramians != "data":  # which draws directions at random
        (other,) = compress_(single, States(3), data=inputs(), gramians=gramians).layers
        assert cut.output_error == pytest.approx(other.output_error, rel=0.03)
    assert half(inputs(dtype)[0]).isfinite().all()


@pytest.mark.parametrize("dtype", HALF)
@EACH
def test_it_trains_through_a_cut_and_is_saved_and_loaded(tmp_path, name, dtype):
    model = nn.Sequential(layer_of(name).to(dtype)).train()
    fresh = copy.deepcopy(model)
    optimizer, other = (torch.optim.SGD(x.parameters(), 1e-4) for x in (model, fresh))
    compressor = Compressor(model, optimizer, policy=States(3), schedule=At(1))
    for _ in range(2):
        model(inputs(dtype)[0]).float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        compressor.step()
    assert state_count(model[0]) == 3 and all(p.isfinite().all() for p in model.parameters())
    save_checkpoint(tmp_path / "run", model, optimizer, compressor)
    load_checkpoint(tmp_path / "run", fresh, other)
    assert is_unchanged(fresh, parameters_of(model))
    assert {p.dtype for p in fresh.parameters()} == {dtype}


def test_rounding_in_half_precision_does_not_count_as_an_output_error():
    layer = layer_of("Mamba2").double()
    n, form = state_count(layer), form_of(layer)
    worth = torch.logspace(0, -3, n, dtype=torch.float64)
    with torch.no_grad():  # C of both groups
        rows = slice(form.channels + form.groups * n, None)
        for p in (layer.conv1d.weight, layer.conv1d.bias):
            p[rows] *= worth.repeat(form.groups).view(-1, *[1] * (p.ndim - 1))
    policies = [States(k) for k in range(1, n)]
    errors = {}
    for dtype in (torch.float32, torch.bfloat16):
        model = nn.Sequential(layer).to(dtype)
        events = preview(model, policies, data=inputs(dtype))
        errors[dtype] = [event.layers[0].output_error for event in events]
    single, half = errors.values()
    assert single[0] > 0.02 and single[-1] < 0.001  # rounding to bfloat16 is 0.002 of a number
    assert half == pytest.approx(single, rel=0.1)
    (cut,) = compress_(model, OutputError(0.005), data=inputs(dtype)).layers
    assert cut.after == 1 + next(k for k, error in enumerate(single) if error < 0.005)


LINEAR = {
    "minimal-LRU": lambda: MinimalLRU(8, 8),
    "LRU-pytorch": lambda: PytorchLRU(8, 8, 8),
    "neural-ssm": lambda: neural_lru(8, 8),
    "s5-pytorch": lambda: s5.S5(8, 8),
    "published S4D": lambda: PublishedS4D(8, 8),
}


@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_layer_of_another_package_is_left_as_it_is(name):
    torch.manual_seed(0)
    model = nn.Sequential(LINEAR[name](), MinimalLRU(8, 8))
    model[0].half()  # complex parameters stay
    before = parameters_of(model[0])
    left, cut = compress_(model, States(4)).layers
    assert "in half precision, as" in left.skipped and "to float32, and use" in left.skipped
    assert is_unchanged(model[0], before) and cut.after == 4


@pytest.mark.parametrize("kind", [LRU, S4D, LSSL])
def test_our_layers_in_half_precision_without_a_cast_are_left_as_they_are(kind):
    layer = kind(4, 8)
    for p in layer.parameters():
        p.data = p.data.bfloat16()
    before = parameters_of(layer)
    (cut,) = compress_(nn.Sequential(layer), States(4)).layers
    assert "in half precision, as" in cut.skipped and is_unchanged(layer, before)


@pytest.mark.filterwarnings("ignore:.*discards the imaginary part")
@pytest.mark.parametrize("name", ["LRU-pytorch", "neural-ssm", "s5-pytorch"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_cast_that_lost_imaginary_parts_is_named(name, dtype):
    model = nn.Sequential(LINEAR[name]().to(dtype))
    with pytest.raises(
        UnsupportedLayerError, match=rf"a cast to {dtype} loses the imaginary parts"
    ):
        compress_(model, States(4))
