"""Sizes: the numbers of stored states that a cut may leave, such as those that a kernel takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from compressm.errors import OptionError

__all__ = [
    "ANY",
    "DELTA_RULE",
    "MAMBA",
    "MAMBA2",
    "MAMBA3",
    "PRESETS",
    "Sizes",
    "as_sizes",
    "multiples",
    "powers_of_two",
    "require_count",
]

MOST = 2**20  # states; no layer stores more


@dataclass(frozen=True)
class Sizes:
    """The numbers of stored states that are allowed.

    Parameters
    ----------
    allowed : sequence of int, or callable
        The numbers themselves, or a function from a number to whether it is allowed.
    name : str, optional
        What they are called in errors.

    Raises
    ------
    OptionError
        If a number is no integer of at least 1, or there is none.

    Examples
    --------
    >>> from compressm.sizes import MAMBA2, Sizes
    >>> 32 in MAMBA2, 47 in MAMBA2
    (True, False)
    >>> Sizes([12, 24]).at_least(13, most=64)
    24
    """

    allowed: Sequence[int] | Callable[[int], bool]
    name: str = ""

    def __post_init__(self) -> None:
        if callable(self.allowed):
            return
        if isinstance(self.allowed, str) or not isinstance(self.allowed, Sequence):
            raise OptionError(
                f"sizes are a list of numbers of states, such as [16, 32], or a function from a "
                f"number to whether it is allowed, got {self.allowed!r}"
            )
        wrong = () if isinstance(self.allowed, range) else self.allowed
        for n in wrong:
            require_count("a size", n)
        if not self.allowed:
            raise OptionError("sizes holds no number; give one, such as [16]")

    def __contains__(self, n: int) -> bool:
        return bool(self.allowed(n)) if callable(self.allowed) else n in self.allowed

    def __str__(self) -> str:
        if self.name:
            return self.name
        if callable(self.allowed):
            return f"numbers that {getattr(self.allowed, '__name__', 'the function')} allows"
        return " or ".join(map(str, sorted(self.allowed)))

    def at_least(self, needed: int, most: int) -> int:
        """The smallest allowed n with needed <= n < most, or `most`.

        Parameters
        ----------
        needed : int
        most : int
            What the layer stores already: it may stay as it is.
        """
        return next((n for n in range(needed, most) if n in self), most)

    def up_to(self, most: int) -> list[int]:
        """The allowed n with 1 <= n <= most, ascending.

        Parameters
        ----------
        most : int
        """
        return [n for n in range(1, most + 1) if n in self]


AnySizes: TypeAlias = Sizes | Sequence[int] | Callable[[int], bool]


def multiples(k: int) -> Sizes:
    """k, 2 k, 3 k, ...

    Parameters
    ----------
    k : int
    """
    require_count("multiple_of", k)
    return Sizes(range(0, MOST, k), f"a multiple of {k}" if k > 1 else "any number")


def powers_of_two(least: int = 1) -> Sizes:
    """The powers of two from `least`, or from the next one after it.

    Parameters
    ----------
    least : int, optional
    """
    powers = tuple(n for k in range(MOST.bit_length()) if (n := 1 << k) >= least)
    return Sizes(powers, "a power of two" + (f" of at least {powers[0]}" if powers[0] > 1 else ""))


def as_sizes(sizes: AnySizes | None, multiple_of: Any = 1) -> Sizes:
    """`sizes`, or the multiples of `multiple_of`, as `Sizes`; OptionError if both restrict.

    Parameters
    ----------
    sizes : Sizes, sequence of int, callable or None
    multiple_of : int, optional
    """
    rounded = multiples(multiple_of)
    if sizes is None:
        return rounded
    if multiple_of != 1:
        raise OptionError(
            f"multiple_of={multiple_of} and sizes are two ways to say the same; give one of them"
        )
    return sizes if isinstance(sizes, Sizes) else Sizes(sizes)


def require_count(name: str, value: Any) -> None:
    """OptionError unless `value` is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise OptionError(f"{name} must be an integer of at least 1, got {value!r}")


ANY = multiples(1)
"""Any number of states."""

MAMBA = Sizes(range(1, 257), "at most 256")
"""The CUDA kernel of Mamba."""

MAMBA2 = powers_of_two(16)
"""The kernels of Mamba-2, which pad the state to the next power of two, at least 16."""

MAMBA3 = Sizes((32, 64, 128))
"""The decoding kernel of Mamba-3."""

DELTA_RULE = Sizes((64, 128, 192, 256))
"""The kernels of fla for the delta rule: key channels in tiles of 64, at most 256."""

PRESETS = {"mamba": MAMBA, "mamba2": MAMBA2, "mamba3": MAMBA3, "delta-rule": DELTA_RULE}
"""The sizes of kernels by name, as `compressm compress --sizes` takes them."""
