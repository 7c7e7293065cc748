"""A model that compressm does not know, but for the type of its layer."""

import torch
from torch import nn

from tests.compressm.foreign_layers import MinimalLRU


class Own(nn.Module):
    """A layer of another package, and a readout."""

    def __init__(self, n=8):
        super().__init__()
        self.layer, self.out = MinimalLRU(2, n), nn.Linear(2, 3)

    def forward(self, u):
        return self.out(self.layer(u))


def build():
    """Return the model with random weights, as the function after --model."""
    torch.manual_seed(1)
    return Own()


def number():
    """Return no model."""
    return 3
