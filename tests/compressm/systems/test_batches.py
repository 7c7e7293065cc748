"""Layers of one shape as one batch of systems."""

import pytest
import torch
from torch import nn

import lti
from compressm import LRU, S4D, SequenceModel, hankel_spectra, to_lti
from compressm.systems.batches import batched, grouped_by_shape


def test_spectra_are_those_of_the_layers():
    torch.manual_seed(0)
    model = SequenceModel(d_input=2, d_output=3, d_model=4, d_state=8, n_layers=2)
    spectra = hankel_spectra(model)
    assert list(spectra) == ["blocks.0.layer", "blocks.1.layer"]
    for name, hsv in spectra.items():
        expected = lti.hankel_singular_values(model.get_submodule(name).to_lti().to_dense())
        assert hsv == pytest.approx(expected.detach().numpy(), abs=1e-12 * hsv[0])


def test_layers_of_one_shape_make_one_group():
    torch.manual_seed(0)
    model = nn.ModuleDict({"a": LRU(4, 8), "b": LRU(4, 6), "c": LRU(4, 8), "d": S4D(4, 8)})
    groups = [names for names, _ in grouped_by_shape(model)]
    assert groups == [("a", "c"), ("b",), ("d",)]
    (names, systems), *_ = grouped_by_shape(model)
    with batched(names, systems) as batch:
        assert batch.batch_shape == (2,) and torch.equal(batch.poles[1], to_lti(model["c"]).poles)


def test_an_error_names_the_layers():
    torch.manual_seed(0)
    model = nn.ModuleDict({"a": LRU(4, 8), "b": LRU(4, 8)})
    nn.init.constant_(model["b"].C, torch.nan)
    with pytest.raises(lti.NonFiniteError) as error:
        hankel_spectra(model)
    assert error.value.__notes__ == ["layer: b"]
