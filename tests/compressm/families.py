"""A small model around each family of layers, ours and those of other packages."""

import random

import numpy as np
import torch
from torch import nn

from compressm import SequenceModel
from compressm.models import LAYERS
from tests.compressm import delta_layers, selective_layers
from tests.compressm.foreign_layers import MinimalLRU, PublishedS4D, PytorchLRU, s5

OTHERS = {
    "foreign": lambda: MinimalLRU(8, 8),
    "PytorchLRU": lambda: PytorchLRU(8, 8, 8),
    "s5-pytorch": lambda: s5.S5(8, 8, dt_min=0.05, dt_max=0.3),
    "published S4D": lambda: PublishedS4D(8, 8),
    "transformers Mamba": lambda: selective_layers.foreign("Mamba").float(),
    "transformers Mamba2": lambda: selective_layers.foreign("Mamba2").float(),
    "Qwen3Next": lambda: delta_layers.foreign("Qwen3Next").float(),
    "fla GatedDeltaNet": lambda: delta_layers.layer_of("GatedDeltaNet").float(),
}
FAMILIES = [*sorted(LAYERS), *OTHERS]


class Plain(nn.Module):
    """A layer of another package, from and to (batch, length, channels)."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, u):
        swapped = isinstance(self.layer, PublishedS4D)
        y = self.layer(u.mT if swapped else u)
        y = y[0] if isinstance(y, tuple) else y
        return y.mT if swapped else y


def family_model(family, seed=0):
    """Three inputs and outputs at each step, and two layers of the family."""
    for set_seed in (random.seed, np.random.seed, torch.manual_seed):
        set_seed(seed)
    if family in OTHERS:
        layers = (Plain(OTHERS[family]()) for _ in range(2))
        return nn.Sequential(nn.Linear(3, 8), *layers, nn.Linear(8, 3)).train()
    return SequenceModel(3, 3, d_model=4, d_state=8, n_layers=2, layer=family, pool="none")
