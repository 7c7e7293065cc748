"""Real data as sequences: the digits that ship with scikit-learn, and MNIST.

An image becomes the sequence of its pixels, row by row, one pixel per time step.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

__all__ = ["DataError", "Dataset", "MissingPackageError", "digits", "mnist", "require"]

MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
MNIST_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"


class DataError(Exception):
    """Data that cannot be had: the file is missing or corrupt, or there is no network."""


class MissingPackageError(ImportError):
    """An optional package that this feature needs is not installed."""


def require(module: str, package: str | None = None) -> ModuleType:
    """Import an optional module, or say in one sentence how to install it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = package or module.partition(".")[0]
        raise MissingPackageError(
            f"{package} is needed here and is not installed: run 'pip install {package}'."
        ) from error


@dataclass(frozen=True)
class Dataset:
    """Labelled sequences, split into a training and a test part.

    ========== ==================== =========
    field      shape                dtype
    ========== ==================== =========
    x_train    (n_train, length, 1) float32
    y_train    (n_train,)           int64
    x_test     (n_test, length, 1)  float32
    y_test     (n_test,)            int64
    ========== ==================== =========
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor

    @property
    def length(self) -> int:
        """Number of time steps of every sequence."""
        return self.x_train.shape[1]

    @property
    def n_classes(self) -> int:
        """Number of classes: labels count from zero."""
        return int(self.y_train.max()) + 1


def digits() -> Dataset:
    """1,797 handwritten digits of 8 x 8 pixels: 1,297 to train, 500 to test, in a fixed split."""
    bunch = require("sklearn.datasets", "scikit-learn").load_digits()
    # The order of the file is periodic in the label, so the split is drawn; RandomState's
    # stream is frozen by numpy's policy, so that every version draws the same.
    order = np.random.RandomState(0).permutation(len(bunch.target))
    test, train = order[:500], order[500:]
    x, y = bunch.images, bunch.target
    return _dataset("digits", x[train], y[train], x[test], y[test])


def mnist(folder: str | os.PathLike[str] | None = None) -> Dataset:
    """MNIST, 28 x 28 pixels: 60,000 images to train, 10,000 to test.

    Parameters
    ----------
    folder
        Folder that holds ``mnist.npz`` (arrays ``x_train``, ``y_train``, ``x_test``, ``y_test``).
        Without it the environment variable ``COMPRESSM_DATA`` names the folder; without
        both the file is downloaded once and kept in the cache of the operating system.

    Raises
    ------
    DataError
        If the file is missing or corrupt, or there is no network.
    """
    folder = folder or os.environ.get("COMPRESSM_DATA")
    path = Path(folder) / "mnist.npz" if folder else _download_mnist()
    return _dataset("MNIST", *_read_mnist(path))


def _download_mnist() -> Path:
    pooch = require("pooch")
    pooch.get_logger().setLevel("WARNING")
    cache = pooch.os_cache("compressm")
    try:
        return Path(
            pooch.retrieve(
                MNIST_URL,
                known_hash=f"sha256:{MNIST_SHA256}",
                fname="mnist.npz",
                path=cache,
                downloader=pooch.HTTPDownloader(timeout=30),
            )
        )
    except OSError as error:  # what requests raises derives from it, as does a full disk
        raise DataError(
            f"MNIST could not be downloaded from {MNIST_URL} to {cache} "
            f"({type(error).__name__}): check the network, or give --data-dir a folder with "
            "mnist.npz."
        ) from error
    except ValueError as error:
        raise DataError(
            f"the file at {MNIST_URL} is not the MNIST expected (its SHA-256 differs): "
            "try again, or give --data-dir a folder with mnist.npz."
        ) from error


def _read_mnist(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    remedy = "give --data-dir (or COMPRESSM_DATA) a folder with mnist.npz, or neither to download."
    try:
        # From pickles numpy would run code of the file's choosing.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            parts = tuple(file[key] for key in ("x_train", "y_train", "x_test", "y_test"))
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}: {remedy}") from error
    # A plain .npy file makes np.load return an array, which is no context manager: TypeError.
    except (
        OSError,
        EOFError,
        KeyError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ) as e:
        raise DataError(f"{path} cannot be read as MNIST ({type(e).__name__}): {remedy}") from e
    for images, labels in (parts[:2], parts[2:]):
        if images.ndim != 3 or labels.shape != images.shape[:1] or not images.size:
            raise DataError(
                f"{path} is not MNIST (images {images.shape}, labels {labels.shape}): {remedy}"
            )
    return parts


def _dataset(name: str, x: np.ndarray, y: np.ndarray, xt: np.ndarray, yt: np.ndarray) -> Dataset:
    """Images (n, rows, columns) to sequences (n, rows * columns, 1), standardised by x."""
    mean, std = float(x.mean()), float(x.std())

    def sequences(images: np.ndarray) -> Tensor:
        pixels = torch.from_numpy(images.astype(np.float32)).flatten(1).unsqueeze(-1)
        return pixels.sub_(mean).div_(std)

    def labels(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.int64))

    return Dataset(name, sequences(x), labels(y), sequences(xt), labels(yt))
