"""State-space models that shrink while they train."""

from compressm._moved import MOVED as _MOVED
from compressm._moved import keep_old_paths as _keep_old_paths
from compressm.checkpoints.run_state import (
    load_checkpoint,
    random_state,
    save_checkpoint,
    set_random_state,
)
from compressm.compression.compress import CompressionEvent, LayerCut, compress_, outlook
from compressm.compression.compressor import Compressor
from compressm.compression.policies import Budget, ErrorBound, KeepEnergy, MetricDrop, Order, Policy
from compressm.compression.rollback import Rollback
from compressm.compression.schedules import At, Every, Schedule
from compressm.errors import (
    CheckpointError,
    CompressmError,
    DataError,
    DistributedError,
    MissingPackageError,
    ObservationError,
    OptionError,
    RecipeError,
    RunError,
    SkipError,
    TrainingError,
    UnsupportedLayerError,
)
from compressm.layers import DSS, LRU, LSSL, S4, S4D, S5, Mamba, SSMLayer
from compressm.models import SequenceModel
from compressm.ops.resize import resize_
from compressm.ops.scan import linear_ssm
from compressm.penalties import (
    HankelPenalty,
    hankel_nuclear_norm,
    hankel_smooth_order,
    hankel_tail_energy,
    nuclear_norm,
    smooth_order,
    tail_energy,
)
from compressm.systems.convert import load_lti_, to_lti
from compressm.systems.selective import keep_states_, state_values
from compressm.systems.stacks import hankel_spectra

__all__ = [
    "At",
    "Budget",
    "CheckpointError",
    "CompressionEvent",
    "CompressmError",
    "Compressor",
    "DSS",
    "DataError",
    "DistributedError",
    "ErrorBound",
    "Every",
    "HankelPenalty",
    "KeepEnergy",
    "LRU",
    "LSSL",
    "LayerCut",
    "Mamba",
    "MetricDrop",
    "MissingPackageError",
    "ObservationError",
    "OptionError",
    "Order",
    "Policy",
    "RecipeError",
    "Rollback",
    "RunError",
    "S4",
    "S4D",
    "S5",
    "SSMLayer",
    "Schedule",
    "SequenceModel",
    "SkipError",
    "TrainingError",
    "UnsupportedLayerError",
    "compress_",
    "hankel_nuclear_norm",
    "hankel_smooth_order",
    "hankel_spectra",
    "hankel_tail_energy",
    "keep_states_",
    "linear_ssm",
    "load_checkpoint",
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

_keep_old_paths(__name__, _MOVED)
