"""Policies, how far to cut: from the scores of a layer's states to the order to keep."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, Protocol

import numpy as np

import lti
from compressm._renamed import renamed
from compressm.errors import OptionError, SkipError
from compressm.gramians.types import GRAMIAN_TYPES, GramianType
from compressm.ops.checks import require_number
from compressm.sizes import require_count

__all__ = [
    "ENERGIES",
    "ErrorBound",
    "KeepEnergy",
    "Order",
    "OutputError",
    "Policy",
    "ScoredLayer",
    "States",
    "as_policy",
    "pooled",
]

ENERGIES = {name: gramians.energy for name, gramians in GRAMIAN_TYPES.items()}
"""The energy fraction that is kept by default, by the name of the Gramian type."""


class ScoredLayer(Protocol):
    """What a policy can read of a layer whose states have been scored.

    Attributes
    ----------
    hsv : ndarray (..., n)
        Hankel singular values, or scores of a selective layer's states: descending, at least one
        positive; a row for each channel, if each channel of the layer is a separate system.
    gramians : GramianType
        The type by which they were scored.
    bounded : bool
        Whether ``2 * gain * sum(distinct hsv[order:])`` bounds the error of a cut.
    gain : float
        Factor in that bound: sqrt(2) for a bidirectional layer, else 1.
    """

    @property
    def hsv(self) -> np.ndarray: ...

    @property
    def gramians(self) -> GramianType: ...

    @property
    def bounded(self) -> bool: ...

    @property
    def gain(self) -> float: ...

    def stored(self, order: int) -> int:
        """Number of states that the layer stores at that `order`."""
        ...

    def output_error_at(self, order: int) -> float | None:
        """The output error at that `order` on sequences held out; None without any."""
        ...


class Policy:
    """Base of the policies, which say how far to cut: an order for each layer.

    A function ``f(hsv, stored) -> order`` is a policy too; subclass this for more. Override
    `__call__` or `order` to look at one layer at a time, or `orders` to look at all of them.

    Attributes
    ----------
    needs_bound : bool
        Whether Gramian types and layers without an error bound are refused.
    at_most : bool
        Whether fewer states than selected suit it, and more do not. Where rounding would spoil a
        cut, the next lower orders are tried then, else the next higher ones.
    """

    needs_bound: ClassVar[bool] = False
    at_most: ClassVar[bool] = False

    @property
    def whole_model(self) -> bool:
        """Whether the order of a layer depends on the other layers."""
        return type(self).orders is not Policy.orders

    def __call__(self, hsv: np.ndarray, stored: Callable[[int], int]) -> int:
        """The order to keep of one layer, from 0 to n.

        Parameters
        ----------
        hsv : ndarray (..., n)
            As in `ScoredLayer`.
        stored : callable
            ``stored(order)`` is the number of states that the layer stores at that order: for a
            real system fewer than `order`, since a conjugate pair is stored as one.
        """
        if self.whole_model:
            raise OptionError(f"{self} needs all layers together; call its orders()")
        raise OptionError(
            f"{type(self).__name__} overrides none of __call__, order and orders; define one"
        )

    def order(self, layer: ScoredLayer) -> int:
        """The order to keep of one `layer`, from 0 to n."""
        return self(layer.hsv, layer.stored)

    def looser(self) -> Iterable[Policy]:
        """Policies that remove more, from the least to the most, to suggest if nothing was cut."""
        return KeepEnergy(1.0).looser()

    def orders(self, layers: Sequence[ScoredLayer], copy: Callable[..., Any]) -> list[int]:
        """The order to keep of each layer.

        Parameters
        ----------
        layers : sequence of ScoredLayer
            At least one.
        copy : callable
            ``copy(orders)`` is a copy of the model that is cut to these orders, ``copy()`` one that
            is not cut.
        """
        return [self.order(layer) for layer in layers]

    def allows(self, layers: Sequence[ScoredLayer], sizes: Sequence[int]) -> bool:
        """Whether `layers` may store `sizes`, where they are made equal; see ``uniform=True``."""
        return True


AnyPolicy = Policy | Callable[[np.ndarray, Callable[[int], int]], int]


@dataclass(frozen=True)
class _Function(Policy):
    """A policy from a function of the values and of the stored states."""

    function: Callable[[np.ndarray, Callable[[int], int]], int]

    def __str__(self) -> str:
        return getattr(self.function, "__name__", repr(self.function))

    def order(self, layer: ScoredLayer) -> int:
        return self.function(layer.hsv, layer.stored)


@dataclass(frozen=True)
class _Default(Policy):
    """`OutputError` where sequences are held out, else `KeepEnergy` by the Gramian type."""

    tol: ClassVar[float] = 0.005

    def __str__(self) -> str:
        return f"the default ({OutputError(self.tol)}, or KeepEnergy where nothing was observed)"

    def order(self, layer: ScoredLayer) -> int:
        with suppress(SkipError):  # nothing to measure on
            return OutputError(self.tol).order(layer)
        return KeepEnergy(layer.gramians.energy).order(layer)

    def looser(self) -> Iterable[Policy]:
        return chain(OutputError(self.tol).looser(), super().looser())


def as_policy(policy: AnyPolicy | None) -> Policy:
    """`policy` as a `Policy`; None is the default one."""
    if policy is None:
        return _Default()
    if isinstance(policy, Policy):
        return policy
    if isinstance(policy, type) or not callable(policy):
        raise OptionError(f"policy says how far to cut, such as KeepEnergy(0.99), got {policy!r}")
    return _Function(policy)


@dataclass(frozen=True)
class KeepEnergy(Policy):
    """The smallest order r with sum(hsv[:r]) >= energy * sum(hsv).

    Parameters
    ----------
    energy : float
        Energy fraction that is *kept*: of the sum of the Hankel singular values (not of their
        squares), in (0, 1]. The sums are over all channels of a layer together, so a channel with
        small values has little influence.

    Raises
    ------
    OptionError
        If `energy` lies outside.

    References
    ----------
    Chahine et al., "The Curious Case of In-Training Compression of State Space Models", ICLR 2026,
    arXiv:2510.02823, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from compressm import KeepEnergy
    >>> KeepEnergy(0.9)(np.array([6.0, 3.0, 1.0]), stored=lambda order: order)
    2
    """

    energy: float

    def __post_init__(self) -> None:
        require_number("energy", self.energy)
        if not 0 < self.energy <= 1:
            kept = f"energy is the energy fraction that is kept, in (0, 1], got {self.energy}"
            raise OptionError(kept)

    @renamed(slots="stored")
    def __call__(self, hsv: np.ndarray, stored: Callable[[int], int]) -> int:
        """The order to keep; see `Policy`."""
        return lti.order_for(pooled(hsv), energy=self.energy)

    def looser(self) -> Iterable[Policy]:
        """`KeepEnergy` of less; see `Policy`."""
        return (KeepEnergy(round(1 - x, 12)) for x in _round_numbers(1 - self.energy, 0.5))


@dataclass(frozen=True)
class ErrorBound(Policy):
    """The smallest order r with 2 * (sum of the distinct hsv[r:]) <= tol.

    Parameters
    ----------
    tol : float
        Largest error of the layer's transfer function in the H-infinity norm, non-negative. It does
        not count the rounding to the precision of the parameters; `LayerCut.error_bound` does.
    relative : bool, optional
        Whether `tol` is relative to the largest Hankel singular value.

    Raises
    ------
    OptionError
        If `tol` is negative or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from compressm import ErrorBound
    >>> ErrorBound(2.5)(np.array([6.0, 3.0, 1.0]), stored=lambda order: order)
    2
    """

    tol: float
    relative: bool = False

    needs_bound: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_number("tol", self.tol)
        if not 0 <= self.tol < math.inf:
            raise OptionError(f"tol must be a finite number >= 0, got {self.tol}")

    @renamed(slots="stored")
    def __call__(self, hsv: np.ndarray, stored: Callable[[int], int]) -> int:
        """The order to keep; see `Policy`."""
        return lti.order_for(hsv, self.tol, self.relative)

    def order(self, layer: ScoredLayer) -> int:
        """The order to keep of one `layer`, whose bound is its gain times that of the values."""
        return self(layer.hsv * layer.gain, layer.stored)

    def looser(self) -> Iterable[Policy]:
        """`ErrorBound` with a larger tolerance; see `Policy`."""
        return (ErrorBound(x, self.relative) for x in _round_numbers(self.tol, 1e6))


@dataclass(frozen=True)
class OutputError(Policy):
    """The smallest order r with ``rms(y_r - y) <= tol * rms(y)``, measured on held-out sequences.

    It means the same for every layer and Gramian type, selective layers included.

    Parameters
    ----------
    tol : float
        Largest change of the output of a layer, relative to its output, in (0, 1); see
        `LayerCut.output_error`. A layer of which fewer than eight sequences were observed is left
        as it is.

    Raises
    ------
    OptionError
        If `tol` lies outside.

    Notes
    -----
    The order is found by bisection, as if the error never grew with the order. It is measured
    before the rounding of the parameters, which `LayerCut.output_error` includes.

    Examples
    --------
    >>> import torch
    >>> from compressm import OutputError, SequenceModel, compress_
    >>> model = SequenceModel(d_input=1, d_output=2, d_model=4, d_state=16, n_layers=1)
    >>> event = compress_(model, OutputError(0.05), data=torch.randn(32, 30, 1).split(8))
    >>> event.layers[0].output_error <= 0.06
    True
    """

    tol: float

    def __post_init__(self) -> None:
        require_number("tol", self.tol)
        if not 0 < self.tol < 1:
            raise OptionError(
                f"tol is a relative output error and must lie in (0, 1), got {self.tol}"
            )

    def order(self, layer: ScoredLayer) -> int:
        """The order to keep of one `layer`."""
        low, high = 0, layer.hsv.shape[-1]
        while high - low > 1:
            few = high > 4 * low  # then by factors, as low orders are quick to measure
            middle = math.isqrt(max(low, 1) * high) if few else (low + high) // 2
            error = layer.output_error_at(middle)
            if error is None:
                raise SkipError(
                    f"{self} measures on every eighth sequence observed, and there is none, or its "
                    "output is zero or not finite; give more data, or use KeepEnergy or States"
                )
            low, high = (low, middle) if error <= self.tol else (middle, high)
        return high

    def looser(self) -> Iterable[Policy]:
        """`OutputError` with a larger tolerance; see `Policy`."""
        return (OutputError(x) for x in _round_numbers(self.tol, 0.5))


@dataclass(frozen=True)
class States(Policy):
    """The largest order r with stored(r) <= n_stored.

    Parameters
    ----------
    n_stored : int
        Number of states that the layer stores afterwards at most, its `d_state`; at least 1. A
        conjugate pair is one stored state, but two real states, which `LayerCut.order` counts.

    Raises
    ------
    OptionError
        If `n_stored` is below 1 or not an integer.
    """

    n_stored: int

    at_most: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_count("n_stored", self.n_stored)

    @renamed(slots="stored")
    def __call__(self, hsv: np.ndarray, stored: Callable[[int], int]) -> int:
        """The order to keep; see `Policy`."""
        # A stored state is at most a pair of real ones, so no higher order than this fits
        orders = range(min(2 * self.n_stored, hsv.shape[-1]), 0, -1)
        return next((order for order in orders if stored(order) <= self.n_stored), 1)

    def looser(self) -> Iterable[Policy]:
        """`States` of half, a quarter, ... of the number; see `Policy`."""
        return (States(self.n_stored >> k) for k in range(1, self.n_stored.bit_length()))


class Order(States):
    """The old name of `States`, whose argument counts stored states, not the order.

    Parameters
    ----------
    n_stored : int
        As in `States`.
    """


def _round_numbers(above: float, most: float) -> Iterator[float]:
    """1, 2, 5, 10, 20, 50, ... times a power of ten, more than `above` and at most `most`."""
    first = math.floor(math.log10(max(above, 1e-4)))
    numbers = (
        float(f"{x}e{e}") for e in range(first, math.ceil(math.log10(most)) + 1) for x in (1, 2, 5)
    )
    return (x for x in numbers if above * (1 + 1e-9) < x <= most)


def pooled(hsv: np.ndarray) -> np.ndarray:
    """The values (n,) of all channels together: the sum over channels of the i-th values."""
    return hsv.reshape(-1, hsv.shape[-1]).sum(axis=0)
