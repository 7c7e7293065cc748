"""A choice of states: nothing but the states left out is missing."""

import copy
import importlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import lti
from compressm.systems.selective.form import state_count
from compressm.systems.selective.keep import keep_states_
from tests.compressm.selective_layers import (
    FOREIGN,
    N,
    foreign,
    layer_of,
    own,
    scanned,
    signal,
    without,
)


@settings(max_examples=10)
@given(kept=st.lists(st.integers(0, N - 1), unique=True, min_size=1), seed=st.integers(0, 9))
def test_what_is_left_is_the_layer_without_the_other_states(kept, seed):
    layer, u = own(seed=seed), signal().u
    full = without(layer, set(range(N)) - set(kept))
    keep_states_(layer, kept)
    assert state_count(layer) == len(kept)
    assert torch.allclose(layer(u), full(u), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kept", [[4, 0, 3], [5], list(range(N))])
@pytest.mark.parametrize("name", ["Mamba", "Mamba2", "Bamba"])
def test_a_mixer_of_transformers_loses_only_the_other_states(name, kept, exact):
    layer, u = foreign(name), signal().u
    full = without(layer, set(range(N)) - set(kept))
    same = dict(layer.named_parameters())
    same["A_log"]._no_weight_decay = True
    keep_states_(layer, kept)
    assert torch.allclose(scanned(layer, u), scanned(full, u), rtol=0, atol=1e-12)
    assert torch.allclose(layer(u), full(u), rtol=0, atol=1e-6)
    assert layer.ssm_state_size == state_count(layer) == len(kept)
    assert all(same[key] is p for key, p in layer.named_parameters())
    assert layer.A_log._no_weight_decay
    linear = layer.x_proj if name == "Mamba" else layer.in_proj
    assert linear.out_features == len(linear.weight)
    assert layer.conv1d.groups == layer.conv1d.in_channels == len(layer.conv1d.weight)
    if name != "Mamba":
        assert layer.conv_dim == layer.conv1d.out_channels == 16 + 4 * len(kept)


class NormOver(nn.Module):
    """rms over some states, weight and all, times a mask."""

    def __init__(self, norm, over, mask):
        super().__init__()
        self.eps = norm.eps if hasattr(norm, "eps") else norm.variance_epsilon
        self.weight, self.over, self.mask = norm.weight, over, mask

    def forward(self, x):
        mean = x[..., self.over].square().mean(-1, keepdim=True)
        return x * (mean + self.eps).rsqrt() * self.weight * self.mask


NORMED = ("FalconMamba", "Jamba")


@pytest.mark.parametrize("name", NORMED)
def test_where_B_and_C_are_normed_the_norm_is_that_of_the_states_that_stay(
    name, exact, monkeypatch
):
    if name == "Jamba":  # its norm says torch.float32, so the twin's stands in for it
        module = importlib.import_module("transformers.models.jamba.modeling_jamba")
        twin = lambda self, x: NormOver(self, slice(None), 1.0)(x)  # noqa: E731
        monkeypatch.setattr(module.JambaRMSNorm, "forward", twin)
    layer, u, kept = foreign(name), signal().u, [4, 0, 3]
    full, mask = copy.deepcopy(layer), torch.zeros(N).double()
    mask[kept] = 1.0
    full.b_layernorm = NormOver(full.b_layernorm, kept, 1.0)
    full.c_layernorm = NormOver(full.c_layernorm, kept, mask)
    keep_states_(layer, kept)
    assert torch.allclose(layer(u), full(u), rtol=0, atol=1e-12)
    assert layer.b_layernorm.weight.shape == layer.c_layernorm.weight.shape == (3,)


@pytest.mark.parametrize("indices", [[], [0, N], [-1], [1, 2, 1]])
@pytest.mark.parametrize("name", ["own", "Mamba2"])
def test_indices_that_name_no_states_are_refused_and_nothing_changes(name, indices):
    layer = layer_of(name)
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises(lti.OrderError, match="different numbers from 0 to 5"):
        keep_states_(layer, indices)
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())


@pytest.mark.parametrize("name", ["own", *FOREIGN])
def test_a_cut_layer_trains_on_and_every_parameter_moves(name):
    layer, s = layer_of(name).float(), signal()
    optimizer = torch.optim.Adam(layer.parameters(), 1e-2)

    def learn():
        loss = (layer(s.u.float()) - s.g.float()).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss  # held, as loops do, across the cut

    loss = learn()
    keep_states_(layer, [4, 0, 3], optimizer)
    before = {key: p.detach().clone() for key, p in layer.named_parameters()}
    assert learn() != loss
    for key, p in layer.named_parameters():
        assert (p != before[key]).any(), key
