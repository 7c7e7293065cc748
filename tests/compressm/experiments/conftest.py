"""Data and recipes that the tests of runs share."""

import pytest
import torch

from compressm.experiments.data import Dataset
from compressm.experiments.recipes import load_data, read_recipe
from tests.compressm.experiments.helpers import LISTOPS, TINY_RECIPE


@pytest.fixture(scope="session")
def slopes():
    """Return noise around three slopes, one for each class."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(60) % 3
    x = (y - 1.0)[:, None] * torch.linspace(-1, 1, 10)
    x = (x + 0.3 * torch.randn(60, 10, generator=generator)).unsqueeze(-1)
    return Dataset("slopes", x[:40], y[:40], x[40:], y[40:])


@pytest.fixture(scope="session")
def recipe():
    """Return a recipe that trains a tiny model on a few expressions."""
    return read_recipe("listops", [*TINY_RECIPE, *LISTOPS, "lr=1e-2", "dropout=0.2"])


@pytest.fixture(scope="session")
def data(recipe):
    """Return the data of that recipe."""
    return load_data(recipe)
