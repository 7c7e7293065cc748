"""Passes inside of torch.func: those of vmap are not observed, all others are."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, jacrev, vmap

from compressm import LRU, S4, At, Compressor, Every, Mamba, States


def model_of(kind):
    torch.manual_seed(0)
    return nn.Sequential(kind(4, 8), nn.Linear(4, 4), kind(4, 8))


def loss_of(model):
    def loss(parameters, u):
        return functional_call(model, parameters, (u[None],)).square().mean()

    return loss, dict(model.named_parameters())


def each_sample(model, u):
    loss, parameters = loss_of(model)
    return vmap(grad(loss), (None, 0))(parameters, u)


def each_member(model, u):
    loss, parameters = loss_of(model)
    members = {name: p.expand(2, *p.shape) for name, p in parameters.items()}
    return vmap(loss, (0, None))(members, u[0])


@pytest.mark.parametrize("kind", [LRU, S4, Mamba])
@pytest.mark.parametrize("gramians", [None, "input", "data", "model"])
@pytest.mark.parametrize("transform", [each_sample, each_member])
def test_passes_of_vmap_count_as_not_observed(kind, gramians, transform):
    model, u = model_of(kind), torch.randn(16, 9, 4)
    compressor = Compressor(model, policy=States(4), schedule=Every(1), gramians=gramians)
    transform(model, u)
    last = compressor.step().layers[-1]  # the first one has an input that members share
    if gramians in (None, "model") and kind is not Mamba:
        assert (last.gramians, last.skipped) == ("model", None)
    else:
        assert "none of its inputs was observed" in last.skipped
        model(u).square().sum().backward()  # the next step is observed as ever
        assert [cut.after for cut in compressor.step().layers] == [4, 4]


@pytest.mark.parametrize("kind", [LRU, Mamba])
@pytest.mark.parametrize("of", [grad, jacrev])
def test_passes_of_other_transforms_are_observed(kind, of):
    model, u = model_of(kind), torch.randn(16, 9, 4)
    compressor = Compressor(model, policy=States(4), schedule=At(1))
    loss, parameters = loss_of(model)
    for one in u:
        of(loss)(parameters, one)
    cuts = compressor.step().layers
    assert [cut.after for cut in cuts] == [4, 4]
    assert all(cut.output_error is not None for cut in cuts)


def test_gradients_that_vmap_takes_are_not_observed():
    model, u = model_of(LRU), torch.randn(16, 9, 4)
    compressor = Compressor(model, policy=States(4), schedule=At(1), gramians="data")
    loss, parameters = loss_of(model)
    jacrev(loss)(parameters, u[0])
    assert all("no gradient" in cut.skipped for cut in compressor.step().layers)
