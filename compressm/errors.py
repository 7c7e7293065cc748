"""All errors of compressm; each message says what was wrong, what came in, what to do."""

import lti

__all__ = [
    "CheckpointError",
    "CompressmError",
    "DataError",
    "DistributedError",
    "MissingPackageError",
    "NothingRemovedWarning",
    "ObservationError",
    "OptionError",
    "RecipeError",
    "RunError",
    "SkipError",
    "TrainingError",
    "UnequalStatesWarning",
    "UnsupportedLayerError",
]


class CompressmError(Exception):
    """Base of every error that `compressm` raises on purpose."""


class OptionError(CompressmError, lti.OptionError):
    """An argument that makes no sense, or arguments that contradict each other."""


class UnsupportedLayerError(CompressmError, lti.LTIError, TypeError):
    """A module that compressm cannot read as a state-space layer."""


class ObservationError(CompressmError, lti.LTIError):
    """The inputs or gradients that were observed do not suffice to score a layer's states."""


class SkipError(CompressmError):
    """A layer cannot be cut and stays as it is; the message becomes `LayerCut.skipped`."""


class NothingRemovedWarning(UserWarning):
    """`compress_` left every layer as it was; the message says why, or what would remove states."""


class UnequalStatesWarning(UserWarning):
    """Layers keep different numbers of states, so `from_pretrained` cannot load what was saved."""


class DistributedError(CompressmError, RuntimeError):
    """The processes of a distributed training differ in step or in model."""


class CheckpointError(CompressmError, ValueError):
    """A file lacks what is asked of it or is damaged, or a value cannot be saved."""


class MissingPackageError(CompressmError, ImportError):
    """An optional package that this feature needs is not installed."""


class DataError(CompressmError):
    """Data that cannot be loaded: a file is missing or damaged, or a download failed."""


class RecipeError(CompressmError, ValueError):
    """A recipe that cannot be read, or a setting that is unknown or makes no sense."""


class RunError(CompressmError):
    """A folder that holds no training run, or a different one."""


class TrainingError(CompressmError, ArithmeticError):
    """A training run that cannot continue, because its loss is not finite."""
