"""The output error of a cut: what the layers themselves do on such inputs."""

import copy
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compressm import (
    LRU,
    S4D,
    S5,
    At,
    Compressor,
    SequenceModel,
    States,
    compress_,
    preview,
    to_lti,
)
from compressm.gramians.moments import TIMES
from compressm.gramians.observe import observe
from compressm.gramians.output_error import hold_out, output_error, relative_error
from compressm.gramians.signals import Signal
from compressm.layers import DSS, LSSL, S4
from compressm.systems.convert import directions

LAYERS = {
    "dss": DSS,
    "lru": LRU,
    "lssl": LSSL,
    "s4": S4,
    "s4d": S4D,
    "s5": S5,
    "s5 both ways": lambda *sizes: S5(*sizes, bidirectional=True),
}


@pytest.mark.parametrize(
    ("name", "conjugate"),
    [(name, True) for name in LAYERS] + [(name, False) for name in LAYERS if name != "lssl"],
)
def test_it_is_the_change_of_the_output_of_the_layer(name, conjugate):
    torch.manual_seed(1)
    layer = LAYERS[name](3, 12).double().requires_grad_(False)
    layer.D.zero_()  # the feed-through is no part of it
    signals = [
        Signal(torch.randn(b, length, 3, dtype=torch.float64))
        for b, length in ((5, TIMES), (2, 31))
    ]
    smaller = copy.deepcopy(layer)
    compress_(smaller, States(5), conjugate=conjugate)
    G, reduced = (to_lti(x, conjugate=conjugate) for x in (layer, smaller))
    found = output_error(G, reduced, signals, directions(layer))
    ways = [[one_direction(x, way) for x in (layer, smaller)] for way in range(directions(layer))]
    pairs = [(full(x.u), cut(x.u)) for full, cut in ways for x in signals]
    size = sum(y.square().sum() for y, _ in pairs)
    error = sum((y_r - y).square().sum() for y, y_r in pairs)
    assert found == pytest.approx(float((error / size).sqrt()), rel=1e-6)
    assert found > 1e-6


def one_direction(layer, way):
    """The layer with the outputs of one direction only; they are outputs of their own."""
    layer = copy.deepcopy(layer)
    if directions(layer) == 2:
        layer.C.chunk(2)[1 - way].zero_()
    return layer


def test_without_inputs_or_output_there_is_no_error():
    G = to_lti(LRU(3, 4).requires_grad_(False))
    assert output_error(G, G, []) is None
    assert output_error(G, G, [Signal(torch.zeros(2, 9, 3))]) is None
    assert output_error(G, G, [Signal(torch.ones(2, 9, 3))]) == 0


def test_long_sequences_are_sampled():
    torch.manual_seed(0)
    layer, every = LRU(2, 6).double().requires_grad_(False), 5
    layer.D.zero_()
    smaller = copy.deepcopy(layer)
    compress_(smaller, States(3))
    u = torch.randn(3, every * TIMES, 2, dtype=torch.float64)
    found = output_error(to_lti(layer), to_lti(smaller), [Signal(u)])
    y, y_r = (x(u)[:, every - 1 :: every] for x in (layer, smaller))
    assert found == pytest.approx(float((y_r - y).norm() / y.norm()), rel=1e-6)


@given(st.lists(st.integers(1, 20), max_size=5), st.integers(2, 9), st.booleans())
def test_every_nth_sequence_is_held_out_and_none_is_lost(sizes, every, gradients):
    count = itertools.count(1)
    signals = []
    for size in sizes:
        u = torch.tensor([[[float(next(count))]] for _ in range(size)])
        signals.append(Signal(u, -u if gradients else None))
    kept, held = hold_out(signals, every)
    numbers = [[int(x) for part in of for x in part.u.flatten()] for of in (kept, held)]
    assert numbers[1] == list(range(every, sum(sizes) + 1, every))
    assert sorted(numbers[0] + numbers[1]) == list(range(1, sum(sizes) + 1))
    for part in kept + held:
        assert (part.g is not None) == gradients
        assert not gradients or torch.equal(part.g, -part.u)


@pytest.mark.parametrize("gramians", ["model", "input", "data"])
def test_a_cut_is_measured_on_every_eighth_sequence(gramians):
    torch.manual_seed(0)
    model = SequenceModel(1, 2, d_model=3, d_state=16, n_layers=1, max_phase=0.7)
    cut, data = copy.deepcopy(model), torch.randn(21, 40, 1).split(5)
    if gramians == "model":
        (found,) = preview(model, [States(3)], gramians=["model", "input"], data=data)[0].layers
        compress_(cut, States(3))
    else:
        (found,) = compress_(cut, States(3), gramians=gramians, data=data).layers
    inputs = observe(model, data, gradients=False)["blocks.0.layer"]
    held = torch.cat([x.u for x in inputs])[7::8]
    layers = [x.blocks[0].layer.requires_grad_(False) for x in (model, cut)]
    for layer in layers:
        layer.D.zero_()
    y, y_r = (layer(held) for layer in layers)
    assert found.output_error == pytest.approx(float((y_r - y).norm() / y.norm()), rel=1e-3)


def test_sequences_held_out_have_no_part_in_the_cut():
    torch.manual_seed(0)
    model = SequenceModel(1, 2, d_model=3, d_state=16, n_layers=1)
    u = torch.randn(21, 40, 1)
    events = []
    for place in (None, 7, 6):
        changed = u.clone()
        if place is not None:
            changed[place::8] = 5 * u[place::8].cumsum(1)
        events += preview(model, [States(3)], gramians="input", data=changed.split(5))
    one, held, seen = (event.layers[0] for event in events)
    assert (held.hsv == one.hsv).all() and held.output_error != one.output_error
    assert not (seen.hsv == one.hsv).all()


def test_of_selective_layers_it_is_that_of_their_whole_output():
    torch.manual_seed(0)
    model = SequenceModel(1, 2, d_model=3, d_state=8, n_layers=1, layer="mamba")
    layer, u = copy.deepcopy(model.blocks[0].layer).requires_grad_(False), torch.randn(9, 20, 1)
    (cut,) = compress_(model, States(2), data=[u]).layers
    inputs = observe(model, [u], gradients=False)["blocks.0.layer"][0].u[7:8]
    y, y_r = layer(inputs), model.blocks[0].layer.requires_grad_(False)(inputs)
    assert cut.output_error == pytest.approx(float((y_r - y).norm() / y.norm()), rel=1e-5)


def test_an_output_that_is_not_finite_gives_no_error():
    y = torch.tensor([3e4, 4e4], dtype=torch.float16)
    assert relative_error([(y, 1.01 * y)]) == pytest.approx(0.01, rel=0.05)  # not in its precision
    assert relative_error([(y, y + torch.inf)]) is None
    assert relative_error([(y + torch.nan, y)]) is None


def test_a_selective_layer_is_measured_in_its_own_precision():
    torch.manual_seed(0)
    model = SequenceModel(1, 2, d_model=3, d_state=8, n_layers=1, layer="mamba")
    compressor = Compressor(model, policy=States(2), schedule=At(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(torch.randn(9, 20, 1))
    (cut,) = compressor.step().layers
    assert cut.after == 2 and 0 < cut.output_error < 10


def test_too_few_sequences_leave_none_to_measure_on():
    model = SequenceModel(1, 2, d_model=3, d_state=16, n_layers=1)
    assert compress_(model, States(3), data=[torch.randn(7, 20, 1)]).layers[0].output_error is None
    assert compress_(model, States(2)).layers[0].output_error is None
    cut = compress_(model, States(1), data=torch.randn(8, 20, 1).split(1)).layers[0]
    assert 0 < cut.output_error < 10
