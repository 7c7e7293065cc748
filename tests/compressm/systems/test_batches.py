"""Layers of one shape as one batch of systems."""

import pytest
import torch

import lti
from compressm import SequenceModel, hankel_spectra


def test_spectra_are_those_of_the_layers():
    torch.manual_seed(0)
    model = SequenceModel(d_input=2, d_output=3, d_model=4, d_state=8, n_layers=2)
    spectra = hankel_spectra(model)
    assert list(spectra) == ["blocks.0.layer", "blocks.1.layer"]
    for name, hsv in spectra.items():
        expected = lti.hankel_singular_values(model.get_submodule(name).to_lti().to_dense())
        assert hsv == pytest.approx(expected.detach().numpy(), abs=1e-12 * hsv[0])
