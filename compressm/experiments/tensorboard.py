"""Files for TensorBoard: loss, metrics, states, and spectra as histograms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from compressm._optional import require
from compressm.compression.event import CompressionEvent
from compressm.experiments.training import Point, Step

__all__ = ["Board"]


class Board:
    """An `on_step` for `compressm.experiments.training.run` that writes files for TensorBoard.

    Parameters
    ----------
    folder
        Folder of the files, to be given to ``tensorboard --logdir``.
    """

    def __init__(self, folder: Path) -> None:
        self.module = require("torch.utils.tensorboard", "tensorboard")
        self.folder = folder
        self.writer: Any = None

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.writer is not None:
            self.writer.close()

    def __call__(self, step: Step) -> None:
        if self.writer is None:  # a resumed run repeats the steps since its checkpoint
            begun = step.step if step.step > 1 else None
            self.writer = self.module.SummaryWriter(str(self.folder), purge_step=begun)
        for entry in step.news:
            if isinstance(entry, Point):
                if entry.loss is not None:
                    self.writer.add_scalar("loss", entry.loss, entry.step)
                for name, value in entry.measured.items():
                    self.writer.add_scalar(name, value, entry.step)
                for place, order in enumerate(entry.orders):
                    self.writer.add_scalar(f"states/{place}", order, entry.step)
            elif isinstance(entry, CompressionEvent):
                self._spectra({cut.name: cut.hsv for cut in entry.layers}, entry.step)
            else:
                self._spectra(entry.layers, entry.step)

    def _spectra(self, layers: Mapping[str, np.ndarray], step: int) -> None:
        """Histograms of log10(sigma / sigma[0]), of the positive values."""
        for name, hsv in layers.items():
            positive = hsv[hsv > 0]
            if positive.size:
                self.writer.add_histogram(
                    f"spectrum/{name}", np.log10(positive / positive.max()), step
                )
