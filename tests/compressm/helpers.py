"""Builders and measures that several test modules share."""

import torch

from compressm import SequenceModel


def model_of(seed=0, **options):
    """A small sequence model; `options` replace its sizes and add to them."""
    torch.manual_seed(seed)
    sizes = {"d_input": 2, "d_output": 3, "d_model": 4, "d_state": 16, "n_layers": 2}
    return SequenceModel(**(sizes | options))
