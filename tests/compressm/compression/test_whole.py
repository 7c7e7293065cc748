"""A cut happens as a whole or not at all, wherever an exception hits it."""

import copy
import inspect
import sys

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from compressm import At, Compressor, Rollback, SequenceModel, States, compress_
from compressm.systems.find import compressible_layers, stored_states
from tests.compressm.foreign_layers import MinimalLRU

FAMILIES = ["lru", "s5", "s4d", "s4", "dss", "lssl", "mamba", "foreign"]


class Injected(BaseException):
    """What nobody catches by mistake."""


def interrupted(call, at=None):
    """call(), with an exception in its Python call number `at`; how many calls there were."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        if frame.f_code.co_flags & inspect.CO_GENERATOR:
            return  # also entered to be closed, where Python swallows exceptions
        count += 1
        if count == at:
            raise Injected

    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(None)
    return count


def bits(model, *optimizers):
    """All that a cut may change, copied."""
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gradients = {name: p.grad is None or p.grad.clone() for name, p in model.named_parameters()}
    sizes = [stored_states(layer) for _, layer in compressible_layers(model)]
    return tensors, gradients, sizes, [copy.deepcopy(x.state_dict()) for x in optimizers]


def same(one, other):
    if isinstance(one, torch.Tensor) or isinstance(other, torch.Tensor):
        return type(one) is type(other) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def places(make, count):
    """Numbers of calls in ``make()[2].step()``, most at the end, where the layers are written."""
    for _ in range(2):  # once more, for what the first call only looks up
        total = interrupted(make()[2].step)
    ends = torch.linspace(1, total, count // 2), torch.linspace(0.98 * total, total, count // 2)
    return sorted({int(at) for end in ends for at in end})


def model_of(layer):
    torch.manual_seed(0)
    if layer == "foreign":
        return nn.Sequential(MinimalLRU(3, 8), nn.Linear(3, 3), MinimalLRU(3, 8))
    return SequenceModel(3, 3, d_model=4, d_state=8, n_layers=2, layer=layer, pool="none")


def prepared(layer, **options):
    """A model after one step of training, with a compressor that cuts at the second."""
    model = model_of(layer)
    optimizer = torch.optim.Adam(model.parameters())
    compressor = Compressor(model, optimizer, policy=States(5), schedule=At(2), **options)
    train(model, optimizer)
    compressor.step()
    train(model, optimizer)
    return model, optimizer, compressor


def train(model, optimizer):
    optimizer.zero_grad()
    u = torch.linspace(-1, 1, 2 * 12 * 3).reshape(2, 12, 3).sin()
    mse_loss(model(u), u.roll(1, 1)).backward()
    optimizer.step()


def inject(layer, count):
    """How many of the injections into a cut were hits; each must leave everything as it was."""
    hits = 0
    for at in places(lambda: prepared(layer), count):
        model, optimizer, compressor = prepared(layer)
        before = bits(model, optimizer)
        try:
            interrupted(compressor.step, at)
        except Injected:
            hits += 1
            assert same(bits(model, optimizer), before), f"{layer}, call {at}"
            event = compressor.step()  # the same step again
            assert event.step == 2 and all(cut.after <= 5 for cut in event.layers), event
        train(model, optimizer)
    return hits


@pytest.mark.parametrize("layer", ["lru", "mamba", "foreign"])
def test_an_exception_anywhere_in_a_cut_leaves_everything_as_it_was(layer):
    assert inject(layer, 10) > 4


@pytest.mark.slow
@pytest.mark.parametrize("layer", FAMILIES)
def test_an_exception_at_many_calls_of_a_cut_leaves_everything_as_it_was(layer):
    assert inject(layer, 400) > 300


def test_an_exception_while_a_cut_is_taken_back_leaves_everything_as_it_was():
    def taken_back():
        worse = iter([1.0, 0.0, 0.0, 0.0])
        rollback = Rollback(lambda model: next(worse), 0.5, window=1)
        model, optimizer, compressor = prepared("lru", rollback=rollback)
        compressor.step()
        train(model, optimizer)
        return model, optimizer, compressor

    hits = 0
    for at in places(taken_back, 12):
        model, optimizer, compressor = taken_back()
        before = bits(model, optimizer)
        try:
            interrupted(compressor.step, at)
        except Injected:
            hits += 1
            assert same(bits(model, optimizer), before), f"call {at}"
            event = compressor.step()
            assert "taken back" in str(event) and {cut.after for cut in event.layers} == {8}
        train(model, optimizer)
    assert hits > 5


class Sized(MinimalLRU):
    """A layer that reads its size from a configuration that all layers share."""

    def __init__(self, config):
        super().__init__(3, config["d_state"])
        self.config = config

    def forward(self, u):
        return super().forward(u) + 0 * self.nu_log.expand(self.config["d_state"]).sum()


@pytest.mark.parametrize("data", [(), torch.randn(16, 12, 3).split(4)], ids=["zero", "observed"])
def test_a_layer_that_would_not_run_after_the_cut_is_left_as_it_is(data):
    torch.manual_seed(0)
    config = {"d_state": 8}
    model = nn.Sequential(Sized(config), MinimalLRU(3, 8), Sized(config))
    event = compress_(model, States(5), data=data)
    assert [cut.after for cut in event.layers] == [8, 5, 8]
    assert "would not run forward after the cut (RuntimeError: " in event.layers[0].skipped
    model(torch.randn(2, 12, 3))
