"""What is written into a layer: identity, flags, and parameters that others share."""

import torch
from torch import nn

from compressm import States, compress_
from tests.compressm.helpers import model_of


def test_parameters_tied_to_another_module_are_refused():
    model = model_of()
    model.blocks[1].layer.B = model.blocks[0].layer.B
    for cut in compress_(model, States(4)).layers:
        assert cut.after == 16 and "B is also a parameter of another module" in cut.skipped


def test_parameters_shared_by_two_layers_are_refused():
    one, other = model_of().blocks
    with torch.no_grad():
        pair = nn.ModuleList([one.layer, other.layer])
    pair[1].B = pair[0].B
    assert all("B is also" in cut.skipped for cut in compress_(pair, States(4)).layers)


def test_frozen_parameters_stay_frozen():
    model = model_of(n_layers=1)
    model.blocks[0].layer.B.requires_grad_(False)
    compress_(model, States(4))
    flags = {name: p.requires_grad for name, p in model.blocks[0].layer.named_parameters()}
    assert flags.pop("B") is False and all(flags.values())
