"""Gramians over a frequency band or a time window: P = 1/2pi int |X X^H| dw, or int X X^H dt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np

from lti._backend.arrays import (
    Array,
    H,
    eye,
    from_numpy,
    is_complex,
    lq_factor,
    namespace,
    to_numpy,
)
from lti._backend.exponential import expm
from lti._backend.shifts import optimal_shift
from lti._backend.squaring import exponentials, halvings
from lti.errors import OptionError
from lti.gramians.exact import balanced_units, double_factors
from lti.gramians.spectral import stacked_factor
from lti.systems.algebra import dual, in_units
from lti.systems.discretize import to_discrete
from lti.systems.protocol import System
from lti.systems.response import resolvent

__all__ = ["frequency_limited_factors", "time_limited_factors"]

NODES = 16  # of a Gauss-Legendre rule; with poles two half-lengths away it is exact to rounding
TERMS = 20  # of a Taylor series of e^X, |X| <= 1/2: the next is below 1e-24


def frequency_limited_factors(sys: System, bands: Any) -> tuple[Array, Array]:
    """P = 1/2pi int (j w - A)^-1 B B^H (j w - A)^-H dw over the bands, Q alike; their factors.

    The columns of a factor are weighted responses at the nodes of a Gauss-Legendre rule, refined
    where poles are near, so that P and Q are positive semidefinite by construction. Continuous
    systems are first mapped to the circle, which keeps the integral.

    Parameters
    ----------
    sys : StateSpace or DiagonalStateSpace
        Stable, in double precision.
    bands : (w1, w2) or sequence of such pairs
        In rad per unit of time (rad per sample if ``dt`` is True), apart from each other; w2 may be
        infinite in continuous time. The bands of a real system are mirrored to -w; those of a
        complex one are taken as they are.

    Returns
    -------
    S, R : array (..., n, k), array (..., n, l)

    Raises
    ------
    OptionError
        If `bands` are not intervals of frequencies.

    References
    ----------
    Gawronski, Juang, "Model reduction in limited time and frequency intervals", Int. J. Systems
    Science 21 (1990).
    """
    sys = sys.to_dense()
    real = not is_complex(sys.B)
    step = 1.0 if sys.dt is True else float(sys.dt)
    top = math.pi / step if sys.is_discrete else math.inf
    pairs = _intervals("frequencies", bands, 0.0 if real else -top, top)
    if sys.is_discrete:
        circle, arcs = sys, [(step * a, step * b) for a, b in pairs]
    else:
        shift = np.median(to_numpy(optimal_shift(sys.poles))) if sys.order else 1.0
        circle = to_discrete(sys, float(shift))
        arcs = [(2 * math.atan(a / shift), 2 * math.atan(b / shift)) for a, b in pairs]
    angles, weights = _nodes(to_numpy(circle.poles), arcs)
    weights = np.sqrt(weights / (math.pi if real else 2 * math.pi))
    # (e^{-jt} - A^H)^-1 C^H is the response of the dual at the conjugate point
    return _spectral(circle, angles, weights), _spectral(dual(circle), -angles, weights)


def _spectral(sys: System, angles: np.ndarray, weights: np.ndarray) -> Array:
    """The LQ factor of [(e^{j t} - A)^-1 B sqrt(weight)] over all nodes t."""
    z, weights = (from_numpy(x, like=sys.B) for x in (np.exp(1j * angles), weights))
    return stacked_factor(
        sys, (X * weights[at, None, None] for at, X in resolvent(sys, z.shape[0])(z))
    )


def _nodes(poles: np.ndarray, arcs: Sequence[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on the arcs; no panel is longer than the distance to the nearest pole.

    A pole p stands in the plane of angles at -j log p, and at its conjugate, where |X|^2 has one.
    """
    poles = poles[np.abs(poles) > 1e-8].ravel()
    place, depth = np.angle(poles), -np.log(np.abs(poles))
    x, w = np.polynomial.legendre.leggauss(NODES)
    low = np.array([a for a, _ in arcs])
    high = np.array([b for _, b in arcs])
    done: list[np.ndarray] = []
    while low.size:
        middle, half = (low + high) / 2, (high - low) / 2
        apart = np.abs((middle[:, None] - place + np.pi) % (2 * np.pi) - np.pi)
        near = np.hypot(apart, depth).min(axis=1, initial=np.inf)
        good = (2 * half <= near) & (half <= 1.0) | (half < 1e-15)
        done.append(np.stack([middle[good], half[good]]))
        middle, low, high = middle[~good], low[~good], high[~good]
        low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
    middle, half = np.concatenate(done, axis=1)
    return (middle[:, None] + half[:, None] * x).ravel(), (half[:, None] * w).ravel()


def time_limited_factors(sys: System, windows: Any) -> tuple[Array, Array]:
    """P = int e^{A t} B B^H e^{A^H t} dt over the windows, or the sum of A^k B B^H A^kH; Q alike.

    By doubling: the factor over [0, 2 h] is ``[S_h, e^{A h} S_h]``. Nothing is subtracted.

    Parameters
    ----------
    sys : StateSpace or DiagonalStateSpace
        Stable, in double precision.
    windows : (t1, t2) or sequence of such pairs
        In units of time, apart from each other; t2 may be infinite. In discrete time multiples of
        the sampling time (of 1 if ``dt`` is True): the steps k with ``t1 <= k dt < t2``.

    Returns
    -------
    S, R : array (..., n, k), array (..., n, l)

    Raises
    ------
    OptionError
        If `windows` are not intervals of time.

    References
    ----------
    Gawronski, Juang (1990), as for `frequency_limited_factors`.
    """
    d = balanced_units(sys)
    sys = in_units(sys.to_dense(), d)
    pairs = _intervals("times", windows, 0.0, math.inf)
    if sys.is_discrete:
        pairs = [_steps(pair, 1.0 if sys.dt is True else float(sys.dt)) for pair in pairs]
    xp = namespace(sys.A)
    parts = [_window(sys, start, stop) for start, stop in pairs]
    S, R = (lq_factor(xp.concat(list(factors), axis=-1)) for factors in zip(*parts, strict=True))
    return d[..., None] * S, R / d[..., None]


def _window(sys: System, start: float, stop: float) -> tuple[Array, Array]:
    """Both factors over one window."""
    if stop == math.inf:
        S, R = double_factors(sys)
    else:
        S = _doubled(sys.A, sys.B, stop - start, sys.is_discrete)
        R = _doubled(H(sys.A), H(sys.C), stop - start, sys.is_discrete)
    if start == 0:
        return S, R
    move = _power(sys.A, int(start)) if sys.is_discrete else expm(start * sys.A)
    return move @ S, H(move) @ R


def _doubled(A: Array, B: Array, length: float, discrete: bool) -> Array:
    """The factor over [0, length)."""
    xp = namespace(A)
    if discrete:
        S, power = B[..., :0], eye(A.shape[-1], like=A)
        for bit in bin(int(length))[2:]:  # from the highest: k -> 2 k (+ 1)
            S, power = lq_factor(xp.concat([S, power @ S], axis=-1)), power @ power
            if bit == "1":
                S, power = lq_factor(xp.concat([B, A @ S], axis=-1)), A @ power
        return S
    k = halvings(length * A)
    h = length * 2.0**-k
    x, w = np.polynomial.legendre.leggauss(NODES)
    t = from_numpy((x + 1) / 2, like=A)
    root = from_numpy(np.sqrt(w / 2 * h), like=A)
    terms, powers = [B], [t**0]
    for j in range(1, TERMS):
        terms.append((h / j) * (A @ terms[-1]))
        powers.append(powers[-1] * t)
    V = xp.stack(terms, axis=-1) @ xp.astype(xp.stack(powers) * root, A.dtype)
    S = lq_factor(xp.reshape(V, (*B.shape[:-1], B.shape[-1] * NODES)))
    for move in islice(exponentials(length * A), k):
        S = lq_factor(xp.concat([S, move @ S], axis=-1))
    return S


def _power(A: Array, k: int) -> Array:
    result = eye(A.shape[-1], like=A)
    for bit in bin(k)[2:]:
        result = result @ result
        result = A @ result if bit == "1" else result
    return result


def _intervals(name: str, pairs: Any, low: float, high: float) -> list[tuple[float, float]]:
    """`pairs` as a sorted list of intervals within [low, high], or `OptionError`."""
    try:
        table = np.atleast_2d(np.asarray(pairs, dtype=float))
        valid = table.ndim == 2 and table.shape[1] == 2 and table.size > 0
    except (TypeError, ValueError):
        valid, table = False, np.empty((0, 2))
    if valid:
        table = table[np.argsort(table[:, 0])]
        ends = table.ravel()
        valid = bool((table[:, 0] < table[:, 1]).all() and (ends[1:-1:2] <= ends[2::2]).all())
        valid = valid and low <= ends[0] and ends[-1] <= high * (1 + 1e-12)
    if not valid:
        raise OptionError(
            f"{name} must be a pair (start, stop), or several that do not overlap, with "
            f"{low:g} <= start < stop <= {high:g}; got {pairs!r}"
        )
    return [(float(a), float(min(b, high))) for a, b in table]


def _steps(pair: tuple[float, float], dt: float) -> tuple[float, float]:
    """A time window, counted in steps."""
    steps = [round(t / dt) if t / dt < 2.0**62 else math.inf for t in pair]
    exact = np.allclose(pair, [k * dt for k in steps], rtol=1e-9, atol=1e-9 * dt)
    if not (exact or steps[1] == math.inf) or steps[0] == steps[1]:
        raise OptionError(f"times must be multiples of the sampling time {dt:g}, got {pair}")
    return steps[0], steps[1]
