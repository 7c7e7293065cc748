"""How far: from Hankel singular values to the order that is kept. Small, pure values."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, Protocol

import numpy as np

import lti
from compressm.errors import OptionError

__all__ = ["ENERGIES", "Budget", "ErrorBound", "KeepEnergy", "MetricDrop", "Order", "Policy"]

Kind = Literal["model", "input", "data"]  # of Gramians, see `Compressor`
ENERGIES: dict[str, float] = {"model": 0.98, "input": 0.9995, "data": 0.9995}
"""The share that is kept of a layer's energy where no policy says otherwise, by what weighed it."""


class Policy(Protocol):
    """An order for a layer: any function of these two arguments will do."""

    def __call__(self, hsv: np.ndarray, slots: Callable[[int], int]) -> int:
        """The order to keep, from 0 to n.

        Parameters
        ----------
        hsv : ndarray (..., n)
            Hankel singular values, descending, at least one positive; a row for each channel, if
            every channel of the layer is a system of its own.
        slots : callable
            ``slots(order)`` is the number of states that the layer must store at that order: for a
            real system fewer than `order`, since a conjugate pair takes one slot.
        """
        ...


@dataclass(frozen=True)
class KeepEnergy:
    """min r: sum(hsv[:r]) >= energy * sum(hsv).

    Parameters
    ----------
    energy : float
        Share of the sum of Hankel singular values (not of their squares) that is *kept*, in (0, 1].
        The sums are over all channels of a layer: those that do little do not decide.

    Raises
    ------
    ValueError
        If `energy` lies outside.

    References
    ----------
    Chahine et al., "The Curious Case of In-Training Compression of State Space Models", ICLR 2026,
    arXiv:2510.02823, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from compressm import KeepEnergy
    >>> KeepEnergy(0.9)(np.array([6.0, 3.0, 1.0]), slots=lambda order: order)
    2
    """

    energy: float

    def __post_init__(self) -> None:
        if not 0 < self.energy <= 1:
            raise OptionError(
                f"energy is the share that is kept and must lie in (0, 1], got {self.energy}"
            )

    def __call__(self, hsv: np.ndarray, slots: Callable[[int], int]) -> int:
        """The order to keep; see `Policy`."""
        return lti.order_for(_pooled(hsv), energy=self.energy)


@dataclass(frozen=True)
class ErrorBound:
    """min r: 2 * sum of the distinct hsv[r:] <= tol.

    Parameters
    ----------
    tol : float
        Largest error of the layer's transfer function in the H-infinity norm, non-negative. What
        rounding to the precision of the parameters adds is in `LayerCut.error_bound`.
    relative : bool, optional
        Count `tol` in units of the largest Hankel singular value.

    Raises
    ------
    ValueError
        If `tol` is negative or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from compressm import ErrorBound
    >>> ErrorBound(2.5)(np.array([6.0, 3.0, 1.0]), slots=lambda order: order)
    2
    """

    tol: float
    relative: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.tol < math.inf:
            raise OptionError(f"tol must be a finite number >= 0, got {self.tol}")

    def __call__(self, hsv: np.ndarray, slots: Callable[[int], int]) -> int:
        """The order to keep; see `Policy`."""
        return lti.order_for(hsv, self.tol, self.relative)


@dataclass(frozen=True)
class Order:
    """max r: slots(r) <= n_stored.

    Parameters
    ----------
    n_stored : int
        Number of states that the layer stores afterwards, its `d_state`; at least 1.

    Raises
    ------
    ValueError
        If `n_stored` is below 1 or not an integer.

    Examples
    --------
    >>> import numpy as np
    >>> from compressm import Order
    >>> Order(2)(np.array([6.0, 3.0, 1.0]), slots=lambda order: order)
    2
    """

    n_stored: int

    def __post_init__(self) -> None:
        _require_count("n_stored", self.n_stored)

    def __call__(self, hsv: np.ndarray, slots: Callable[[int], int]) -> int:
        """The order to keep; see `Policy`."""
        # Each slot holds at most a pair, so no order beyond twice the slots can fit
        orders = range(min(2 * self.n_stored, hsv.shape[-1]), 0, -1)
        return next((order for order in orders if slots(order) <= self.n_stored), 1)


@dataclass(frozen=True)
class Budget:
    """max energy: sum over layers of slots(r_energy) <= total, one share of energy for all layers.

    Where `Policy` looks at a layer at a time, this looks at all of them: states go where they keep
    most of a layer's own energy.

    Parameters
    ----------
    total : int, optional
        Number of states that all layers together store afterwards.
    fraction : float, optional
        In place of `total`: a share of those that they could store at most, in (0, 1].

    Raises
    ------
    ValueError
        If not just one of the two is given, or it makes no sense.

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

    def __post_init__(self) -> None:
        if (self.total is None) == (self.fraction is None):
            raise OptionError(f"give either total or fraction, got {self}")
        if self.total is not None and (
            isinstance(self.total, bool) or operator.index(self.total) < 1
        ):
            raise OptionError(f"total must be an integer of at least 1, got {self.total!r}")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise OptionError(f"fraction must lie in (0, 1], got {self.fraction}")

    def across(
        self, spectra: Sequence[np.ndarray], slots: Sequence[Callable[[int], int]]
    ) -> list[int]:
        """The order of each layer.

        Parameters
        ----------
        spectra : sequence of ndarray (..., n)
            As `Policy` takes one.
        slots : sequence of callable
            Likewise.

        Returns
        -------
        list of int
            At least 1 each, even where that breaks the budget.
        """
        levels = _Levels(spectra)

        def stored(orders: Sequence[int]) -> int:
            return sum(count(order) for count, order in zip(slots, orders, strict=True))

        total = self.total
        if total is None:
            total = int((self.fraction or 1.0) * stored(levels.orders(-1)))
        return levels.orders(max(levels.last(lambda orders: stored(orders) <= total), 0))


@dataclass(frozen=True)
class MetricDrop:
    """min energy: metric(model) - metric(model cut to that energy) <= tolerance.

    One share of energy for all layers, the smallest that a search by bisection finds; every try
    is made and measured on a copy. For a trained model, or for the last cut of a run.

    Parameters
    ----------
    evaluate : callable
        From a model to a number, the larger the better, such as its accuracy on held-out data. It
        is given copies, and sets the mode that it needs (``model.eval()``) by itself.
    tolerance : float
        How much smaller the number may become, non-negative.

    Raises
    ------
    ValueError
        If `tolerance` is negative or not finite.

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

    evaluate: Callable[[Any], float]
    tolerance: float

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < math.inf:
            raise OptionError(f"tolerance must be a finite number >= 0, got {self.tolerance}")

    def search(
        self, spectra: Sequence[np.ndarray], model: Any, cut: Callable[[list[int]], Any]
    ) -> list[int]:
        """The order of each layer.

        Parameters
        ----------
        spectra : sequence of ndarray (..., n)
            As `Policy` takes one.
        model : nn.Module
            As it is.
        cut : callable
            From orders to a copy of the model that is cut to them.

        Returns
        -------
        list of int
        """
        metric = self.evaluate(model)
        if not isinstance(metric, Real) or not math.isfinite(metric):
            raise OptionError(
                f"evaluate must return a finite number, got {metric!r} for the model as it is"
            )
        levels, least = _Levels(spectra), metric - self.tolerance
        refused = levels.last(lambda orders: not self.evaluate(cut(orders)) >= least)
        if refused + 1 == len(levels):  # not even rounding is allowed
            return [hsv.shape[-1] for hsv in spectra]
        return levels.orders(refused + 1)


class _Levels:
    """Shares of energy that some layer can keep, from none (its first state) to all."""

    def __init__(self, spectra: Sequence[np.ndarray]) -> None:
        self.shares = [(sums := np.cumsum(_pooled(hsv))) / sums[-1] for hsv in spectra]
        self.values = np.unique(np.concatenate([[0.0], *self.shares]))

    def __len__(self) -> int:
        return len(self.values)

    def orders(self, at: int) -> list[int]:
        """The order at which each layer keeps the level's share of its energy."""
        return [min(int((x < self.values[at]).sum()) + 1, len(x)) for x in self.shares]

    def last(self, accepts: Callable[[list[int]], bool]) -> int:
        """The last level that is accepted, by bisection; -1 if the first is not."""
        low, high = -1, len(self)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if accepts(self.orders(middle)) else (low, middle)
        return low


def _pooled(hsv: np.ndarray) -> np.ndarray:
    """The values (n,) of all channels together: those at one place add up."""
    return hsv.reshape(-1, hsv.shape[-1]).sum(axis=0)


def _require_count(name: str, value: int) -> None:
    if isinstance(value, bool) or operator.index(value) < 1:
        raise OptionError(f"{name} must be an integer of at least 1, got {value!r}")
