"""Stability: every pole in the open left half-plane, or in the open unit disc."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lti._backend.arrays import to_numpy
from lti.errors import UnstableError
from lti.systems.protocol import System
from lti.systems.statespace import StateSpace

__all__ = [
    "boundary_gap",
    "close_to_boundary",
    "is_stable",
    "require_stable",
    "require_stable_poles",
    "time_unit",
]

EPS = 2.0**-52
NEAR = 1e-8  # a pole this close to the stability boundary is flagged
REMEDY = 'remove or stabilise these modes first, or reduce with unstable="split"'


def require_stable(sys: System, what: str = "", remedy: str = REMEDY) -> None:
    """Raise `UnstableError`, naming the worst pole and its place, unless every pole is stable."""
    require_stable_poles(to_numpy(sys.poles), sys.is_discrete, what, remedy)


def require_stable_poles(
    poles: np.ndarray, discrete: bool, what: str = "", remedy: str = REMEDY
) -> None:
    """The same of poles (..., n)."""
    if poles.size == 0:
        return
    excess = np.abs(poles) - 1 if discrete else np.real(poles)
    if (excess < 0).all():
        return
    index = np.unravel_index(np.argmax(excess), excess.shape)
    where = f" of system {list(map(int, index[:-1]))} of the batch" if len(index) > 1 else ""
    region = "the open unit disc" if discrete else "the open left half-plane"
    kind = "is on the boundary of" if excess[index] == 0 else "is outside"
    raise UnstableError(
        f"{what}{int((excess >= 0).sum())} of {poles.size} poles are unstable: the worst{where}, "
        f"{poles[index]:.9g}, {kind} {region} (by {excess[index]:.3g}); {remedy}"
    )


def boundary_gap(sys: System) -> Any:
    """min 1 - |p|, or min -Re p (...): how far from the boundary the closest pole is."""
    poles = to_numpy(sys.poles)
    return (1 - np.abs(poles) if sys.is_discrete else -poles.real).min(axis=-1, initial=np.inf)


def close_to_boundary(
    sys: System, size: np.ndarray, what: str = "a pole", near: float = NEAR
) -> list[str]:
    """The flag of one pole, where `size` (...) is that of A: rounding moves poles in proportion."""
    poles = to_numpy(sys.poles)
    gap = 1 - np.abs(poles) if sys.is_discrete else -poles.real
    if not sys.is_discrete:
        gap = gap / (size + (size == 0))[..., None]
    smallest = gap.min(initial=1.0)
    if not 0 < smallest < near:  # beyond the boundary it is another flag
        return []
    return [
        f"{what}, {poles.ravel()[gap.argmin()]:.9g}, is within {smallest:.1g} of the stability "
        "boundary, relative to the size of A: rounding this pole changes the system by about "
        f"{EPS / smallest:.0e}, relatively"
    ]


def time_unit(poles: np.ndarray) -> float:
    """A power of four, about the size of the largest pole: products of poles stay in range."""
    return 4.0 ** (math.frexp(np.abs(poles).max(initial=0.0) or 1.0)[1] // 2)


def is_stable(system: StateSpace) -> Any:
    poles = to_numpy(system.poles)
    return (np.abs(poles) < 1 if system.is_discrete else poles.real < 0).all(axis=-1)
