"""State-space models that shrink while they train."""

from compressm._moved import MOVED as _MOVED
from compressm._moved import keep_old_paths as _keep_old_paths
from compressm.checkpoints.pretrained import load_pretrained
from compressm.checkpoints.run_state import (
    load_checkpoint,
    random_state,
    save_checkpoint,
    set_random_state,
)
from compressm.compression.compress import compress_, outlook, preview
from compressm.compression.compressor import Compressor
from compressm.compression.event import CompressionEvent, LayerCut
from compressm.compression.model_policies import Budget, MetricDrop
from compressm.compression.policies import (
    ErrorBound,
    KeepEnergy,
    Order,
    OutputError,
    Policy,
    States,
)
from compressm.compression.recovery import cut_parameters
from compressm.compression.rollback import Rollback
from compressm.compression.schedules import At, Every, Schedule
from compressm.errors import (
    CheckpointError,
    CompressmError,
    DataError,
    DistributedError,
    MissingPackageError,
    NothingRemovedWarning,
    ObservationError,
    OptionError,
    RecipeError,
    RunError,
    SkipError,
    TrainingError,
    UnequalStatesWarning,
    UnsupportedLayerError,
)
from compressm.export import Step, frozen
from compressm.gramians.types import GramianType, register_gramian_type, state_values
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
from compressm.systems.batches import hankel_spectra
from compressm.systems.convert import load_lti_, to_lti
from compressm.systems.foreign import Family, register_family
from compressm.systems.selective import SelectiveForm, keep_states_, register_form
from compressm.systems.sizes import resize_on_load

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
    "Family",
    "GramianType",
    "HankelPenalty",
    "KeepEnergy",
    "LRU",
    "LSSL",
    "LayerCut",
    "Mamba",
    "MetricDrop",
    "MissingPackageError",
    "NothingRemovedWarning",
    "ObservationError",
    "OptionError",
    "Order",
    "OutputError",
    "Policy",
    "RecipeError",
    "Rollback",
    "RunError",
    "S4",
    "S4D",
    "S5",
    "SSMLayer",
    "Schedule",
    "SelectiveForm",
    "SequenceModel",
    "SkipError",
    "States",
    "Step",
    "TrainingError",
    "UnequalStatesWarning",
    "UnsupportedLayerError",
    "compress_",
    "cut_parameters",
    "frozen",
    "hankel_nuclear_norm",
    "hankel_smooth_order",
    "hankel_spectra",
    "hankel_tail_energy",
    "keep_states_",
    "linear_ssm",
    "load_checkpoint",
    "load_lti_",
    "load_pretrained",
    "nuclear_norm",
    "outlook",
    "preview",
    "random_state",
    "register_family",
    "register_form",
    "register_gramian_type",
    "resize_",
    "resize_on_load",
    "save_checkpoint",
    "set_random_state",
    "smooth_order",
    "state_values",
    "tail_energy",
    "to_lti",
]

__getattr__ = _keep_old_paths(__name__, _MOVED)
