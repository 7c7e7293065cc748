"""State-space models that shrink while they train."""

from compressm.compressor import CompressionEvent, Compressor, LayerCut, compress_
from compressm.hankel import hankel_spectra
from compressm.layers import LRU, SSMLayer
from compressm.models import SequenceModel
from compressm.penalties import (
    HankelPenalty,
    hankel_nuclear_norm,
    hankel_smooth_order,
    hankel_tail_energy,
    nuclear_norm,
    smooth_order,
    tail_energy,
)
from compressm.policies import ErrorBound, KeepEnergy, Order, Policy
from compressm.scan import linear_ssm
from compressm.schedules import Every, Schedule
from compressm.surgery import resize_

__all__ = [
    "LRU",
    "CompressionEvent",
    "Compressor",
    "ErrorBound",
    "Every",
    "HankelPenalty",
    "KeepEnergy",
    "LayerCut",
    "Order",
    "Policy",
    "SSMLayer",
    "Schedule",
    "SequenceModel",
    "compress_",
    "hankel_nuclear_norm",
    "hankel_smooth_order",
    "hankel_spectra",
    "hankel_tail_energy",
    "linear_ssm",
    "nuclear_norm",
    "resize_",
    "smooth_order",
    "tail_energy",
]
