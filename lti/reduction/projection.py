"""Projection: (W A T, W B, C T, D), and orthonormal bases of the spaces that T and W span."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lti._backend.arrays import Array, H, diag, namespace
from lti.systems.protocol import System
from lti.systems.sparse import SparseStateSpace
from lti.systems.statespace import StateSpace

__all__ = ["basis_scaling", "orthonormal", "project", "turn_of"]


def project(system: System, T: Array, W: Array) -> StateSpace:
    """(W A T, W B, C T, D).

    A zero row of W, in a batch of unequal ranks, gives a stable pole.
    """
    if isinstance(system, SparseStateSpace):
        return system.projected(T, W)
    dense = system.to_dense()
    A, xp = W @ dense.A @ T, namespace(T)
    if dense.batch_shape and not dense.is_discrete:
        A = A - diag(xp.astype(xp.all(W == 0, axis=-1), A.dtype))
    return StateSpace(A, W @ dense.B, dense.C @ T, dense.D, dense.dt)


def orthonormal(
    T: Array, W: Array, times_E: Callable[[Array], Array] | None = None
) -> tuple[Array, Array]:
    """An orthonormal basis of the columns of T, and the W of the same rows with W (E) T = I."""
    xp = namespace(T)
    idle = xp.all(T == 0, axis=-2)[..., None, :]  # states that a system of a batch does not have
    right = xp.where(idle, 0.0, xp.linalg.qr(T, mode="reduced")[0])
    left = H(xp.where(idle, 0.0, xp.linalg.qr(H(W), mode="reduced")[0]))
    pairing = left @ (times_E(right) if times_E else right) + diag(
        xp.astype(idle[..., 0, :], T.dtype)
    )
    return right, xp.linalg.solve(pairing, left)


def basis_scaling(T: Array, W: Array) -> Array:
    """d (..., n, 1): the units of the states in which each is as large in T as in W."""
    xp = namespace(T)
    t, w = (xp.max(xp.abs(x), axis=axis) for x, axis in ((T, -1), (W, -2)))
    top = xp.max(xp.sqrt(t) * xp.sqrt(w), axis=-1, keepdims=True)
    top = xp.where(top > 0, top, 1.0)
    # A state that is in one of the two only is made as large there as the largest is in both
    known = xp.where(t > 0, t, top), xp.where(w > 0, w, top)
    t, w = xp.where(t > 0, t, top / known[1] * top), xp.where(w > 0, w, top / known[0] * top)
    return (xp.sqrt(t) / xp.sqrt(w))[..., None]


def turn_of(WB: np.ndarray) -> np.ndarray:
    """u (..., k), |u| = 1: the phase by which the largest entry of u_i (W B)_i is positive.

    The sign of a state is free; this choice is the same on every machine. Of entries that are
    equal but for rounding the first counts.
    """
    if 0 in WB.shape:
        return np.ones(WB.shape[:-1], dtype=WB.dtype)
    size = abs(WB)
    first = (size >= (1 - 1e-6) * size.max(axis=-1, keepdims=True)).argmax(axis=-1)
    z = WB.reshape(-1, WB.shape[-1])[np.arange(first.size), first.ravel()].reshape(first.shape)
    length = abs(z)
    return np.where(length > 0, z.conj(), 1.0) / np.where(length > 0, length, 1.0)
