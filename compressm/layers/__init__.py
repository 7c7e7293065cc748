"""Layers that are linear time-invariant systems between an input and an output."""

from compressm.layers.base import SSMLayer
from compressm.layers.lru import LRU

__all__ = ["LRU", "SSMLayer"]
