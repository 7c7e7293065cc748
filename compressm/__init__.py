"""State-space models that shrink while they train."""

from compressm.adapters import load_lti_, to_lti
from compressm.checkpoints import (
    load_checkpoint,
    random_state,
    save_checkpoint,
    set_random_state,
)
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
from compressm.rollback import Rollback
from compressm.scan import linear_ssm
from compressm.schedules import At, Every, Schedule
from compressm.selection import keep_states_, state_values
from compressm.surgery import resize_
from compressm.trees import CheckpointError

__all__ = [
    "DSS",
    "LRU",
    "LSSL",
    "S4",
    "S4D",
    "S5",
    "At",
    "Budget",
    "CheckpointError",
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
    "Rollback",
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
    "load_checkpoint",
    "keep_states_",
    "load_lti_",
    "nuclear_norm",
    "outlook",
    "random_state",
    "resize_",
    "save_checkpoint",
    "set_random_state",
    "smooth_order",
    "state_values",
    "tail_energy",
    "to_lti",
]
