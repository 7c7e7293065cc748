"""What can go wrong, as types: each message says what was wrong, what came in, what to do."""

import lti

__all__ = [
    "CheckpointError",
    "CompressmError",
    "DataError",
    "DistributedError",
    "MissingPackageError",
    "ObservationError",
    "OptionError",
    "RecipeError",
    "RunError",
    "SkipError",
    "TrainingError",
    "UnsupportedLayerError",
]


class CompressmError(Exception):
    """Base of every error that `compressm` raises on purpose."""


class OptionError(CompressmError, lti.OptionError):
    """An argument that makes no sense, or arguments that contradict each other."""


class UnsupportedLayerError(CompressmError, lti.LTIError, TypeError):
    """A module that is no state-space layer, or one of a type that nobody has described yet."""


class ObservationError(CompressmError, lti.LTIError):
    """What was observed of a layer does not say what drives its states."""


class SkipError(CompressmError):
    """A layer that is left as it is; the message is the reason in its `LayerCut`."""


class DistributedError(CompressmError, RuntimeError):
    """Processes that train one model and disagree about it."""


class CheckpointError(CompressmError, ValueError):
    """A file that does not hold what is asked of it, or values that no file can hold."""


class MissingPackageError(CompressmError, ImportError):
    """An optional package that this feature needs is not installed."""


class DataError(CompressmError):
    """Data that cannot be had: the file is missing or damaged, or there is no network."""


class RecipeError(CompressmError, ValueError):
    """A recipe that cannot be read, or a setting that is unknown or makes no sense."""


class RunError(CompressmError):
    """A folder that holds no run, or another one."""


class TrainingError(CompressmError, ArithmeticError):
    """A training run that cannot go on, because its loss is not finite."""
