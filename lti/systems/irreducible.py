"""Irreducible diagonal blocks of sparse matrices: the strongly connected states of their graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.sparse import csc_matrix
from scipy.sparse.csgraph import connected_components

from lti._backend.arrays import Array

__all__ = ["MODERATE", "SMALL", "irreducible_blocks"]

SMALL = 200  # states, up to which dense arithmetic is quicker and exact
MODERATE = 1_000  # and up to which it is affordable where sparse arithmetic fails
CHUNK = 1 << 22  # numbers in one batch of matrices, 32 MB


def irreducible_blocks(
    matrices: Sequence[Any], poles: Callable[..., Array], small: int = SMALL
) -> tuple[Array, list[tuple[Any, ...]]]:
    """The poles of the small irreducible diagonal blocks of a pencil, and its large blocks.

    With the states in a suitable order, the pencil is block triangular: its poles are those of all
    blocks, however strongly one feeds the next.

    Parameters
    ----------
    matrices : sequence of sparse matrices (n, n)
        The coefficients of the pencil.
    poles : callable
        From dense blocks of all matrices, arrays (k, s, s), to their poles, an array.
    small : int, optional
        States of the largest small block.

    References
    ----------
    Duff, Reid, "An implementation of Tarjan's algorithm for the block triangularization of a
    matrix", ACM Trans. Math. Software 4 (1978).
    """
    pattern: Any = csc_matrix(sum(abs(M) for M in matrices))
    pattern.eliminate_zeros()
    count, block = connected_components(pattern, directed=True, connection="strong")
    sizes = np.bincount(block, minlength=count)
    if count == 1 and sizes[0] > small:
        return np.zeros(0, complex), [tuple(matrices)]
    order = np.argsort(block, kind="stable")
    place = np.empty_like(order)  # of a state in its block
    place[order] = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    entries = [_within(M, block) for M in matrices]
    found = [np.zeros(0, complex)]
    for size in np.unique(sizes[sizes <= small]):
        which = np.flatnonzero(sizes == size)
        for some in np.array_split(which, max(1, len(which) * size**2 // CHUNK)):
            rank = np.full(count, -1)
            rank[some] = np.arange(len(some))
            found.append(poles(*(_stack(x, rank, block, place, len(some), size)
                                 for x in entries)).ravel())  # fmt: skip
    large = [np.flatnonzero(block == k) for k in np.flatnonzero(sizes > small)]
    return np.concatenate(found), [tuple(M[at][:, at] for M in matrices) for at in large]


def _within(M: Any, block: Array) -> Any:
    """The entries that connect no two blocks."""
    M = M.tocoo()
    at = block[M.row] == block[M.col]
    return M.row[at], M.col[at], M.data[at]


def _stack(entries: Any, rank: Array, block: Array, place: Array, count: int, size: int) -> Array:
    """Dense blocks (count, size, size), by their rank."""
    i, j, x = entries
    found = np.zeros((count, size, size), dtype=x.dtype)
    at = rank[block[i]] >= 0
    found[rank[block[i[at]]], place[i[at]], place[j[at]]] = x[at]
    return found
