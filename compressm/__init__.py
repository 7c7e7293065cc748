"""State-space models that shrink while they train."""

from compressm.adapters import load_lti_, to_lti
from compressm.compressor import Compressor
from compressm.cutting import CompressionEvent, LayerCut, compress_, outlook
from compressm.families import UnsupportedLayerError
from compressm.hankel import hankel_spectra
from compressm.layers import DSS, LRU, LSSL, S4, S4D, S5, Mamba, SSMLayer
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
from compressm.policies import Budget, ErrorBound, KeepEnergy, MetricDrop, Order, Policy
from compressm.scan import linear_ssm
from compressm.schedules import Every, Schedule
from compressm.selection import keep_states_, state_values
from compressm.surgery import resize_

__all__ = [
    "DSS",
    "LRU",
    "LSSL",
    "S4",
    "S4D",
    "S5",
    "Budget",
    "CompressionEvent",
    "Compressor",
    "ErrorBound",
    "Every",
    "HankelPenalty",
    "KeepEnergy",
    "LayerCut",
    "Mamba",
    "MetricDrop",
    "Order",
    "Policy",
    "SSMLayer",
    "Schedule",
    "SequenceModel",
    "UnsupportedLayerError",
    "compress_",
    "hankel_nuclear_norm",
    "hankel_smooth_order",
    "hankel_spectra",
    "hankel_tail_energy",
    "linear_ssm",
    "keep_states_",
    "load_lti_",
    "nuclear_norm",
    "outlook",
    "resize_",
    "smooth_order",
    "state_values",
    "tail_energy",
    "to_lti",
]
