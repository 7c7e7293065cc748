"""Recovery: what a cut made smaller is trained alone."""

import copy

import pytest
import torch

from compressm import (
    LRU,
    CompressionEvent,
    OptionError,
    SequenceModel,
    States,
    compress_,
    cut_parameters,
)
from tests.compressm.selective_layers import own, signal, stack


def test_only_the_layers_that_were_cut_are_trained():
    torch.manual_seed(0)
    model, u = stack(LRU(8, 12), own().float(), LRU(8, 3)), signal(batch=4).u.float()
    whole = copy.deepcopy(model)
    event = compress_(model, States(4), data=[u])
    assert [cut.after for cut in event.layers] == [4, 4, 3]
    before, cut = copy.deepcopy(model.state_dict()), cut_parameters(model, event)
    assert {id(p) for p in cut} == {id(p) for i in (0, 1) for p in model[i].parameters()}
    optimizer = torch.optim.AdamW(cut, lr=1e-2)
    with torch.no_grad():
        target = whole(u)
    losses = []
    for _ in range(30):
        losses.append((model(u) - target).square().mean())
        model.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
    changed = {name for name, x in model.state_dict().items() if not torch.equal(x, before[name])}
    assert changed and all(name.startswith(("0.", "1.")) for name in changed)


def test_frozen_parameters_and_layers_that_nothing_was_cut_from_are_left_out():
    model = SequenceModel(1, 2, 4, 8, 2)
    model.blocks[0].layer.D.requires_grad_(False)
    model.blocks[1].layer = model.blocks[0].layer
    event = compress_(model, States(3), gramians="model")
    found, every = cut_parameters(model, event), list(model.blocks[0].layer.parameters())
    assert len(found) == len({id(p) for p in found}) == len(every) - 1
    assert cut_parameters(model, compress_(model, States(3), gramians="model")) == []
    assert cut_parameters(model, CompressionEvent(0, ())) == []


def test_an_event_of_another_model_is_refused():
    model = SequenceModel(1, 2, 4, 8, 2)
    event = compress_(model, States(3), gramians="model")
    with pytest.raises(OptionError, match=r"has no layer 'blocks.0.layer', which the event names"):
        cut_parameters(torch.nn.DataParallel(model), event)
