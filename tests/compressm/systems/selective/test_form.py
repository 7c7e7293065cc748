"""Selective layers are known by names and shapes; a form from outside is one registration."""

import pytest
import torch
from torch import nn

from compressm import LRU, UnsupportedLayerError
from compressm.gramians.types import state_values
from compressm.systems.find import compressible_layers
from compressm.systems.selective.form import is_selective, state_count
from compressm.systems.selective.keep import keep_states_
from tests.compressm.selective_layers import FOREIGN, N, layer_of, own, signal


@pytest.mark.parametrize("name", ["own", *FOREIGN])
def test_forms_are_known_by_names_and_shapes(name):
    layer = layer_of(name)
    assert is_selective(layer) and state_count(layer) == N
    assert [(n, m is layer) for n, m in compressible_layers(layer)] == [("", True)]
    layer.register_parameter("A_b_log", nn.Parameter(torch.zeros(3)))  # of a second direction
    assert not is_selective(layer)


@pytest.mark.parametrize(
    "make", [lambda: nn.Linear(2, 2), lambda: LRU(2, 3), lambda: nn.LSTM(2, 2)]
)
def test_other_modules_are_not_selective(make):
    assert not is_selective(make())
    for use in (state_count, lambda m: keep_states_(m, [0]), lambda m: state_values(m, [signal()])):
        with pytest.raises(UnsupportedLayerError, match="no selective layer"):
            use(make())


def test_a_layer_of_other_shapes_is_not_selective():
    layer = own()
    layer.D = nn.Parameter(torch.zeros(3))
    assert not is_selective(layer)
