"""Policies for a whole model: one energy fraction for all of its layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from compressm._renamed import renamed
from compressm.compression.policies import Policy, ScoredLayer, pooled
from compressm.errors import OptionError
from compressm.ops.checks import as_number, require_number
from compressm.sizes import require_count

__all__ = ["Budget", "MetricDrop"]


@dataclass(frozen=True)
class Budget(Policy):
    """The largest energy fraction, the same for all layers, with sum(stored(r)) <= total.

    A policy for the whole model: each layer gets as many states as it needs to keep that energy
    fraction.

    Parameters
    ----------
    total : int, optional
        Number of states that all layers together store afterwards.
    fraction : float, optional
        In place of `total`: a fraction of the states that they could store at most, in (0, 1].

    Raises
    ------
    OptionError
        If not exactly one of the two is given, or it is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from compressm import Budget
    >>> flat, steep = np.array([3.0, 3.0, 2.0, 2.0]), np.array([9.0, 0.5, 0.4, 0.1])
    >>> Budget(total=5).across([flat, steep], [lambda order: order] * 2)
    [4, 1]
    """

    total: int | None = None
    fraction: float | None = None

    at_most: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if (self.total is None) == (self.fraction is None):
            raise OptionError(f"give either total or fraction, got {self}")
        if self.total is not None:
            require_count("total", self.total)
            return
        require_number("fraction", self.fraction)
        if self.fraction is None or not 0 < self.fraction <= 1:
            raise OptionError(f"fraction must lie in (0, 1], got {self.fraction}")

    def orders(self, layers: Sequence[ScoredLayer], copy: Callable[..., Any]) -> list[int]:
        """The order to keep of each of `layers`; see `Policy`. `copy` is not used."""
        return self.across([layer.hsv for layer in layers], [layer.stored for layer in layers])

    def allows(self, layers: Sequence[ScoredLayer], sizes: Sequence[int]) -> bool:
        """Whether `layers` of `sizes` are within the budget, sum(sizes) <= total; see `Policy`."""
        spectra, stored = [x.hsv for x in layers], [x.stored for x in layers]
        return sum(sizes) <= self._total(spectra, stored)

    def looser(self) -> Iterable[Policy]:
        """`Budget` of a smaller fraction; see `Policy`."""
        return (Budget(fraction=x) for x in (0.75, 0.5, 0.25))

    @renamed(slots="stored")
    def across(
        self, spectra: Sequence[np.ndarray], stored: Sequence[Callable[[int], int]]
    ) -> list[int]:
        """The order of each layer.

        Parameters
        ----------
        spectra : sequence of ndarray (..., n)
            Of each layer, as in `Policy`.
        stored : sequence of callable
            Of each layer, as in `Policy`.

        Returns
        -------
        list of int
            At least 1 each, even if that exceeds the budget.
        """
        levels, total = _Levels(spectra), self._total(spectra, stored)

        def count(orders: Sequence[int]) -> int:
            return sum(one(order) for one, order in zip(stored, orders, strict=True))

        return levels.orders(max(levels.last(lambda orders: count(orders) <= total), 0))

    def _total(self, spectra: Sequence[np.ndarray], stored: Sequence[Callable[[int], int]]) -> int:
        if self.total is not None:
            return self.total
        most = (one(order) for one, order in zip(stored, _Levels(spectra).orders(-1), strict=True))
        return int((self.fraction or 1.0) * sum(most))


@renamed(evaluate="metric", tolerance="tol")
@dataclass(frozen=True)
class MetricDrop(Policy):
    """The smallest energy fraction, the same for all layers, with metric falling by at most `tol`.

    A policy for the whole model: metric(model) - metric(model cut to that energy) <= tol, by
    bisection. Each trial cuts and measures a copy. For a trained model, or the last cut of a run.

    Parameters
    ----------
    metric : callable
        From a model to a number, the larger the better, such as its accuracy on held-out data. It
        gets copies of the model, and must set the mode that it needs (``model.eval()``).
    tol : float
        By how much the number may fall, non-negative.

    Raises
    ------
    OptionError
        If `tol` is negative or not finite.

    Examples
    --------
    >>> import torch
    >>> from compressm import MetricDrop, SequenceModel, compress_
    >>> model = SequenceModel(d_input=1, d_output=2, d_model=4, d_state=16, n_layers=1)
    >>> u = torch.randn(8, 30, 1)
    >>> y = model(u)
    >>> closeness = lambda model: -((model(u) - y).norm() / y.norm()).item()
    >>> event = compress_(model, MetricDrop(closeness, 0.1))
    >>> event.layers[0].after < 16 and closeness(model) >= -0.1
    True
    """

    metric: Callable[[Any], float]
    tol: float

    def __post_init__(self) -> None:
        if not callable(self.metric):
            raise OptionError(f"metric must be a function of the model, got {self.metric!r}")
        require_number("tol", self.tol)
        if not 0 <= self.tol < math.inf:
            raise OptionError(f"tol must be a finite number >= 0, got {self.tol}")

    def orders(self, layers: Sequence[ScoredLayer], copy: Callable[..., Any]) -> list[int]:
        """The order to keep of each of `layers`, measured on what `copy` returns; see `Policy`."""
        return self.search([layer.hsv for layer in layers], copy(), copy)

    def search(
        self, spectra: Sequence[np.ndarray], model: Any, cut: Callable[[Sequence[int]], Any]
    ) -> list[int]:
        """The order of each layer.

        Parameters
        ----------
        spectra : sequence of ndarray (..., n)
            Of each layer, as in `Policy`.
        model : nn.Module
            The model before the cut.
        cut : callable
            ``cut(orders)``: a copy of the model that is cut to these orders.

        Returns
        -------
        list of int
        """
        full = as_number(self.metric(model))
        if not math.isfinite(full):
            raise OptionError(
                f"metric must return a finite number, got {full!r} for the model as it is"
            )
        levels, least = _Levels(spectra), full - self.tol

        def falls(orders: list[int]) -> bool:
            return not as_number(self.metric(cut(orders))) >= least  # NaN does not accept a cut

        refused = levels.last(falls)
        if refused + 1 == len(levels):  # not even rounding is allowed
            return [hsv.shape[-1] for hsv in spectra]
        return levels.orders(refused + 1)


class _Levels:
    """Energy fractions that some layer can keep, from none (its first state) to all."""

    def __init__(self, spectra: Sequence[np.ndarray]) -> None:
        self.fractions = [(sums := np.cumsum(pooled(hsv))) / sums[-1] for hsv in spectra]
        self.values = np.unique(np.concatenate([[0.0], *self.fractions]))

    def __len__(self) -> int:
        return len(self.values)

    def orders(self, at: int) -> list[int]:
        """The order at which each layer keeps the energy fraction of that level."""
        return [min(int((x < self.values[at]).sum()) + 1, len(x)) for x in self.fractions]

    def last(self, accepts: Callable[[list[int]], bool]) -> int:
        """The last level that is accepted, by bisection; -1 if the first is not."""
        low, high = -1, len(self)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if accepts(self.orders(middle)) else (low, middle)
        return low
