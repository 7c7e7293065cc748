"""Units of states and equations in which the entries of a pencil have about one size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import block_array, csc_matrix, csr_array, diags_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import cg

from lti._backend.arrays import Array

__all__ = ["even_units", "largest_to_one", "rescaled"]

SMALLEST = -30.0  # log2: entries so far below the largest of their row or column are rounding
STEPS = 500
EVEN = 12.0  # log2: rows, and columns, whose largest entries spread no more keep their units


def even_units(matrices: Sequence[Any], B: Array, C: Array) -> tuple[Array, Array, float]:
    """l, r (n,) and w, powers of two: min sum_k,i,j log^2(l_i |M_k,ij| r_j w^k).

    All l, and all r, are equal where the largest entries of the rows of each matrix, and those of
    its columns, differ by a factor of 4,096 at most: a Toeplitz matrix that is not symmetric would
    be made so, by units that grow from state to state. Else the result does not depend on the units
    in which the matrices, by rising powers of d/dt, come: of other units D_1 M_k D_2 it is l / D_1,
    r / D_2, up to rounding. Where nothing connects some states with the others, their units make B
    and C equal in size.

    References
    ----------
    Curtis, Reid, "On the automatic scaling of matrices for Gaussian elimination", IMA J. Appl.
    Math. 10 (1972).
    """
    n = matrices[0].shape[0]
    logs = [_logarithms(M) for M in matrices]
    even = all(len(x) and _spread(x, k, n) <= EVEN for i, j, x in logs for k in (i, j))
    z = _alike(logs, n) if even else np.zeros(2 * n + 1)
    for _ in range(0 if even else 2):
        z = _fitted(logs, z)
        sizes = [x + z[i] + z[n + j] + k * z[-1] for k, (i, j, x) in enumerate(logs)]
        i, j = (np.concatenate(x) for x in list(zip(*logs, strict=True))[:2])
        size = np.concatenate(sizes)
        top = np.maximum(_largest(size, i, n)[i], _largest(size, j, n)[j])
        kept = np.split(size > top + SMALLEST, np.cumsum([len(x) for x in sizes])[:-1])
        logs = [tuple(x[at] for x in log) for log, at in zip(logs, kept, strict=True)]
    u, v = np.round(z[:n]), np.round(z[n:-1])
    i, j = (np.concatenate(x) for x in zip(*(log[:2] for log in logs), strict=True))
    labels = connected_components(_matrix(i, n + j, 2 * n), directed=False)[1]
    b = _largest(u + _size(B, 1), labels[:n], labels.max(initial=-1) + 1)
    c = _largest(v + _size(C, 0), labels[n:], len(b))
    shift = _balancing(b, c)[labels]
    return 2.0 ** (u + shift[:n]), 2.0 ** (v - shift[n:]), float(2.0 ** np.round(z[-1]))


def largest_to_one(M: Any) -> tuple[Array, Array]:
    """l, r (n,), powers of two: 1 / sqrt of the largest entries of rows and of columns of M."""
    n, (i, j, x) = M.shape[0], _logarithms(M)
    sizes = (_largest(x, i, n), _largest(x, j, n))
    left, right = (2.0 ** np.round(np.where(np.isfinite(x), -x / 2, 0.0)) for x in sizes)
    return left, right


def rescaled(M: Any, left: Array, right: Array) -> Any:
    """L M R, where no product leaves the range of numbers that l_i r_j and the result are in."""
    M = csc_matrix(M)
    values = M.data * (left[M.indices] * np.repeat(right, np.diff(M.indptr)))
    return csc_matrix((values, M.indices.copy(), M.indptr.copy()), M.shape)


def _logarithms(M: Any) -> tuple[Array, Array, Array]:
    """Rows, columns and log2 of the entries that are not zero."""
    M = M.tocoo()
    size = abs(M.data)
    at = size > 0
    return M.row[at], M.col[at], np.log2(size[at])


def _matrix(rows: Array, columns: Array, n: int) -> Any:
    """How many entries stand at each place."""
    return csr_array((np.ones(len(rows)), (rows, columns)), shape=(n, n))


def _fitted(logs: Sequence[tuple[Array, Array, Array]], start: Array) -> Array:
    """z = [log l, log r, log w] of the least squares, by conjugate gradients."""
    n = (len(start) - 1) // 2
    N: Any = csr_array((n, n))
    counts, pairs, rhs = np.zeros((2, 2 * n)), 0.0, np.zeros(2 * n + 1)
    for k, (i, j, x) in enumerate(logs):
        N = N + _matrix(i, j, n)
        both = np.concatenate([i, n + j])
        counts += np.outer((1, k), np.bincount(both, minlength=2 * n))
        pairs += k * k * len(x)
        rhs[:-1] -= np.bincount(both, np.tile(x, 2), minlength=2 * n)
        rhs[-1] -= k * x.sum()
    N = block_array([[None, N], [N.T, None]]) + diags_array(counts[0])
    w = csr_array(counts[1:2])
    N = block_array([[N, w.T], [w, csr_array([[pairs]])]], format="csr")
    inverse = diags_array(1 / np.maximum(N.diagonal(), 1.0))
    return cg(N, rhs, start, rtol=1e-6, maxiter=STEPS, M=inverse)[0]


def _alike(logs: Sequence[tuple[Array, Array, Array]], n: int) -> Array:
    """log2 of l, r and w with all l, and all r, equal."""
    means = np.array([x.mean() for *_, x in logs])
    fit = np.linalg.lstsq(np.vander(np.arange(len(logs)), 2)[:, ::-1], -means)[0]
    return np.append(np.full(2 * n, fit[0] / 2), fit[1])


def _spread(x: Array, labels: Array, n: int) -> float:
    """The range of the largest entries of rows, or of columns, that have any."""
    sizes = _largest(x, labels, n)
    return float(np.ptp(sizes[np.isfinite(sizes)]))


def _size(X: Array, axis: int) -> Array:
    """log2 of the largest entry of each row or column."""
    with np.errstate(divide="ignore"):
        return np.log2(abs(X).max(axis=axis, initial=0.0))


def _largest(x: Array, labels: Array, count: int) -> Array:
    found = np.full(count, -np.inf)
    np.maximum.at(found, labels, x)
    return found


def _balancing(b: Array, c: Array) -> Array:
    """s with b + s = c - s: the inputs and outputs of each component become equal in size.

    What has only one of the two is made as large there as the largest is in both.
    """
    has_b, has_c = np.isfinite(b), np.isfinite(c)
    both = has_b & has_c
    top = max((b + c)[both], default=0.0) / 2
    s = np.where(has_b, top - b, np.where(has_c, c - top, 0.0))
    with np.errstate(invalid="ignore"):
        return np.round(np.where(both, (c - b) / 2, s))
