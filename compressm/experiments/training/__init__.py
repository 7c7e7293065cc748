"""One training run: its settings, its loop, its log."""

from compressm.errors import TrainingError
from compressm.experiments.training.log import (
    Point,
    RunResult,
    Spectra,
    Step,
    from_record,
    to_record,
)
from compressm.experiments.training.loop import run
from compressm.experiments.training.network import accuracy, evaluate, model_of, orders
from compressm.experiments.training.settings import Settings

__all__ = [
    "Point",
    "RunResult",
    "Settings",
    "Spectra",
    "Step",
    "TrainingError",
    "accuracy",
    "evaluate",
    "from_record",
    "model_of",
    "orders",
    "run",
    "to_record",
]
