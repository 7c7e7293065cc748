"""Whether a matrix is singular to the rounding of its entries."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from scipy.sparse.linalg import LinearOperator, onenormest

from lti._backend.blocks import blocks_of, irreducible, pattern

__all__ = ["EPS", "condition", "inverse_singular_to_rounding", "singular_to_rounding"]

EPS = 2.0**-52
TINY = 2.0**-1000
SWEEPS = 8
TOO_LARGE = 1 / (16 * EPS)  # a condition number that leaves no digit


def singular_to_rounding(E: np.ndarray) -> bool:
    """Whether changes of its entries by about eps, relatively, make any E (..., n, n) singular."""
    return not (condition(E) <= TOO_LARGE).all()  # NaN counts as singular


def inverse_singular_to_rounding(size: np.ndarray, solve: Any, adjoint: Any) -> bool:
    """The same of one matrix M, known by the row sums of |M| (n,), ``M^-1 X`` and ``M^-H X``.

    By Skeel's condition, max |M^-1| |M| 1, as Hager's method estimates it, so that M should have
    rows and columns of even size.
    """
    if not len(size):
        return False
    w = size[:, None]
    flipped = cast(Any, LinearOperator)(
        (len(size), len(size)),
        dtype=complex,
        matvec=lambda x: w * adjoint(x.reshape(-1, 1)),
        rmatvec=lambda x: solve(w * x.reshape(-1, 1)),
        matmat=lambda X: w * adjoint(X),
        rmatmat=lambda X: solve(w * X),
    )
    found: Any = onenormest(flipped, t=1)
    return not found <= TOO_LARGE


def condition(E: np.ndarray) -> np.ndarray:
    """rho(|E^-1| |E|) (...) of E (..., n, n), the same in any order and units of its states.

    It is the largest of its irreducible blocks, 1 without entries. If no entry changes by more than
    its inverse, relatively, E stays regular: Rump, "Structured perturbations part II: componentwise
    distances", SIAM J. Matrix Anal. Appl. 25 (2003).
    """
    order, edges = irreducible(pattern(E))
    E, found = E[..., order[:, None], order], np.ones(E.shape[:-2])
    for k in blocks_of(edges):
        found = np.maximum(found, _of_blocks(E[..., k, k]))
    return found


def _of_blocks(E: np.ndarray) -> np.ndarray:
    if E.shape[-1] == 1:
        return np.where(E[..., 0, 0] == 0, np.inf, 1.0)
    for axis in (-1, -2):
        largest = abs(E).max(axis=axis, keepdims=True)
        E = E / np.where(largest > 0, largest, 1.0)
    try:
        inverse = np.linalg.inv(E)
    except np.linalg.LinAlgError:
        if E.ndim == 2:
            return np.asarray(np.inf)
        return np.array([_of_blocks(E[i]) for i in range(len(E))])
    regular = np.asarray(np.isfinite(inverse).all(axis=(-2, -1)))
    inverse = np.where(regular[..., None, None], abs(inverse), 0.0)
    v, found = np.ones((*E.shape[:-1], 1)), np.ones(E.shape[:-2])
    for _ in range(SWEEPS):
        moved = inverse @ (abs(E) @ v)
        found = (moved / v).max(axis=(-2, -1))  # of any positive v an upper bound
        v = np.maximum(moved / np.maximum(moved.max(axis=-2, keepdims=True), TINY), TINY)
    return np.where(regular, found, np.inf)
