"""Time series to be forecast: electricity transformer temperatures."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from compressm.errors import OptionError
from compressm.experiments.data.dataset import Dataset
from compressm.experiments.data.files import Folder, data_file, reading, remedy
from compressm.experiments.data.task import FORECASTING

__all__ = ["etth1"]

URL = "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/ETTh1.csv"
SHA256 = "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066"
MONTH = 30 * 24  # hours
TRAIN, VALIDATION, TEST = 12 * MONTH, 4 * MONTH, 4 * MONTH


def etth1(folder: Folder = None, past: int = 336, horizon: int = 96) -> Dataset:
    """ETTh1: the next hours of each of seven loads and temperatures, from the hours before.

    The usual split (12 months to train, 4 left out for validation, 4 to test) and scaling (by mean
    and standard deviation of the training part). Each channel is a sequence of its own, and inputs
    and targets are differences to the last value of the past.

    Parameters
    ----------
    folder
        Folder that holds ``ETTh1.csv`` or ``series/ETTh1.csv``; see `mnist`.
    past, horizon
        Hours of the input and of the forecast.

    Raises
    ------
    DataError
        If the file is missing or corrupt, or there is no network.
    ValueError
        If `past` or `horizon` is not positive, or both together are longer than a part.

    References
    ----------
    H. Zhou et al., "Informer: beyond efficient transformer for long sequence time-series
    forecasting", AAAI 2021, arXiv:2012.07436.
    """
    if past < 1 or horizon < 1 or horizon > TEST or past + horizon > TRAIN:
        raise OptionError(
            f"past and horizon must be positive, the horizon at most {TEST} and both together at "
            f"most {TRAIN} hours, got {past} and {horizon}"
        )
    path = data_file("ETTh1", folder, URL, SHA256)
    with reading(path, "ETTh1", remedy(path)):
        rows = path.read_text(encoding="utf-8").splitlines()[1:]
        values = np.array([row.split(",")[1:] for row in rows], np.float32)  # without the date
        if values.shape[1:] != (7,) or len(values) < TRAIN + VALIDATION + TEST:
            raise ValueError("these are not seven channels of 20 months")
        train = values[:TRAIN]
        if not (np.isfinite(values).all() and train.std(0).all()):
            raise ValueError("a value is not finite, or a channel constant")
    scaled = torch.from_numpy((values - train.mean(0)) / train.std(0))
    begin = TRAIN + VALIDATION
    x, y = _windows(scaled[:TRAIN], past, horizon)
    # In a fixed random order, so that the first few windows stand for all months
    order = torch.from_numpy(np.random.RandomState(0).permutation(len(x)))
    test = _windows(scaled[begin - past : begin + TEST], past, horizon)
    return Dataset("ETTh1", x[order], y[order], *test, task=FORECASTING)


def _windows(series: Tensor, past: int, horizon: int) -> tuple[Tensor, Tensor]:
    """Past (n, past, 1) and future (n, horizon) of all windows of each channel."""
    windows = series.unfold(0, past + horizon, 1).flatten(0, 1)
    windows = windows - windows[:, past - 1 : past]
    return windows[:, :past, None], windows[:, past:]
