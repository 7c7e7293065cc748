"""Data sets: sequences with targets, from files, from the network, or generated."""

from compressm._optional import require
from compressm.errors import DataError, MissingPackageError
from compressm.experiments.data.appliances import plaid
from compressm.experiments.data.dataset import Dataset, batches
from compressm.experiments.data.images import cifar, digits, mnist
from compressm.experiments.data.recordings import spoken_digits
from compressm.experiments.data.series import etth1
from compressm.experiments.data.task import CLASSIFICATION, FORECASTING, METRICS, Metric, Task

__all__ = [
    "CLASSIFICATION",
    "FORECASTING",
    "METRICS",
    "DataError",
    "Dataset",
    "Metric",
    "MissingPackageError",
    "Task",
    "batches",
    "cifar",
    "digits",
    "etth1",
    "mnist",
    "plaid",
    "require",
    "spoken_digits",
]
