"""Penalties on Hankel singular values, added to a loss."""

from compressm.penalties.measures import nuclear_norm, smooth_order, tail_energy
from compressm.penalties.penalty import (
    HankelPenalty,
    hankel_nuclear_norm,
    hankel_smooth_order,
    hankel_tail_energy,
)

__all__ = [
    "HankelPenalty",
    "hankel_nuclear_norm",
    "hankel_smooth_order",
    "hankel_tail_energy",
    "nuclear_norm",
    "smooth_order",
    "tail_energy",
]
