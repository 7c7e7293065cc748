"""Shifts a of the bilinear map (a + A)(a - A)^-1, from the poles or from the size of A alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from lti._backend.arrays import Array, from_numpy, namespace, real

SAMPLES = 4


def optimal_shift(poles: Array) -> Array:
    """a (..., 1, 1): of all ``|pole|`` the one that maps the poles deepest into the unit disc."""
    xp = namespace(poles)
    # |(a + p)/(a - p)|^2 = 1 - 4 a (-Re p) / |a - p|^2 for every pole p (rows), shift a (columns)
    shifts, p = xp.abs(poles), poles[..., :, None]
    gain = -real(p) * shifts[..., None, :] / xp.abs(shifts[..., None, :] - p) ** 2
    best = xp.argmax(xp.min(gain, axis=-2), axis=-1, keepdims=True)
    return xp.take_along_axis(shifts, best, axis=-1)[..., None]


def cheap_shift(A: Array) -> Array:
    """a (..., 1, 1) = sqrt(|A|_F / |A^-1|_F), between slow and fast poles, without computing them.

    The norm of the inverse is estimated from what it does to a few random vectors, always the same.
    """
    xp, norm = namespace(A), namespace(A).linalg.matrix_norm
    top = xp.max(xp.abs(A), axis=(-2, -1), keepdims=True)
    top = xp.where(top > 0, top, 1.0)  # squares of very small or large entries have no room
    x = np.random.default_rng(0).standard_normal((A.shape[-1], SAMPLES)) / SAMPLES**0.5
    x = xp.broadcast_to(from_numpy(x, like=A), (*A.shape[:-1], SAMPLES))
    A = A / top
    return top * xp.sqrt(norm(A) / norm(xp.linalg.solve(A, x)))[..., None, None]


def shift_of(poles: Any) -> float:
    """a > 0 of the bilinear map: that of `optimal_shift` if no pole is unstable."""
    unstable = poles.real > 0
    if not unstable.any():
        return float(optimal_shift(poles).squeeze())
    # 1 - |(a + p)/(a - p)|^2 for the mirror image of every pole: 0 if z is on the circle, 1 if z
    # is in its centre, but then the z of an unstable pole is infinite
    shifts = (np.abs(poles)[:, None] * np.array([0.4, 1.0, 2.5])).ravel()
    decay = np.abs(poles.real)
    depth = 4 * shifts[:, None] * decay / np.abs(shifts[:, None] + decay - 1j * poles.imag) ** 2
    share = np.where(unstable, np.minimum(depth, 1 - depth), depth).min(axis=1)
    return float(shifts[np.argmax(share)])
