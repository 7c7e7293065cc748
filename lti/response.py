"""What a system does: its frequency response."""

from __future__ import annotations

import math

from lti._array import Array, eye, from_numpy, namespace, narrow, to_numpy
from lti.errors import DimensionError
from lti.interop import as_statespace
from lti.system import DiagonalStateSpace, StateSpace, System

__all__ = ["frequency_response"]

CHUNK = 1 << 22  # numbers in one stack of n x n matrices, 64 MB


def frequency_response(sys: System, w: Array) -> Array:
    """G(j w) = C (j w - A)^-1 B + D, in discrete time G(e^{j w dt}).

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
    w : array (k,)
        Frequencies in rad per unit of time (rad per sample if ``dt`` is True), real.

    Returns
    -------
    array (..., k, p, m), complex

    Raises
    ------
    DimensionError
        If `w` is not a vector of real numbers.

    Examples
    --------
    >>> import lti
    >>> lti.frequency_response(([[-1.0]], [[1.0]], [[1.0]]), [0.0, 1.0])[:, 0, 0]
    array([1. +0.j , 0.5-0.5j])
    """
    sys = as_statespace(sys)
    like = sys.B
    xp = namespace(like)
    w = from_numpy(to_numpy(w), like)
    if w.ndim != 1 or xp.isdtype(w.dtype, "complex floating"):
        raise DimensionError(
            f"w must be a vector of real frequencies, got shape {tuple(w.shape)}, dtype {w.dtype}"
        )
    w = xp.astype(w, xp.float64)
    s = xp.exp(1j * w * (1.0 if sys.dt is True else sys.dt)) if sys.is_discrete else 1j * w
    return narrow(transfer_function(sys.double(), s), like=like)


def transfer_function(sys: System, s: Array) -> Array:
    """C (s - A)^-1 B + D at the points s (k,), complex: (..., k, p, m)."""
    if isinstance(sys, DiagonalStateSpace):
        sys = sys.closed()
        modes = 1 / (s[:, None] - sys.poles[..., None, :])
        C, B = sys.C[..., None, :, :], sys.B[..., None, :, :]
        return (C * modes[..., None, :]) @ (B + 0j) + sys.D[..., None, :, :]
    C, D = sys.C[..., None, :, :] + 0j, sys.D[..., None, :, :]
    k, step = s.shape[0], max(1, CHUNK // max(1, sys.order**2 * math.prod(sys.batch_shape)))
    parts = [C @ resolvent(sys, s[i : min(i + step, k)]) + D for i in range(0, max(1, k), step)]
    return namespace(sys.B).concat(parts, axis=-3)


def resolvent(sys: StateSpace, s: Array) -> Array:
    """(s - A)^-1 B at the points s (k,), complex: (..., k, n, m)."""
    A, B = sys.A[..., None, :, :], sys.B[..., None, :, :] + 0j
    E = s[:, None, None] * eye(sys.order, like=sys.A) - A
    xp = namespace(A)
    return xp.linalg.solve(E, xp.broadcast_to(B, (*E.shape[:-1], B.shape[-1])))
