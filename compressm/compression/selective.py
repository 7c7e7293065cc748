"""The cut of a selective layer: the states that are worth most are kept."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from compressm.compression.event import LayerCut
from compressm.compression.forward import refuse_broken
from compressm.compression.proposal import (
    KeepStates,
    Plan,
    Proposal,
    cut_copy,
    parameter_count,
    refuse_tied,
    unchanged,
)
from compressm.errors import SkipError
from compressm.gramians.output_error import relative_error
from compressm.gramians.selection import Selection
from compressm.ops.copies import in_single
from compressm.systems.selective.evaluate import layer_output

__all__ = ["SelectivePlan"]


@dataclass(frozen=True, eq=False, kw_only=True)
class SelectivePlan(Plan):
    """A selective layer with a choice of states for each order.

    Parameters
    ----------
    selection : Selection
        Which states are kept at each order.

    Raises
    ------
    SkipError
        If all scores are zero.
    """

    selection: Selection

    def __post_init__(self) -> None:
        if not self.hsv.any():
            raise SkipError("the scores of its states are all zero")

    @property
    def hsv(self) -> np.ndarray:
        """What the states are worth (N,), descending."""
        return self.selection.values

    def stored(self, order: int) -> int:
        """Stored states at that order, rounded up to an allowed size."""
        return self.sizes.at_least(max(order, 1), len(self.hsv))

    def _write(self, n: int) -> KeepStates:
        """The `n` states of each group that are worth most, in their sequence."""
        return KeepStates(self.selection.kept(n), self.selection.readout(n))

    def at(self, order: int, owners: Counter[int], reselect_order: Any = None) -> Proposal:
        """The cut at `order`; the states that are kept do not change their sequence."""
        n, before = self.stored(order), len(self.hsv)
        if n == before:
            return unchanged(self)
        trial = cut_copy(self.layer, write := self._write(n))
        refuse_tied(self.layer, trial, owners)
        refuse_broken(self.forward_pass, trial, partial(self._changes, trial))
        cut = LayerCut(
            self.name,
            before,
            n,
            n,
            self.hsv,
            error_bound=math.inf,
            energy_kept=float(self.hsv[:n].sum() / self.hsv.sum()),
            parameters=(parameter_count(self.layer), parameter_count(trial)),
            gramians=self.gramians.name,
        )
        return Proposal(cut, write)

    def output_error_at(self, order: int) -> float | None:
        """The output error with that many states."""
        return self.output_error(self._write(order))

    def output_error(self, write: KeepStates) -> float | None:
        """The output error of the whole layer as written, on the sequences held out."""
        trial = cut_copy(self.layer, write)
        inputs, full, cut = (x.u for x in self.held_out), self._single, in_single(trial)
        return relative_error((layer_output(full, u), layer_output(cut, u)) for u in inputs)

    def _changes(self, trial: nn.Module, u: Tensor) -> tuple[slice, list[tuple[Tensor, Tensor]]]:
        """The output of the whole layer by its form, before and after the cut."""
        u = u.to(next(self.layer.parameters()).device)
        return slice(None), [(layer_output(self._single, u), layer_output(in_single(trial), u))]

    @cached_property
    def _single(self) -> nn.Module:
        return in_single(self.layer)
