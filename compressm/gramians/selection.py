"""Which states of a selective layer are kept at each order, and what each is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from compressm.gramians.elimination import Elimination, takeover

__all__ = ["Selection"]


@dataclass(frozen=True, eq=False)
class Selection:
    """The states of each group of channels, from the one that is worth most to the least.

    Parameters
    ----------
    ranking : ndarray (groups, N)
        The first r of each row are kept at order r.
    values : ndarray (N,)
        What they are worth, descending.
    P : Tensor (N, N), optional
        Second moment of the states, by which those that stay take over from the others.
    """

    ranking: np.ndarray
    values: np.ndarray
    P: Tensor | None = None

    @classmethod
    def by_values(cls, values: np.ndarray) -> Selection:
        """By the values (groups, N) of single states."""
        ranking = np.argsort(-values, axis=-1, kind="stable")
        return cls(ranking, np.take_along_axis(values, ranking, -1).sum(0))

    @classmethod
    def of(cls, groups: Sequence[Elimination], P: Tensor | None = None) -> Selection:
        """By the order in which states were eliminated, each worth the root of its cost."""
        costs = torch.stack([group.costs for group in groups]).sum(0)
        return cls(np.array([group.order for group in groups]), costs.sqrt().numpy(), P)

    def kept(self, n: int) -> tuple[tuple[int, ...], ...]:
        """The n states of each group, in their sequence."""
        return tuple(map(tuple, np.sort(self.ranking[:, :n]).tolist()))

    def readout(self, n: int) -> Tensor | None:
        """T (n, N) of C <- T C, with which n states take over from the others."""
        return None if self.P is None else takeover(self.P, list(self.kept(n)[0]))
