"""Mamba2: heads share A and dt, groups share B and C, and one convolution is over all."""

import torch

from compressm.systems.selective import form_of, keep_states_
from compressm.systems.selective.evaluate import coefficients
from tests.compressm.selective_layers import N, foreign, signal


def test_channels_of_a_head_share_the_step_and_those_of_a_group_B_and_C():
    layer, u = foreign("Mamba2"), signal().u
    x, dt, A, B, C, z = coefficients(layer, u)
    heads, groups, channels = 4, 2, 16
    assert x.shape == dt.shape == z.shape == (2, 9, channels)
    assert A.shape == (channels, 1) and B.shape == C.shape == (2, 9, groups, N)
    steps = dt.unflatten(-1, (heads, -1))
    assert (steps == steps[..., :1]).all() and not (steps[..., 0, 0] == steps[..., 1, 0]).all()
    assert (dt >= 0.5).all() and (dt <= 0.8).all() and (dt == 0.5).any()  # its limits


def test_the_rows_of_every_group_are_kept():
    layer = foreign("Mamba2")
    before = layer.conv1d.weight.detach().clone()
    keep_states_(layer, [4, 0])
    rows = [*range(16), *(16 + N * block + i for block in range(4) for i in (4, 0))]
    assert torch.equal(layer.conv1d.weight, before[rows])
    assert form_of(layer).n_states == 2 and layer.conv_dim == 16 + 4 * 2
