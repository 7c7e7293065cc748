"""Cuts inside of torch.inference_mode(), and by batches that were made there, can be trained on."""

import pytest
import torch
from torch import nn

from compressm import (
    LRU,
    At,
    Compressor,
    Mamba,
    Rollback,
    States,
    compress_,
    keep_states_,
    load_lti_,
    preview,
    resize_,
    to_lti,
)
from tests.compressm.families import FAMILIES, family_model
from tests.compressm.helpers import model_of


def trains(model, optimizer=None):
    """Steps of an optimizer work, and no tensor of the model is one of inference mode."""
    optimizer = optimizer or torch.optim.AdamW(model.parameters())
    for _ in range(2):
        model(torch.randn(4, 9, next(model.parameters()).shape[-1])).square().mean().backward()
        optimizer.step()
    tensors = [*model.parameters(), *model.buffers()]
    tensors += [x for m in model.modules() for x in vars(m).values() if isinstance(x, torch.Tensor)]
    assert not any(x.is_inference() for x in tensors)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_trained_on(family):
    model = family_model(family)
    with torch.inference_mode():
        event = compress_(model, States(4), data=[torch.randn(16, 9, 3)])
    assert [cut.after for cut in event.layers] == [4, 4]
    trains(model)


@pytest.mark.parametrize("layer", ["lru", "s4", "mamba"])
def test_a_compressor_that_is_stepped_and_rolls_back_there(layer):
    torch.manual_seed(0)
    model = model_of(layer=layer)
    optimizer = torch.optim.AdamW(model.parameters())
    compressor = Compressor(
        model,
        optimizer,
        policy=States(4),
        schedule=At(1),
        rollback=Rollback(lambda model: model.blocks[0].layer.d_state, 0, window=1),
    )
    for n in (4, 16):
        model(torch.randn(8, 9, 2)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.inference_mode():
            compressor.step()
        assert model.blocks[0].layer.d_state == n
        trains(model, optimizer)
    assert not any(x.is_inference() for s in optimizer.state.values() for x in s.values())


@pytest.mark.parametrize("layer", ["lru", "s4d", "mamba"])
@pytest.mark.parametrize("gramians", [None, "data"])
@pytest.mark.parametrize("inside", [False, True])
def test_batches_that_were_made_there_are_data(layer, gramians, inside):
    with torch.inference_mode():
        batch = torch.randn(16, 9, 2)
    model = model_of(layer=layer)
    with torch.inference_mode(inside):
        (event,) = preview(model, [States(4)], data=[batch], gramians=gramians, measure=True)
        assert compress_(model, States(4), data=[batch], gramians=gramians).removed
    assert all(None not in (cut.output_error, cut.step_seconds) for cut in event.layers)
    trains(model)


def test_what_a_cut_is_made_of_can_be_called_there():
    torch.manual_seed(0)
    parameter, layer, mamba = nn.Parameter(torch.zeros(3)), LRU(2, 4), Mamba(2, 4)
    with torch.inference_mode():
        resize_(parameter, torch.ones(2))
        load_lti_(layer, to_lti(layer))
        keep_states_(mamba, [0, 2])
    parameter.square().sum().backward()
    assert parameter.grad.tolist() == [2, 2]
    trains(nn.Sequential(nn.Linear(2, 2), layer, mamba))
