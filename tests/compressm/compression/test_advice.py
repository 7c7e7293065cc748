"""A cut that removed nothing says what would, and what it says is what happens."""

import re
import warnings

import pytest
import torch

import compressm
from compressm import (
    Budget,
    ErrorBound,
    KeepEnergy,
    MetricDrop,
    NothingRemovedWarning,
    OutputError,
    SequenceModel,
    States,
    compress_,
)
from tests.compressm.foreign_layers import PublishedS4D

SAYS = re.compile(r"nothing to remove at .*; (\w+\(.*\)) would leave (\d+) of (\d+) stored states$")


def never(hsv, stored):
    return hsv.shape[-1]


POLICIES = [
    KeepEnergy(1.0),
    OutputError(1e-7),
    States(64),
    Budget(total=1000),
    MetricDrop(lambda model: float(model.blocks[1].layer.d_state), 0.0),
    never,
]


def data():
    torch.manual_seed(1)
    return torch.randn(32, 40, 1).split(8)


def model_of(layer="LRU", n=16):
    torch.manual_seed(0)
    kind = getattr(compressm, layer)
    return SequenceModel(d_input=1, d_output=3, d_model=4, d_state=n, n_layers=2, layer=kind)


def says_what_would(model, policy, again, **options):
    torch.manual_seed(2)  # "data" draws projections of the output
    event = compress_(model, policy, dry_run=True, **options)
    assert not event.removed and str(event).endswith(event.advice)
    policy, after, before = SAYS.match(event.advice).groups()
    torch.manual_seed(2)
    layers = compress_(again, eval(policy), **options).layers
    assert sum(cut.after for cut in layers) == int(after) < int(before)
    assert sum(cut.before for cut in layers) == int(before)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda x: type(x).__name__)
def test_the_policy_that_it_names_does_what_it_says(policy):
    says_what_would(model_of(), policy, model_of(), data=data())


@pytest.mark.parametrize("layer", ["S4D", "S4", "DSS", "S5", "LSSL", "Mamba"])
def test_every_family(layer):
    says_what_would(model_of(layer, 4), States(4), model_of(layer, 4), data=data())


@pytest.mark.parametrize("gramians", ["model", "input", "data"])
def test_every_gramian_type(gramians):
    says_what_would(model_of(), States(16), model_of(), gramians=gramians, data=data())


def test_an_error_bound_and_a_layer_of_another_package():
    says_what_would(model_of(), ErrorBound(1e-9), model_of())
    layers = []
    for _ in range(2):
        torch.manual_seed(0)
        layers.append(PublishedS4D(3, 4))
    says_what_would(layers[0], None, layers[1], data=torch.randn(32, 3, 40).split(8))


def test_the_default_where_nothing_was_observed():
    says_what_would(model_of(n=2), None, model_of(n=2))


def test_there_is_no_advice_where_a_layer_is_cut_or_cannot_be():
    assert compress_(model_of(), States(4)).advice is None
    broken = model_of()
    for block in broken.blocks:
        torch.nn.init.zeros_(block.layer.C)
    event = compress_(broken, KeepEnergy(1.0))
    assert event.advice is None and all("all zero" in cut.skipped for cut in event.layers)


def test_compress_warns_where_nothing_was_removed():
    with pytest.warns(NothingRemovedWarning, match="would leave") as caught:
        compress_(model_of(), States(16))
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compress_(model_of(), States(15))
        compress_(model_of(), States(16), dry_run=True)
