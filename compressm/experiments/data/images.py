"""Images as sequences: one pixel for each time step, row by row, or a row for each."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np

from compressm._optional import require
from compressm.errors import DataError
from compressm.experiments.data.dataset import Dataset, standardized
from compressm.experiments.data.files import Folder, arrays_in, data_file, reading, remedy

__all__ = ["cifar", "digits", "mnist"]

Parts = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # as `standardized` takes them

MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
MNIST_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
# The binary version: the Python version holds pickles, which run code.
CIFAR_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"


def digits() -> Dataset:
    """1,797 handwritten digits of 8 x 8 pixels: 1,297 to train, 500 to test, in a fixed split."""
    bunch = require("sklearn.datasets", "scikit-learn").load_digits()
    # The order of the file is periodic in the label, so the split is drawn; RandomState's
    # stream is frozen by numpy's policy, so that every version draws the same.
    order = np.random.RandomState(0).permutation(len(bunch.target))
    test, train = order[:500], order[500:]
    x, y = bunch.images.reshape(len(order), -1, 1), bunch.target
    return standardized("digits", x[train], y[train], x[test], y[test])


def mnist(folder: Folder = None, rows: bool = False) -> Dataset:
    """MNIST, 28 x 28 pixels: 60,000 images to train, 10,000 to test.

    Parameters
    ----------
    folder
        Folder that holds ``mnist.npz`` (arrays ``x_train``, ``y_train``, ``x_test``, ``y_test``).
        Without it the environment variable ``COMPRESSM_DATA`` names the folder; without
        both the file is downloaded once and kept in the cache of the operating system.
    rows
        Whether a time step is a row: 28 steps of 28 channels, in place of 784 pixels.

    Raises
    ------
    DataError
        If the file is missing or corrupt, or there is no network.
    """
    path = data_file("MNIST", folder, MNIST_URL, MNIST_SHA256)
    x, y, xt, yt = _read_mnist(path)
    if rows:
        x, xt = x.reshape(len(x), 28, 28), xt.reshape(len(xt), 28, 28)
    return standardized("MNIST by rows" if rows else "MNIST", x, y, xt, yt)


def cifar(folder: Folder = None) -> Dataset:
    """CIFAR-10, 32 x 32 pixels of three colours: 50,000 images to train, 10,000 to test.

    Parameters
    ----------
    folder
        Folder that holds ``cifar-10-binary.tar.gz``; see `mnist`.

    Raises
    ------
    DataError
        If the file is missing or corrupt, or there is no network.
    """
    path = data_file("CIFAR-10", folder, CIFAR_URL, CIFAR_SHA256)
    return standardized("CIFAR-10", *_read_cifar(path))


def _read_mnist(path: Path) -> Parts:
    with reading(path, "MNIST", remedy(path)):
        x, y, xt, yt = arrays_in(path, "x_train", "y_train", "x_test", "y_test")
    for images, labels in ((x, y), (xt, yt)):
        if images.ndim != 3 or labels.shape != images.shape[:1] or not images.size:
            raise DataError(
                f"{path} is not MNIST (images {images.shape}, labels {labels.shape}): "
                f"{remedy(path)}"
            )
    return x.reshape(len(x), -1, 1), y, xt.reshape(len(xt), -1, 1), yt


def _read_cifar(path: Path) -> Parts:
    """Records of 1 + 3 * 1024 bytes: the label, then the pixels of each colour."""
    found = {}
    with reading(path, "CIFAR-10", remedy(path)), tarfile.open(path) as archive:
        for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
            file = archive.extractfile(f"cifar-10-batches-bin/{name}.bin")
            if file is None:
                raise KeyError(name)
            found[name] = np.frombuffer(file.read(), np.uint8).reshape(-1, 1 + 3 * 1024)
    test = found.pop("test_batch")
    train = np.concatenate(list(found.values()))
    x, xt = (part[:, 1:].reshape(-1, 3, 1024).transpose(0, 2, 1) for part in (train, test))
    return x, train[:, 0], xt, test[:, 0]
