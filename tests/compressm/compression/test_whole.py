"""A cut happens as a whole or not at all, wherever an exception hits it."""

import copy
import inspect
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

import compressm
from compressm import At, Compressor, Rollback, States, compress_
from compressm.systems.find import compressible_layers, stored_states
from tests.compressm.families import FAMILIES, family_model
from tests.compressm.foreign_layers import MinimalLRU

OURS = str(Path(compressm.__file__).parent)


class Injected(BaseException):
    """What nobody catches by mistake."""


ERRORS = (Injected, KeyboardInterrupt, MemoryError, RuntimeError, torch.OutOfMemoryError)


def interrupted(call, at=None, error=Injected):
    """What call() returns, and how many lines of ours it runs; with `error` in line number `at`."""
    count = 0

    def each_line(frame, event, argument):
        nonlocal count
        if event == "line":
            count += 1
            if count == at:
                raise error
        return each_line

    def trace(frame, event, argument):
        if frame.f_code.co_flags & inspect.CO_GENERATOR:
            return None  # also entered to be closed, where Python swallows exceptions
        return each_line if frame.f_code.co_filename.startswith(OURS) else None

    sys.settrace(trace)
    try:
        result = call()
    finally:
        sys.settrace(None)
    return result, count


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
    """Numbers of lines of ``make()[2].step()``, most at the end, where the layers are written."""
    for _ in range(2):  # once more, for what the first call only looks up
        total = interrupted(make()[2].step)[1] - 1  # the last one returns the event
    ends = torch.linspace(1, total, count // 2), torch.linspace(0.98 * total, total, count // 2)
    return sorted({int(at) for end in ends for at in end})


def prepared(layer, **options):
    """A model after one step of training, with a compressor that cuts at the second."""
    model = family_model(layer)
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
    """What became of each injection into a cut, which must leave everything as it was or be whole.

    An error of a computation may count as a layer that cannot be cut.
    """
    model, optimizer, compressor = prepared(layer)
    compressor.step()
    after, outcomes = bits(model, optimizer), Counter()
    for number, at in enumerate(places(lambda: prepared(layer), count)):
        model, optimizer, compressor = prepared(layer)
        before, error = bits(model, optimizer), ERRORS[number % len(ERRORS)]
        try:
            event, _ = interrupted(compressor.step, at, error)
        except error:
            # After the last write nothing is left but to return, where no signal is delivered
            whole = same(bits(model, optimizer), after)
            assert whole or same(bits(model, optimizer), before), f"{layer}, line {at}, {error}"
            event = compressor.step()  # the same step again
            assert event.step == 2 and all(cut.after <= 5 for cut in event.layers), event
            outcomes["cut" if whole else "as before"] += 1
        else:
            outcomes["skipped" if any(cut.skipped for cut in event.layers) else "cut"] += 1
        assert [cut.after for cut in event.layers] == bits(model)[2]
        train(model, optimizer)
    return outcomes


@pytest.mark.parametrize(
    "layer", ["lru", *(pytest.param(x, marks=pytest.mark.slow) for x in ("mamba", "foreign"))]
)
def test_an_exception_anywhere_in_a_cut_leaves_everything_as_it_was(layer):
    assert inject(layer, 10)["as before"] > 4


@pytest.mark.slow
@pytest.mark.parametrize("layer", FAMILIES)
def test_an_exception_at_many_lines_of_a_cut_leaves_everything_as_it_was(layer):
    assert inject(layer, 150)["as before"] > 75


def test_an_exception_while_a_cut_is_taken_back_leaves_everything_as_it_was():
    def taken_back():
        worse = iter([1.0, 0.0, 0.0, 0.0])
        rollback = Rollback(lambda model: next(worse), 0.5, window=1)
        model, optimizer, compressor = prepared("lru", rollback=rollback)
        compressor.step()
        train(model, optimizer)
        return model, optimizer, compressor

    model, optimizer, compressor = taken_back()
    compressor.step()
    after, hits = bits(model, optimizer), 0
    for at in places(taken_back, 12):
        model, optimizer, compressor = taken_back()
        before = bits(model, optimizer)
        try:
            interrupted(compressor.step, at)
        except Injected:
            hits += 1
            now = bits(model, optimizer)
            assert same(now, before) or same(now, after), f"line {at}"
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
