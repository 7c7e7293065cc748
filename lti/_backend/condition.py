"""Whether a matrix is singular to the rounding of its entries."""

from __future__ import annotations

import numpy as np

__all__ = ["EPS", "condition", "singular_to_rounding"]

EPS = 2.0**-52
TINY = 2.0**-1000
SWEEPS = 8


def singular_to_rounding(E: np.ndarray) -> bool:
    """Whether changes of its entries by about eps, relatively, make any E (..., n, n) singular."""
    rounding = 16 * EPS * np.sqrt(E.shape[-1])
    return any(condition(E[i]) * rounding > 1 for i in np.ndindex(E.shape[:-2]))


def condition(E: np.ndarray) -> float:
    """rho(|E^-1| |E|) of E (n, n), the same in all units of its rows and columns.

    If no entry changes by more than its inverse, relatively, E stays regular: Rump, "Structured
    perturbations part II: componentwise distances", SIAM J. Matrix Anal. Appl. 25 (2003). 1 without
    entries.
    """
    if not len(E):
        return 1.0
    for axis in (1, 0):
        largest = abs(E).max(axis=axis, keepdims=True)
        if not largest.all():
            return np.inf
        E = E / largest
    try:
        inverse = np.linalg.inv(E)
    except np.linalg.LinAlgError:
        return np.inf
    if not np.isfinite(inverse).all():
        return np.inf
    v, found = np.ones(len(E)), 1.0
    for _ in range(SWEEPS):
        moved = abs(inverse) @ (abs(E) @ v)
        found = float((moved / v).max())  # of any positive v an upper bound
        v = np.maximum(moved / moved.max(), TINY)
    return found
