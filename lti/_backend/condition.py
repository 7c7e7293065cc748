"""Whether a matrix is singular to the rounding of its entries."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from scipy.sparse.linalg import LinearOperator, onenormest

from lti._backend.blocks import blocks_of, irreducible

__all__ = ["EPS", "condition", "inverse_singular_to_rounding", "singular_to_rounding"]

EPS = 2.0**-52
TINY = 2.0**-1000
SWEEPS = 8


def singular_to_rounding(E: np.ndarray) -> bool:
    """Whether changes of its entries by about eps, relatively, make any E (..., n, n) singular."""
    return any(_beyond(condition(E[i]), E.shape[-1]) for i in np.ndindex(E.shape[:-2]))


def inverse_singular_to_rounding(size: np.ndarray, solve: Any, adjoint: Any) -> bool:
    """The same of M, even in its units, of which the row sums (n,) of |M| and M^-1 are known.

    By Skeel's condition, max |M^-1| |M| 1, as Hager's method estimates it.
    """
    w, shape = size[:, None], (len(size), len(size))
    flipped = cast(Any, LinearOperator)(
        shape,
        dtype=complex,
        matvec=lambda x: w * adjoint(x.reshape(-1, 1)),
        rmatvec=lambda x: solve(w * x.reshape(-1, 1)),
        matmat=lambda X: w * adjoint(X),
        rmatmat=lambda X: solve(w * X),
    )
    found: Any = onenormest(flipped, t=1) if len(size) else 1.0
    return _beyond(float(found), len(size))


def _beyond(condition: float, n: int) -> bool:
    return not condition * 16 * EPS * np.sqrt(n) <= 1


def condition(E: np.ndarray) -> float:
    """rho(|E^-1| |E|) of E (n, n), the same in any order and units of its states.

    It is the largest of its irreducible blocks, 1 without entries. If no entry changes by more than
    its inverse, relatively, E stays regular: Rump, "Structured perturbations part II: componentwise
    distances", SIAM J. Matrix Anal. Appl. 25 (2003).
    """
    order, edges = irreducible(E)
    E = E[order[:, None], order]
    return max((_of_block(E[k, k]) for k in blocks_of(edges)), default=1.0)


def _of_block(E: np.ndarray) -> float:
    if len(E) == 1:
        return 1.0 if E.all() else np.inf
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
