"""Layers that are linear time-invariant systems between an input and an output, and Mamba."""

from compressm.layers.base import SSMLayer
from compressm.layers.lru import LRU
from compressm.layers.mamba import Mamba
from compressm.layers.s5 import S5

__all__ = ["LRU", "S5", "Mamba", "SSMLayer"]
