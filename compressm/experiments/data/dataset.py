"""Sequences with their targets, and the order in which a run sees them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from compressm.errors import DataError
from compressm.experiments.data.task import CLASSIFICATION, Task

__all__ = ["Dataset", "batches", "standardized"]


@dataclass(frozen=True)
class Dataset:
    """Sequences with their targets, split into a training and a test part.

    ============= ========================== =========
    field         shape                      dtype
    ============= ========================== =========
    x_train       (n_train, length, n_input) float32
    y_train       (n_train,)                 int64
    x_test        (n_test, length, n_input)  float32
    y_test        (n_test,)                  int64
    lengths_train (n_train,)                 int64
    lengths_test  (n_test,)                  int64
    ============= ========================== =========

    Targets are labels, or futures (n, horizon) of dtype float32, as the `task` says. Sequences of
    tokens, numbers from 0 to `n_tokens` - 1, are (n, length) of dtype uint8. Steps after the
    `lengths` are padding; None where there is none.
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    n_tokens: int = 0
    lengths_train: Tensor | None = None
    lengths_test: Tensor | None = None
    task: Task = CLASSIFICATION

    def train(self, index: Tensor) -> tuple[Tensor, ...]:
        """Targets, inputs and lengths, if there are any, of these training sequences."""
        parts = (self.y_train, self.x_train, self.lengths_train)
        return tuple(part[index] for part in parts if part is not None)

    def test(self, index: Tensor | slice = slice(None)) -> tuple[Tensor, ...]:
        """Targets, inputs and lengths, if there are any, of these test sequences."""
        parts = (self.y_test, self.x_test, self.lengths_test)
        return tuple(part[index] for part in parts if part is not None)

    @property
    def length(self) -> int:
        """Number of time steps of every sequence."""
        return self.x_train.shape[1]

    @property
    def n_outputs(self) -> int:
        """Number of outputs of a model: the horizon, or the classes, counted from zero."""
        return int(self.y_train.max()) + 1 if self.y_train.ndim == 1 else self.y_train.shape[1]


def standardized(
    name: str, x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray
) -> Dataset:
    """(x - mean) / std, with mean and standard deviation of the training part.

    Parameters
    ----------
    name
        Of the data set.
    x, x_test
        Sequences (n, length, n_input) for training and for test.
    y, y_test
        Their labels (n,).

    Raises
    ------
    DataError
        If one part is empty, or all sequences are constant.
    """
    if not (x.size and x_test.size) or x.min() == x.max():
        raise DataError(
            f"{name}: {len(x)} sequences to train, {len(x_test)} to test, and there must be some "
            "of each, not all constant: give the whole data set."
        )
    mean, std = float(x.mean()), float(x.std())

    def sequences(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).sub_(mean).div_(std)

    def labels(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.int64))

    return Dataset(name, sequences(x), labels(y), sequences(x_test), labels(y_test))


def batches(n: int, size: int, steps: int, seed: int) -> Iterator[Tensor]:
    """Indices of `steps` batches; each epoch is a new permutation, and drops its last few."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(left) < min(size, n):
            left = torch.randperm(n, generator=generator)
        yield left[:size]
        left = left[size:]
