"""The default device is where new tensors go, not where a model is: helpers follow the model."""

import pytest
import torch

from compressm import (
    ErrorBound,
    HankelPenalty,
    States,
    compress_,
    hankel_nuclear_norm,
    hankel_spectra,
)
from compressm.gramians.types import state_values
from compressm.models import LAYERS
from tests.compressm.families import FAMILIES, family_model
from tests.compressm.helpers import model_of
from tests.compressm.selective_layers import own, signal

# The stand-ins of these two make tensors of their own in forward
OWN = {"published S4D", "fla GatedDeltaNet"}


@pytest.fixture
def elsewhere():
    """Set a default device whose tensors have no numbers, so that each that is used is noticed."""
    yield lambda: torch.set_default_device("meta")
    torch.set_default_device(None)


@pytest.mark.parametrize("gramians", ["model", "input", "data", "output", None])
@pytest.mark.parametrize("family", [x for x in FAMILIES if x not in OWN])
def test_a_cut_by_data(family, gramians, elsewhere):
    model, inputs = family_model(family), torch.randn(16, 20, 3)
    elsewhere()
    event = compress_(model, States(3), data=[inputs], gramians=gramians)
    assert [cut.after <= 3 for cut in event.layers] == [True, True]
    assert all(cut.output_error is not None for cut in event.layers)


@pytest.mark.parametrize("family", [x for x in LAYERS if x != "mamba"])
def test_a_cut_without_data_and_penalties(family, elsewhere):
    model = family_model(family)
    elsewhere()
    hankel_nuclear_norm(model).backward()
    HankelPenalty(model)().backward()
    assert all(x.any() for x in hankel_spectra(model).values())
    assert not any(cut.skipped for cut in compress_(model, ErrorBound(0.5)).layers)


@pytest.mark.parametrize("pool", ["mean", "last", "none"])
@pytest.mark.parametrize("family", LAYERS)
def test_a_model_runs(family, pool, elsewhere):
    model, u = model_of(layer=family, pool=pool, dropout=0.5), torch.randn(3, 9, 2)
    lengths = torch.tensor([4, 9, 1])
    elsewhere()
    for given in (None, lengths):
        y = model(u, given)
        y.sum().backward()
        assert y.device.type == "cpu"


def test_scores_of_single_states(elsewhere):
    layer, seen = own(), [signal()]
    elsewhere()
    for gramians in ("model", "input", "data", "output"):
        assert state_values(layer, seen, gramians).all()
