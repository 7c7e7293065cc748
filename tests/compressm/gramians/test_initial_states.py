"""Passes that begin with a state: they are not scored as if they had begun with zero."""

import copy

import pytest
import torch
from torch import nn

from compressm import DSS, LRU, LSSL, S4, S4D, S5, At, Compressor, Mamba, States, compress_
from compressm.gramians.observe import observe
from compressm.gramians.signals import Signal
from tests.compressm.helpers import lru, smooth

KINDS = [DSS, LRU, LSSL, Mamba, S4, S4D, S5]


def trained(layer, *args, **kwargs):
    """The cut of a layer after one such pass."""
    compressor = Compressor(layer, policy=States(2), schedule=At(1), **kwargs.pop("asked", {}))
    layer(*args, **kwargs).square().mean().backward()
    return compressor.step().layers[0]


def states_of(layer, batch, size=1.0):
    """Its initial state, every entry of which is `size`."""
    state = layer.initial_state(batch)
    parts = state if isinstance(state, tuple) else (state,)
    for part in parts:
        part.fill_(size)
    return state


def test_carried_states_are_not_scored_as_zero():
    torch.manual_seed(0)
    layer = LRU(4, 32, r_min=0.97, r_max=0.999)
    before, u = copy.deepcopy(layer), torch.randn(16, 400, 4)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.0)
    compressor = Compressor(layer, optimizer, schedule=At(50))
    state = layer.initial_state(16)
    for part in u.split(8, 1):
        y = layer(part, state)
        y.square().mean().backward()
        with torch.no_grad():
            for t in range(8):
                _, state = before.step(part[:, t], state)
        event = compressor.step()
    (cut,) = event.layers
    assert (cut.gramians, cut.output_error) == ("model", None)
    with torch.no_grad():
        assert (layer(u) - before(u)).norm() <= cut.error_bound * u.norm()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("named", [False, True])
def test_a_state_of_any_layer_counts_as_not_observed(kind, named):
    torch.manual_seed(0)
    layer, u = kind(4, 8), smooth(16, 20, 4)
    state = states_of(layer, 16)
    args, kwargs = ((), {"state": state, "u": u}) if named else ((u, state), {})
    cut = trained(layer, *args, **kwargs)
    if kind is Mamba:
        assert "zero state" in cut.skipped and "model" not in cut.skipped
    else:
        assert (cut.gramians, cut.output_error, cut.skipped) == ("model", None, None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_of_zeros_is_none(kind):
    torch.manual_seed(0)
    layer, u = kind(4, 8), smooth(16, 20, 4)
    other = copy.deepcopy(layer)
    cut = trained(layer, state=states_of(layer, 16, 0.0), u=u)  # the state is no input either
    expected = trained(other, u)
    assert (cut.after, cut.gramians, cut.output_error) == (2, expected.gramians,
                                                           expected.output_error)  # fmt: skip
    assert cut.output_error is not None


@pytest.mark.parametrize("gramians", ["input", "data", "output"])
def test_what_needs_inputs_says_what_to_do(gramians):
    layer = lru(8)
    cut = trained(layer, smooth(16, 20, 4), states_of(layer, 16), asked={"gramians": gramians})
    assert cut.after == 8
    assert "zero state" in cut.skipped and "gramians='model'" in cut.skipped


def test_one_pass_that_was_carried_on_speaks_for_all():
    layer, u = lru(8), smooth(16, 20, 4)
    compressor = Compressor(layer, policy=States(2), schedule=At(1))
    layer(u[:, :8]).sum().backward()  # only how sequences begin
    layer(u[:, 8:], states_of(layer, 16)).sum().backward()
    assert compressor.step().layers[0].gramians == "model"


class Carries(nn.Module):
    """A model that begins with a state that it learns, under a name of its own."""

    def __init__(self, name):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.name = Named[name](4, 8), name
        self.state = nn.Parameter(torch.ones(8, dtype=torch.complex64))

    def forward(self, u):
        return self.layer(u, **{self.name: self.state.expand(len(u), -1)})


class Initial(LRU):
    def forward(self, u, initial_state=None):
        return super().forward(u, initial_state)


class Previous(LRU):
    def forward(self, u, *, prev_state=None):
        return super().forward(u, prev_state)


class Options(LRU):
    def forward(self, u, **options):
        return super().forward(u, options["state"])


Named = {"initial_state": Initial, "prev_state": Previous, "state": Options}


@pytest.mark.parametrize("name", Named)
def test_states_of_data_count_too(name):
    model, data = Carries(name), [smooth(16, 20, 4)]
    (cut,) = compress_(model, States(2), data=data, dry_run=True).layers
    assert (cut.gramians, cut.output_error) == ("model", None)
    (cut,) = compress_(model, States(2), data=data, gramians="input", dry_run=True).layers
    assert "zero state" in cut.skipped
    (signals,) = observe(model, data, False).values()
    assert [x.from_zero for x in signals] == [False]


def test_an_input_that_has_no_name_is_the_first_argument():
    class Hidden(LRU):
        def forward(self, *args, **kwargs):
            return super().forward(*args, **kwargs)

    torch.manual_seed(0)
    layer, u = Hidden(4, 8), smooth(16, 20, 4)
    (seen,) = observe(layer, [u], False)[""]
    assert torch.equal(seen.u, u)
    model = nn.ModuleDict({"layer": layer})
    model.forward = lambda u: layer(state=states_of(layer, len(u)), u=u)
    assert not observe(model, [u], False)  # nobody says which of the two it is


def test_a_signal_begins_with_zero_unless_its_state_is_another():
    u = torch.zeros(1, 2, 3)
    assert Signal(u).from_zero and Signal(u, state=(torch.zeros(1, 4),)).from_zero
    assert not Signal(u, state=(torch.zeros(1), torch.tensor([0, 1j]))).from_zero
