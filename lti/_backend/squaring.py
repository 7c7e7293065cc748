"""e^X of matrices, to the digits of each state, whatever the others are and in any units."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from lti._backend.arrays import (
    Array,
    all_finite,
    diag,
    eye,
    from_numpy,
    namespace,
    to_numpy,
)
from lti.errors import NonFiniteError

__all__ = ["exponential", "exponentials", "halvings"]

TERMS = 16  # of a Taylor series of e^X - 1, |X| <= 1/2: the next is below 1e-19
SWEEPS = 100
LARGEST = 500  # log2 of a unit


def exponential(X: Array) -> Array:
    """e^X (..., n, n) in double precision, in units in which it takes few squarings."""
    if 0 in X.shape:
        return X
    d = from_numpy(_units(to_numpy(X)), like=X)
    rows, columns = d[..., :, None], d[..., None, :]
    with np.errstate(over="ignore", invalid="ignore"):
        *_, power = exponentials(X / rows * columns)
        result = rows * power / columns
    if not all_finite(result):
        raise NonFiniteError(
            "a matrix exponential is beyond the range of double precision, as a pole is unstable; "
            "choose a shorter time"
        )
    return result


def exponentials(X: Array) -> Iterator[Array]:
    """e^(X / 2^k), ..., e^(X / 2), e^X by squaring, |X| / 2^k <= 1/2.

    On the diagonal, e^X - 1 is squared as long as it is small: the rounding of a 1 that is squared
    k times would cost a slow state the digits that a fast one, or other units, make k of. Products
    are rounded entry by entry, so that units which are powers of two do not matter.
    """
    xp, identity = namespace(X), eye(X.shape[-1], like=X)
    k = halvings(X)
    X = X * 2.0**-k
    term = rest = X
    for j in range(2, TERMS):
        term = X @ term / j
        rest = rest + term
    off = rest * (1 - identity)
    small = xp.linalg.diagonal(rest)  # of e^X - 1
    power = off + diag(1 + small)
    yield power
    for _ in range(k):
        coupled = xp.sum(off * xp.matrix_transpose(off), axis=-1)
        squared = power @ power
        whole = xp.linalg.diagonal(squared)
        near = xp.abs(small) < 0.5
        small = xp.where(near, small * (2 + small) + coupled, whole - 1)
        off = squared * (1 - identity)
        power = off + diag(xp.where(near, 1 + small, whole))
        yield power


def halvings(X: Array) -> int:
    """k with |X| / 2^k <= 1/2, for a whole batch."""
    size = float(abs(to_numpy(X)).sum(axis=-1).max(initial=0.0))
    return max(0, math.frexp(size)[1] + 1)


def _units(X: Any) -> np.ndarray:
    """d (..., n), powers of two: in X_ij / d_i * d_j rows are about as large as columns.

    Sizes below 1/2 need no halving and count as 1/2, so that the large coupling of a state to one
    that does not answer (an input) becomes small.
    """
    with np.errstate(divide="ignore"):
        L = np.log2(abs(X) * (1 - np.eye(X.shape[-1])))
    x = np.zeros(X.shape[:-1])
    for _ in range(SWEEPS):
        now = L + x[..., None, :] - x[..., :, None]
        rows, columns = (np.maximum(now.max(axis=axis), -1.0) for axis in (-1, -2))
        step = np.round((rows - columns) / 4)  # half of the way: all units change at once
        if not step.any():
            break
        x = np.clip(x + step, -LARGEST, LARGEST)
    return 2.0**x
