"""State-space layers: linear time-invariant ones, and the selective layer Mamba."""

from compressm.layers.base import SSMLayer
from compressm.layers.dss import DSS
from compressm.layers.frozen import Frozen
from compressm.layers.lru import LRU
from compressm.layers.lssl import LSSL
from compressm.layers.mamba import Mamba
from compressm.layers.s4 import S4
from compressm.layers.s4d import S4D
from compressm.layers.s5 import S5

__all__ = ["DSS", "Frozen", "LRU", "LSSL", "S4", "S4D", "S5", "Mamba", "SSMLayer"]
