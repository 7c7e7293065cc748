"""Irreducible blocks of dense matrices: an order of the states in which they are triangular."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from scipy.linalg import get_lapack_funcs
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from lti._backend.arrays import Array, from_numpy, namespace, to_numpy, tracing

__all__ = ["Scaling", "blocks_of", "choose_scaling", "evened", "irreducible", "pattern", "solve"]

Scaling = tuple[np.ndarray, np.ndarray, np.ndarray]
(dgebal,) = get_lapack_funcs(("gebal",), dtype=np.float64)


def solve(E: Array, F: Array) -> Array:
    """E^-1 F for E (..., n, n), F (..., n, m), by elimination within irreducible blocks of E.

    Of a triangle, in any order of its states, that is substitution: no rounding enters a zero.

    Raises
    ------
    numpy.linalg.LinAlgError, RuntimeError
        If E is singular.
    """
    xp = namespace(E)
    if tracing(E):
        return xp.linalg.solve(E, F)
    order, edges = irreducible(pattern(E))
    if len(edges) <= 2:
        return xp.linalg.solve(E, F)
    order, back = (from_numpy(x, like=E) for x in (order, np.argsort(order)))
    E = xp.take(xp.take(E, order, axis=-2), order, axis=-1)
    return xp.take(xp.linalg.solve(E, xp.take(F, order, axis=-2)), back, axis=-2)


def pattern(A: Array) -> np.ndarray:
    """Where any matrix of a batch (..., n, n) has an entry (n, n)."""
    xp = namespace(A)
    return to_numpy(xp.any(A != 0, axis=tuple(range(A.ndim - 2))) if A.ndim > 2 else A != 0)


def choose_scaling(A: np.ndarray, units: np.ndarray | None = None) -> Scaling:
    """order, edges, d: a block upper triangular order of A's states, where blocks begin, and units.

    In these, A / d_i * d_j, each irreducible block has rows as large as columns, unless units are
    given. The large ones come first, which lets small poles keep their digits.
    """
    order, edges = irreducible(A)
    d, local = np.ones(len(A)) if units is None else units[order], np.arange(len(A))
    A = abs(A[order[:, None], order])
    for k in blocks_of(edges):
        if k.stop - k.start > 1:
            if units is None:
                balanced, *_, d[k], _ = dgebal(A[k, k], scale=1, permute=0)
            else:
                balanced = A[k, k] / d[k, None] * d[k]
            local[k] = k.start + (-balanced.max(axis=1)).argsort(kind="stable")
    order, units = order[local], np.empty_like(d)
    units[order] = d[local]
    return order, edges, units


def evened(M: np.ndarray) -> np.ndarray:
    """d (n, 1): rows and columns of |M| / d_i * d_j are equally large."""
    return dgebal(M, scale=1, permute=0)[3][:, None]


def blocks_of(edges: np.ndarray) -> list[slice]:
    return [slice(*pair) for pair in pairwise(edges.tolist())]


def irreducible(A: Any) -> tuple[np.ndarray, np.ndarray]:
    """An order of the states in which A is block upper triangular, and where its blocks begin."""
    if A.all():
        return np.arange(len(A)), np.array([0, len(A)][: len(A) + 1])
    _, labels = connected_components(csr_array(A != 0), connection="strong")
    # Tarjan's algorithm numbers a component after all that it leads to
    edges = np.concatenate([[0], np.cumsum(np.bincount(labels)[::-1])])
    return np.argsort(-labels, kind="stable"), edges
