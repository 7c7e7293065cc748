"""Which layers of a model are found, and that its configuration follows them."""

import pytest
import torch
from torch import nn

from compressm import LRU, S4D, Mamba, States, compress_, to_lti
from compressm.systems.configs import agree_on_states_
from compressm.systems.find import (
    compressible_layers,
    selective_layers,
    stored_states,
)
from compressm.systems.selective.keep import keep_states_
from tests.compressm.foreign_layers import MinimalLRU, PytorchLRU
from tests.compressm.selective_layers import N, language_model, own, tokens


def test_layers_come_in_the_order_of_the_model_and_each_once():
    layer = own()
    model = nn.ModuleDict({"a": layer, "b": nn.Sequential(LRU(8, 3), own()), "c": layer})
    assert [name for name, _ in compressible_layers(model)] == ["a", "b.0", "b.1"]
    assert [name for name, _ in selective_layers(model)] == ["a", "b.1"]


def test_parts_of_a_layer_that_to_lti_was_taught_are_not_found():
    class Outer(nn.Sequential):
        pass

    @to_lti.register
    def _(layer: Outer, conjugate=True):
        raise NotImplementedError

    model = nn.Sequential(Outer(own()), own())
    assert [name for name, _ in compressible_layers(model)] == ["0", "1"]
    assert [name for name, _ in selective_layers(model)] == ["1"]


@torch.no_grad()
def test_layers_of_different_numbers_of_states_load_one_by_one():
    model = language_model().eval()
    for n, (_, layer) in zip((2, 5), selective_layers(model), strict=True):
        keep_states_(layer, range(n))
    agree_on_states_(model)
    assert model.config.state_size == N  # no configuration can say it
    fresh = language_model().eval()
    for n, (_, layer) in zip((2, 5), selective_layers(fresh), strict=True):
        keep_states_(layer, range(n))
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(tokens()).logits, model(tokens()).logits)


def test_a_part_of_a_model_does_not_change_its_configuration():
    model = language_model()
    block = model.backbone.layers[0]
    compress_(block, States(2), data=[torch.randn(2, 9, 8)])
    assert block.mixer.ssm_state_size == 2 and model.config.state_size == N


@pytest.mark.parametrize("kind", [LRU, S4D, PytorchLRU, MinimalLRU, Mamba])
def test_stored_states_are_counted_whatever_the_layer_calls_them(kind):
    layer = kind(3, 3, 8) if kind is PytorchLRU else kind(3, 8)
    assert stored_states(layer) == 8
