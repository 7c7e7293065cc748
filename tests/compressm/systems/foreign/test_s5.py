"""S5 of s5-pytorch: what is read of it, and what cannot be."""

import torch
from torch import nn

from compressm import States, compress_
from tests.compressm.foreign_layers import s5


def test_a_liquid_layer_is_left_alone_and_says_why():
    layer = s5.S5(3, 8, liquid=True)
    (cut,) = compress_(nn.Sequential(layer), States(2)).layers
    assert cut.after == cut.before and "no linear system" in cut.skipped


def test_random_numbers_are_not_used_up():
    layer = s5.S5(3, 8)
    state = torch.get_rng_state()
    compress_(layer, States(2))
    assert torch.equal(torch.get_rng_state(), state)
