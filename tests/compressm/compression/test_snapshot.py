"""Snapshots: copies, and layers of any origin as they were."""

import torch

from compressm import States, compress_
from compressm.compression.snapshot import attributes_of, restore_, snapshot
from tests.compressm.foreign_layers import PytorchLRU
from tests.compressm.helpers import bits, model_of, same


def test_a_snapshot_does_not_change_with_the_model():
    model = model_of()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)

    def train():
        model(torch.randn(4, 9, 2)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    train()
    saved, before = snapshot(model, optimizer), bits(model, optimizer)
    for n in (6, 3):  # used twice
        compress_(model, States(n), optimizer)
        train()
        restore_(model, saved, optimizer)
        assert same(bits(model, optimizer), before)


def test_a_snapshot_has_the_attributes_that_follow_the_number_of_states():
    torch.manual_seed(0)
    model = torch.nn.Sequential(PytorchLRU(3, 3, 8), torch.nn.Linear(3, 3))
    saved = snapshot(model)
    (name,) = attributes_of(model)
    assert name == "0" and saved["attributes"][name]["state_features"] == 8
    compress_(model, States(2))
    assert model[0].state_features == 2 and model[0].state.shape == (2,)
    restore_(model, saved)
    assert model[0].state_features == 8 and model[0].state.shape == (8,)
