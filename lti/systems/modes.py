"""max over w of |D + sum c_k b_k / (j w - p_k)|, by intervals that leave no frequency out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.linalg import get_lapack_funcs

from lti._backend.arrays import frobenius
from lti.systems.protocol import System
from lti.systems.schur import shows_poles
from lti.systems.stability import time_unit
from lti.systems.statespace import DiagonalStateSpace
from lti.systems.units import form_with_ports

__all__ = ["decay_of", "gains_of", "largest_gain", "minus", "modes_of", "of_size_one"]

EPS = 2.0**-52
DEGREE = 7  # of the polynomials
PARTS = 4, 16  # into which an interval is divided, where there are many, and few
CHUNK = 1 << 19  # modes times intervals at once
CHEAP = 1 << 13  # modes times intervals whose time is that of the calls
MOST = 200  # intervals for each mode, after which another way is quicker
FEW = 2000  # or for any number of modes
WELL = 1e6  # a condition number of eigenvectors that leaves enough digits
(dgeev,) = get_lapack_funcs(("geev",), dtype=np.float64)
(zgeev,) = get_lapack_funcs(("geev",), dtype=np.complex128)

# Bernstein coefficients of t^i between -1 and 1
BERNSTEIN = np.array([
    [sum(math.comb(j, k) * math.comb(DEGREE - j, i - k) * (-1) ** (i - k) for k in range(i + 1))
     / math.comb(DEGREE, i) for i in range(DEGREE + 1)] for j in range(DEGREE + 1)
])  # fmt: skip


def modes_of(sys: System) -> DiagonalStateSpace | None:
    """The modal form of one NumPy system, or None if its eigenvectors lose many digits."""
    if isinstance(sys, DiagonalStateSpace):
        return sys.closed()
    T, B, C = sys.A, sys.B, sys.C
    if not shows_poles(T):
        form = form_with_ports(T, B, C, sys.is_discrete)
        T, B, C = form.T, form.Q.conj().T @ (B / form.d[:, None]), (C * form.d) @ form.Q
    n = len(T)
    if n == 0:
        return DiagonalStateSpace(np.zeros(0, complex), B, C, sys.D, sys.dt)
    rate = time_unit(T)  # beyond 1e138 LAPACK returns other poles
    if T.dtype.kind == "c":
        poles, _, V, info = zgeev(T / rate, compute_vl=0, lwork=64 * n)
    else:
        real, imag, _, V, info = dgeev(T / rate, compute_vl=0, lwork=64 * n)
        poles = real + 1j * imag
    poles = rate * poles
    with np.errstate(all="ignore"):
        try:
            U = np.linalg.inv(V)
        except np.linalg.LinAlgError:
            return None
        if info or not frobenius(V) * frobenius(U) < WELL * n:
            return None
    B, C = U @ B + 0j, C @ V + 0j
    if T.dtype.kind == "f":  # the two columns of a pair are its real and its imaginary part
        k = (poles.imag > 0).nonzero()[0]
        b, c = (B[k] - 1j * B[k + 1]) / 2, C[:, k] + 1j * C[:, k + 1]
        B[k], B[k + 1], C[:, k], C[:, k + 1] = b, b.conj(), c, c.conj()
    return DiagonalStateSpace(poles, B, C, sys.D, sys.dt)


def decay_of(modes: DiagonalStateSpace) -> np.ndarray:
    """-Re p, in discrete time 1 - |p|: how far the poles are from the boundary of stability."""
    return 1 - abs(modes.poles) if modes.is_discrete else -modes.poles.real


def minus(G: DiagonalStateSpace, F: DiagonalStateSpace) -> DiagonalStateSpace:
    """G - F."""
    poles, B = np.concatenate([G.poles, F.poles]), np.concatenate([G.B, F.B])
    return DiagonalStateSpace(poles, B, np.concatenate([G.C, -F.C], axis=1), G.D - F.D, G.dt)


def of_size_one(modes: DiagonalStateSpace) -> tuple[DiagonalStateSpace, float]:
    """Rows of B, the gain of each mode and D of at most one, so that squares stay in range.

    Also that gain. The unit of time of a continuous system is as it was.
    """
    b = abs(modes.B).max(axis=1, initial=0.0)
    b += b == 0
    C = modes.C * b
    tops = abs(C).max(axis=0, initial=0.0) / decay_of(modes)
    size = float(max(tops.max(initial=0.0), abs(modes.D).max(initial=0.0)))
    return replace(modes, B=modes.B / b[:, None], C=C / (size or 1), D=modes.D / (size or 1)), size


def largest_gain(
    modes: DiagonalStateSpace, best: tuple[float, float], rtol: float, is_real: bool
) -> tuple[float, float] | None:
    """The largest gain of a stable sum of modes, to `rtol`, and its frequency.

    On an interval around w, of half-width h, the modes whose poles are farther away than 2 h are a
    Taylor polynomial and a remainder of ``(h / |j w - p|)^(q + 1)`` each; its Bernstein
    coefficients are as large as it, and what the other modes can add is known from their poles.
    Intervals on which the gain may be above the largest one found are divided.

    Parameters
    ----------
    modes : DiagonalStateSpace
        One stable system, ``conjugate=False``.
    best : (float, float)
        A gain of it, and its frequency: the angle of z in discrete time.
    rtol : float
    is_real : bool
        Whether the gain is the same at w and -w.

    Returns
    -------
    (float, float) or None
        None if the intervals would be too many, or leave the range of numbers.
    """
    if not modes.is_discrete:
        return _covered(modes, best, rtol, is_real)
    turns = (1.0, -1.0) if is_real else np.exp(0.25j * np.pi * np.arange(8)).tolist()
    lines = [(_on_the_line(modes, turn), turn) for turn in turns]
    line, turn = min(lines, key=lambda x: np.linalg.norm(x[0].D, ord=2))
    angle = float(np.angle(turn))
    found = _covered(line, (best[0], math.tan((best[1] - angle) / 2)), rtol, is_real)
    return found and (found[0], angle + 2 * math.atan(found[1]))


def _on_the_line(sys: DiagonalStateSpace, turn: complex) -> DiagonalStateSpace:
    """The same gains at s of z = turn (1 + s) / (1 - s)."""
    p = sys.poles / turn
    size, apart = abs(p), abs(1 + p) ** 2
    poles = -(1 - size) * (1 + size) / apart + 2j * p.imag / apart
    B = sys.B / (turn * (1 + p))[:, None]
    return DiagonalStateSpace(poles, B * (2 / (1 + p))[:, None], sys.C, sys.D - sys.C @ B, 0)


def _covered(
    modes: DiagonalStateSpace, best: tuple[float, float], rtol: float, is_real: bool
) -> tuple[float, float] | None:
    """`largest_gain` in continuous time."""
    poles, (p, m) = modes.poles, modes.D.shape
    decay, turn = -poles.real, poles.imag
    residues, D = _residues(modes), modes.D.ravel()
    top = abs(residues).max(axis=1, initial=1e-300, keepdims=True)  # its square may be out of range
    sizes = np.linalg.norm(residues / top, axis=1) * top[:, 0]
    slack = best[0] - float(np.linalg.norm(modes.D))
    if not slack > 0.1 * best[0]:
        return None
    # Beyond the last end the modes are too small, and small ones need no end of their own. With
    # their distance from zero intervals grow, as modes get smooth there
    ends = abs(turn[sizes > 0.1 * best[0] * decay])
    last = float(abs(turn).max(initial=0.0) + sizes.sum() / slack)
    first = float(abs(poles).min(initial=last))
    if 0 < first < last < np.inf:
        ladder = first * 4.0 ** np.arange(math.log(last, 4) - math.log(first, 4))
        ends = np.concatenate([ends, ladder[ladder < last]])
    ends = np.append(ends, [0.0, last])
    ends = np.unique(ends if is_real else np.append(ends, -ends))
    low, high = ends[:-1], ends[1:]
    left, step = max(FEW, MOST * len(poles)), max(1, CHUNK // max(1, len(poles)))
    while low.size:
        left -= low.size
        if left < 0:
            return None
        mid, half = (low[:step] + high[:step]) / 2, (high[:step] - low[:step])[:, None] / 2
        z = 1j * mid[:, None] - poles
        distance = abs(z)
        closest = np.hypot(decay, np.maximum(abs(mid[:, None] - turn) - half, 0.0))
        far, ratio = distance > 2 * half, half / distance
        rest = (sizes / closest * np.where(far, ratio ** (DEGREE + 1), 1.0)).sum(axis=1)
        power, factor = np.where(far, 1 / z, 0.0), np.where(far, -1j * half / z, 0.0)
        terms = [D + power @ residues]
        for _ in range(DEGREE):
            power = power * factor
            terms.append(power @ residues)
        parts = np.tensordot(BERNSTEIN, np.stack(terms), axes=1)
        if not (np.isfinite(parts).all() and np.isfinite(rest).all()):
            return None  # no comparison with NaN would hold, and the interval would be left out
        above = np.linalg.norm(parts, axis=-1).max(axis=0) + rest > best[0] * (1 + rtol)
        above = above.nonzero()[0]
        if above.size:
            gains = _norms(D + (1 / z[above]) @ residues, p, m)
            best = max(best, (float(gains.max()), float(mid[above[gains.argmax()]])))
            parts = _norms(parts[:, above].reshape(-1, p * m), p, m).reshape(DEGREE + 1, -1)
            above = above[parts.max(axis=0) + rest[above] > best[0] * (1 + rtol)]
        few = PARTS[1] * above.size * len(poles) < CHEAP
        parts = np.linspace(low[above], high[above], PARTS[few] + 1)
        low = np.concatenate([parts[:-1].ravel(), low[step:]])
        high = np.concatenate([parts[1:].ravel(), high[step:]])
    return best


def gains_of(modes: DiagonalStateSpace) -> Callable[[np.ndarray], np.ndarray]:
    """s (k,) -> |G(s)| (k,)."""
    residues, D, poles = _residues(modes), modes.D.ravel(), modes.poles
    return lambda s: _norms(D + (1 / (s[:, None] - poles)) @ residues, *modes.D.shape)


def _residues(modes: DiagonalStateSpace) -> np.ndarray:
    """c_k b_k as the rows of a matrix (n, p m)."""
    return (modes.C.T[:, :, None] * modes.B[:, None, :]).reshape(-1, modes.D.size)


def _norms(rows: np.ndarray, p: int, m: int) -> np.ndarray:
    """|X|_2 of matrices (p, m), each in one row: of the smaller of X X^H and X^H X, the root."""
    if 1 in (p, m):
        return np.linalg.norm(rows, axis=1)
    X = rows.reshape(-1, p, m)
    X = X if p <= m else X.swapaxes(1, 2)
    gram = X @ X.conj().swapaxes(1, 2)
    if min(p, m) > 2:
        return np.sqrt(np.linalg.eigvalsh(gram)[:, -1].clip(0))
    a, b, c = abs(gram[:, 0, 0]), abs(gram[:, 0, 1]), abs(gram[:, 1, 1])
    return np.sqrt((a + c) / 2 + np.hypot((a - c) / 2, b))
