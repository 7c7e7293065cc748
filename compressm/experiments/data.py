"""Real data as sequences: images pixel by pixel, and spoken digits sample by sample.

An image becomes the sequence of its pixels, row by row, one pixel per time step.
"""

from __future__ import annotations

import os
import tarfile
import wave
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.signal import decimate as decimated
from torch import Tensor

from compressm._optional import require
from compressm.errors import DataError, OptionError

__all__ = [
    "Dataset",
    "cifar",
    "digits",
    "mnist",
    "spoken_digits",
]

Folder = str | os.PathLike[str] | None
Parts = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
MNIST_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
# The binary version: the Python version holds pickles, which run code.
CIFAR_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
FSDD_REMEDY = (
    "give --data-dir (or COMPRESSM_DATA) a clone of "
    "https://github.com/Jakobovski/free-spoken-digit-dataset, or a folder with fsdd.npz."
)


@dataclass(frozen=True)
class Dataset:
    """Labelled sequences, split into a training and a test part.

    ========== ========================== =========
    field      shape                      dtype
    ========== ========================== =========
    x_train    (n_train, length, n_input) float32
    y_train    (n_train,)                 int64
    x_test     (n_test, length, n_input)  float32
    y_test     (n_test,)                  int64
    ========== ========================== =========

    Sequences of tokens, numbers from 0 to `n_tokens` - 1, are (n, length) of dtype uint8.
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    n_tokens: int = 0

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
    x, y = bunch.images.reshape(len(order), -1, 1), bunch.target
    return _dataset("digits", x[train], y[train], x[test], y[test])


def mnist(folder: Folder = None) -> Dataset:
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
    return _dataset("MNIST", *_read_mnist(_file("MNIST", folder, MNIST_URL, MNIST_SHA256)))


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
    return _dataset("CIFAR-10", *_read_cifar(_file("CIFAR-10", folder, CIFAR_URL, CIFAR_SHA256)))


def spoken_digits(folder: Folder = None, length: int = 4000, decimate: int = 1) -> Dataset:
    """Free Spoken Digit Dataset, raw audio at 8 kHz: 2,700 recordings to train, 300 to test.

    Each recording has a mean square of 1. Those of index 0 to 4, of every speaker and every digit,
    are the test part, as published.

    Parameters
    ----------
    folder
        Folder that holds ``fsdd.npz`` (arrays ``audio``, ``length``, ``digit`` and ``index``:
        recordings end to end), or a clone of the public repository
        (``recordings/{digit}_{speaker}_{index}.wav``). Without it the environment variable
        ``COMPRESSM_DATA`` names the folder.
    length
        Samples of each recording: what is beyond is cut off, what is missing is silence.
    decimate
        Keep one sample of so many, after a low-pass filter.

    Raises
    ------
    DataError
        If there are no recordings, or they cannot be read.
    ValueError
        If `length` or `decimate` is not positive.
    """
    if min(length, decimate) < 1:
        raise OptionError(f"length and decimate must be positive, got {length} and {decimate}")
    place = Path(folder or os.environ.get("COMPRESSM_DATA", "."))
    file = place / "fsdd.npz"
    recordings = _read_npz(file) if file.is_file() else _read_wavs(place / "recordings")
    if not recordings:
        raise DataError(f"there is neither fsdd.npz nor recordings/*.wav in {place}: {FSDD_REMEDY}")
    x = np.zeros((len(recordings), length), dtype=np.float32)
    for row, (_, _, samples) in zip(x, recordings, strict=True):
        samples = samples[:length].astype(np.float32)
        power = float(np.square(samples).mean()) if len(samples) else 0.0
        row[: len(samples)] = samples / power**0.5 if power else samples
    if decimate > 1:
        x = decimated(x, decimate, ftype="fir").astype(np.float32)
    y = np.array([digit for digit, _, _ in recordings])
    test = np.array([index < 5 for _, index, _ in recordings])
    x = x[..., None]
    return _dataset("spoken digits", x[~test], y[~test], x[test], y[test])


def _file(what: str, folder: Folder, url: str, sha256: str) -> Path:
    """The file of that name in the folder that is given or in the environment, or downloaded."""
    folder = folder or os.environ.get("COMPRESSM_DATA")
    return Path(folder) / Path(url).name if folder else _download(what, url, sha256)


def _download(what: str, url: str, sha256: str) -> Path:
    """The file at `url`, downloaded unless it was before."""
    pooch = require("pooch")
    require("tqdm")
    pooch.get_logger().setLevel("WARNING")
    cache = pooch.os_cache("compressm")
    name = Path(url).name
    try:
        return Path(
            pooch.retrieve(
                url,
                known_hash=f"sha256:{sha256}",
                fname=name,
                path=cache,
                downloader=pooch.HTTPDownloader(timeout=30, progressbar=True),
            )
        )
    except OSError as error:  # what requests raises derives from it, as does a full disk
        raise DataError(
            f"{what} could not be downloaded from {url} to {cache} "
            f"({type(error).__name__}): check the network, or give --data-dir a folder with "
            f"{name}."
        ) from error
    except ValueError as error:
        raise DataError(
            f"the file at {url} is not the {what} expected (its SHA-256 differs): "
            f"try again, or give --data-dir a folder with {name}."
        ) from error


def _remedy(path: Path) -> str:
    return f"give --data-dir (or COMPRESSM_DATA) a folder with {path.name}, or neither to download."


@contextmanager
def _reading(path: Path, what: str, remedy: str) -> Iterator[None]:
    """Whatever goes wrong with a file, in one sentence."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}: {remedy}") from error
    # A plain .npy file makes np.load return an array, which is no context manager: TypeError.
    except (
        OSError,
        EOFError,
        KeyError,
        TypeError,
        ValueError,
        tarfile.TarError,
        wave.Error,
        zipfile.BadZipFile,
        zlib.error,
    ) as e:
        raise DataError(f"{path} cannot be read as {what} ({type(e).__name__}): {remedy}") from e


def _arrays(path: Path, *names: str) -> tuple[np.ndarray, ...]:
    # From pickles numpy would run code of the file's choosing.
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        return tuple(file[name] for name in names)


def _read_mnist(path: Path) -> Parts:
    with _reading(path, "MNIST", _remedy(path)):
        x, y, xt, yt = _arrays(path, "x_train", "y_train", "x_test", "y_test")
    for images, labels in ((x, y), (xt, yt)):
        if images.ndim != 3 or labels.shape != images.shape[:1] or not images.size:
            raise DataError(
                f"{path} is not MNIST (images {images.shape}, labels {labels.shape}): "
                f"{_remedy(path)}"
            )
    return x.reshape(len(x), -1, 1), y, xt.reshape(len(xt), -1, 1), yt


def _read_cifar(path: Path) -> Parts:
    """Records of 1 + 3 * 1024 bytes: the label, then the pixels of each colour."""
    found = {}
    with _reading(path, "CIFAR-10", _remedy(path)), tarfile.open(path) as archive:
        for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
            file = archive.extractfile(f"cifar-10-batches-bin/{name}.bin")
            if file is None:
                raise KeyError(name)
            found[name] = np.frombuffer(file.read(), np.uint8).reshape(-1, 1 + 3 * 1024)
    test = found.pop("test_batch")
    train = np.concatenate(list(found.values()))
    x, xt = (part[:, 1:].reshape(-1, 3, 1024).transpose(0, 2, 1) for part in (train, test))
    return x, train[:, 0], xt, test[:, 0]


Recording = tuple[int, int, np.ndarray]  # digit, index, samples


def _read_npz(path: Path) -> list[Recording]:
    with _reading(path, "spoken digits", FSDD_REMEDY):
        audio, length, digit, index = _arrays(path, "audio", "length", "digit", "index")
        pieces = np.split(audio, np.cumsum(length)[:-1])
        return list(zip(digit.tolist(), index.tolist(), pieces, strict=True))


def _read_wavs(folder: Path) -> list[Recording]:
    """Every ``{digit}_{speaker}_{index}.wav`` of a folder."""
    recordings = []
    for path in sorted(folder.glob("*_*_*.wav")):
        with _reading(path, "one channel of 16 bits at 8 kHz", FSDD_REMEDY):
            digit, _, index = path.stem.split("_")
            with wave.open(str(path)) as file:
                if (file.getnchannels(), file.getsampwidth(), file.getframerate()) != (1, 2, 8000):
                    raise ValueError(file.getparams())
                samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
            recordings.append((int(digit), int(index), samples))
    return recordings


def _dataset(name: str, x: np.ndarray, y: np.ndarray, xt: np.ndarray, yt: np.ndarray) -> Dataset:
    """Sequences (n, length, n_input), standardised by x."""
    if not (x.size and xt.size) or x.min() == x.max():
        raise DataError(
            f"{name}: {len(x)} sequences to train, {len(xt)} to test, and there must be some of "
            "each, not all constant: give the whole data set."
        )
    mean, std = float(x.mean()), float(x.std())

    def sequences(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).sub_(mean).div_(std)

    def labels(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.int64))

    return Dataset(name, sequences(x), labels(y), sequences(xt), labels(yt))
