"""Builders and measures that several test modules share."""

import torch

from compressm import CompressionEvent, SequenceModel
from compressm.compression.decide import apply_, propose
from compressm.compression.options import Options


def model_of(seed=0, **options):
    """A small sequence model; `options` replace its sizes and add to them."""
    torch.manual_seed(seed)
    sizes = {"d_input": 2, "d_output": 3, "d_model": 4, "d_state": 16, "n_layers": 2}
    return SequenceModel(**(sizes | options))


def cut_by(model, signals, policy, gramians, dry_run=False):
    """The event of a cut by the signals of each layer, by its name, observed before."""
    proposals = propose(model, signals, Options(policy, gramians=gramians))
    if not dry_run:
        apply_(model, proposals)
    return CompressionEvent(0, tuple(cut for cut, _ in proposals))
