"""LRUs of other packages, known by the names and shapes of their parameters."""

import safetensors.torch
import torch

from compressm import States, compress_
from tests.compressm.foreign_layers import MinimalLRU, PytorchLRU


def test_nan_in_a_layer_of_another_package_is_left_alone():
    layer = MinimalLRU(3, 8)
    with torch.no_grad():
        layer.nu_log[0] = torch.nan
    (cut,) = compress_(layer, States(2)).layers
    assert "nu_log has 1 entries that are not finite; go back" in cut.skipped
    assert layer.nu_log.shape == (8,)


def test_what_was_written_can_be_saved(tmp_path):
    for layer in (MinimalLRU(3, 8), PytorchLRU(3, 3, 8)):
        compress_(layer, States(2))
        assert all(p.is_contiguous() for p in layer.parameters())
        safetensors.torch.save_file(layer.state_dict(), tmp_path / "layer.safetensors")
