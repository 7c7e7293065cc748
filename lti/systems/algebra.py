"""Systems from systems: dual, static, with scaled states, one of a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import matrix_balance

from lti._backend.arrays import Array, H, device, namespace, to_numpy
from lti._backend.condition import singular_to_rounding
from lti.systems.protocol import System
from lti.systems.sparse import SparseStateSpace
from lti.systems.statespace import DiagonalStateSpace, StateSpace

__all__ = ["dual", "has_pole_at", "in_units", "state_scaling", "static"]


def dual(sys: System) -> StateSpace:
    """(A^H, C^H, B^H, D^H): its controllability Gramian is the observability Gramian of `sys`."""
    return StateSpace(H(sys.A), H(sys.C), H(sys.B), H(sys.D), sys.dt)


def has_pole_at(sys: System | SparseStateSpace, s: float) -> bool:
    """Whether a pole is s, to the rounding of the entries of A."""
    if isinstance(sys, DiagonalStateSpace):
        return bool((to_numpy(sys.poles) == s).any())
    if isinstance(sys, SparseStateSpace):
        return sys.has_pole_at(s)
    A = to_numpy(sys.A)
    return singular_to_rounding(s * np.eye(sys.order) - A)


def static(D: Array, dt: float | bool) -> StateSpace:
    """y = D u, a system without states."""
    xp, (p, m) = namespace(D), D.shape[-2:]

    def empty(rows: int, columns: int) -> Array:
        return xp.zeros((rows, columns), dtype=D.dtype, device=device(D))

    return StateSpace(empty(0, 0), empty(0, m), empty(p, 0), D, dt)


def in_units(sys: Any, d: Array) -> StateSpace:
    """(A_ij / d_i d_j, B / d, C d, D): the states in units d (..., n)."""
    A = sys.A / d[..., :, None] * d[..., None, :]
    return StateSpace(A, sys.B / d[..., :, None], sys.C * d[..., None, :], sys.D, sys.dt)


def state_scaling(sys: System) -> np.ndarray:
    """d (n,), powers of two: in A / d_i * d_j, B / d_i, C * d_j rows are as large as columns.

    For one NumPy system. The scaling is exact, so that the units of the states do not matter.
    """
    n = sys.order
    if n == 0:
        return np.ones(0)
    b, c = np.abs(sys.B).max(axis=1, initial=0.0), np.abs(sys.C).max(axis=0, initial=0.0)
    M = np.zeros((n + 1, n + 1))
    M[:n, :n] = np.abs(sys.A)
    top = min(max(M.max(), 1e-100), 1e100)  # ports weigh as much as the states
    M[:n, n] = top * b / max(b.max(), 1e-300)
    M[n, :n] = top * c / max(c.max(), 1e-300)
    with np.errstate(all="ignore"):
        balanced: Any = matrix_balance(M, permute=False, separate=True)
    d = balanced[1][0]
    return d[:n] / d[n]


def host_copy(sys: System) -> System:
    """A NumPy copy of `sys` in double precision."""
    if isinstance(sys, SparseStateSpace):
        return sys.to_dense()
    B, C, D = (to_numpy(x) for x in (sys.B, sys.C, sys.D))
    if isinstance(sys, DiagonalStateSpace):
        poles = to_numpy(sys.poles)
        return DiagonalStateSpace(poles, B, C, D, sys.dt, sys.conjugate).double()
    return StateSpace(to_numpy(sys.A), B, C, D, sys.dt).double()


def member(sys: System, i: tuple[int, ...]) -> System:
    if isinstance(sys, DiagonalStateSpace):
        return DiagonalStateSpace(sys.poles[i], sys.B[i], sys.C[i], sys.D[i], sys.dt, sys.conjugate)
    return StateSpace(sys.A[i], sys.B[i], sys.C[i], sys.D[i], sys.dt)
