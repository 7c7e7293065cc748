"""Runs and weights in files that are read and never executed."""

from compressm.checkpoints.pretrained import load_pretrained
from compressm.checkpoints.run_state import (
    load_checkpoint,
    random_state,
    save_checkpoint,
    set_random_state,
)

__all__ = [
    "load_checkpoint",
    "load_pretrained",
    "random_state",
    "save_checkpoint",
    "set_random_state",
]
