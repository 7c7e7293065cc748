"""Builders and measures that several test modules share."""

from compressm import CompressionEvent
from compressm.compression.decide import apply_, propose
from compressm.compression.options import Options


def cut_by(model, signals, policy, gramians, dry_run=False):
    """The event of a cut by the signals of each layer, by its name, observed before."""
    proposals = propose(model, signals, Options(policy, gramians=gramians))
    if not dry_run:
        apply_(model, proposals)
    return CompressionEvent(0, tuple(cut for cut, _ in proposals))
