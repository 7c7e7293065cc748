"""Data sets: labelled sequences, from files, from the network, or generated."""

from compressm._optional import require
from compressm.errors import DataError, MissingPackageError
from compressm.experiments.data.appliances import plaid
from compressm.experiments.data.dataset import Dataset, batches
from compressm.experiments.data.images import cifar, digits, mnist
from compressm.experiments.data.recordings import spoken_digits

__all__ = [
    "DataError",
    "Dataset",
    "MissingPackageError",
    "batches",
    "cifar",
    "digits",
    "mnist",
    "plaid",
    "require",
    "spoken_digits",
]
