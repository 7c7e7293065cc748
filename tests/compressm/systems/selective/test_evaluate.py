"""What a selective layer computes, from its coefficients."""

import pytest
import torch

from tests.compressm.selective_layers import FOREIGN, layer_of, signal, step_through


@pytest.mark.parametrize("name", ["own", *FOREIGN])
def test_the_coefficients_give_the_output_of_the_layer(name, exact):
    layer, u = layer_of(name), signal().u
    atol = 1e-6 if hasattr(layer, "norm") else 1e-12
    assert torch.allclose(step_through(layer, u)[2], layer(u), rtol=0, atol=atol)
