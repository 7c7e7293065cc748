"""Plug loads: the current that an appliance draws, sample by sample, in series of any length."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from compressm.errors import DataError, OptionError
from compressm.experiments.data.dataset import Dataset
from compressm.experiments.data.files import Folder, arrays_in, data_folder, file_in, reading

__all__ = ["plaid"]

REMEDY = (
    "give --data-dir (or COMPRESSM_DATA) a folder with plaid.npz, the set PLAID of the UCR archive "
    "(timeseriesclassification.com) with the arrays x_train, length_train and y_train, series end "
    "to end, and the same of the test part."
)


def plaid(folder: Folder = None, length: int = 1344) -> Dataset:
    """Plug-Load Appliance Identification Dataset: 537 series to train, 537 to test, 11 classes.

    Each series is divided by its largest value, of which the logarithm is a second input. They
    have 100 to 1,344 samples; what follows is padding.

    Parameters
    ----------
    folder
        Folder that holds ``plaid.npz`` or ``series/plaid.npz``. Without it the environment variable
        ``COMPRESSM_DATA`` names the folder.
    length
        Longer series are cut off.

    Raises
    ------
    DataError
        If there is no such file, or it cannot be read.
    ValueError
        If `length` is not positive.

    References
    ----------
    J. Gao, S. Giri, E. C. Kara, M. Berges, "PLAID: a public dataset of high-resolution electrical
    appliance measurements for load identification research", BuildSys 2014.
    """
    if length < 1:
        raise OptionError(f"length must be positive, got {length}")
    place = data_folder(folder)
    if place is None:
        raise DataError(f"the PLAID series are not downloaded: {REMEDY}")
    path = file_in(place, "plaid.npz")
    parts = []
    for part in ("train", "test"):
        with reading(path, "PLAID", REMEDY):
            x, n, y = arrays_in(path, *(f"{name}_{part}" for name in ("x", "length", "y")))
            if x.ndim != 1 or n.min() < 1 or n.sum() != len(x) or len(n) != len(y):
                raise ValueError("the lengths do not fit")
            if not np.isfinite(x).all():
                raise ValueError("a sample is not finite")
            parts.append(_padded(np.split(x, np.cumsum(n)[:-1]), length, y))
    (x, n, y), (x_test, n_test, y_test) = parts
    return Dataset("PLAID", x, y, x_test, y_test, lengths_train=n, lengths_test=n_test)


def _padded(series: list[np.ndarray], length: int, y: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    x, lengths = np.zeros((len(series), length, 2), np.float32), []
    for row, values in zip(x, series, strict=True):
        values, largest = values[:length], max(float(np.abs(values).max()), 1e-6)
        row[: len(values), 0], row[: len(values), 1] = values / largest, np.log(largest)
        lengths.append(len(values))
    return torch.from_numpy(x), torch.tensor(lengths), torch.from_numpy(y.astype(np.int64))
