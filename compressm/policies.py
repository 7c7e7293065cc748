"""How far: from Hankel singular values to the order that is kept. Small, pure values."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

import lti

__all__ = ["ErrorBound", "KeepEnergy", "Order", "Policy"]


class Policy(Protocol):
    """An order for a layer: any function of these two arguments will do."""

    def __call__(self, hsv: np.ndarray, slots: Callable[[int], int]) -> int:
        """The order to keep, from 0 to n.

        Parameters
        ----------
        hsv : ndarray (n,)
            Hankel singular values, descending, at least one positive.
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

    energy: float = 0.99

    def __post_init__(self) -> None:
        if not 0 < self.energy <= 1:
            raise ValueError(
                f"energy is the share that is kept and must lie in (0, 1], got {self.energy}"
            )

    def __call__(self, hsv: np.ndarray, slots: Callable[[int], int]) -> int:
        """The order to keep; see `Policy`."""
        return lti.order_for(hsv, energy=self.energy)


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
            raise ValueError(f"tol must be a finite number >= 0, got {self.tol}")

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
        if isinstance(self.n_stored, bool) or operator.index(self.n_stored) < 1:
            raise ValueError(f"n_stored must be an integer of at least 1, got {self.n_stored!r}")

    def __call__(self, hsv: np.ndarray, slots: Callable[[int], int]) -> int:
        """The order to keep; see `Policy`."""
        # Each slot holds at most a pair, so no order beyond twice the slots can fit
        orders = range(min(2 * self.n_stored, len(hsv)), 0, -1)
        return next(order for order in orders if slots(order) <= self.n_stored)
