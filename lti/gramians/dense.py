"""Both Gramian factors of one dense system from one Schur form of A."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from lti._backend.arrays import frobenius, lq_factor, real, times
from lti._backend.blocks import choose_scaling
from lti._backend.checks import in_range
from lti.errors import UnstableError
from lti.gramians.hammarling import factor
from lti.gramians.lyapunov import EPS, TINY, gap
from lti.systems.schur import (
    SchurForm,
    quasi_triangular_poles,
    schur_form,
    sylvester,
)
from lti.systems.stability import require_stable_poles, time_unit
from lti.systems.units import BACKWARD, differ, least_rounding

__all__ = ["SchurFactors", "schur_factors"]

POOR = 1e-12  # a rounding that another scaling of the states may mend
ALIKE = 4e3  # the size of a pole in units of the smallest decay
SAMPLES = 6
CERTAIN = 1e-3  # a rounding that has made no pole stable


@dataclass(frozen=True, eq=False)
class SchurFactors:
    """P = S S^H with S = X U and Q = R R^H with R = X^-H V, so that R^H S = V^H U.

    Parameters
    ----------
    form : SchurForm
        X and T.
    B, C : array (n, m), array (p, n)
        Those of the system in Schur coordinates: X^-1 B and C X.
    U, V : array (n, n)
        Block upper and block lower triangular.
    product : array (n, n)
        V^H U, whose singular values are those of the system.
    roundoff : float
        How far rounding of A may have moved the Hankel singular values, relatively: an estimate of
        first order, of the right size but no bound.
    """

    form: SchurForm
    B: np.ndarray
    C: np.ndarray
    U: np.ndarray
    V: np.ndarray
    product: np.ndarray
    roundoff: float


def schur_factors(A: np.ndarray, B: np.ndarray, C: np.ndarray, discrete: bool) -> SchurFactors:
    """A P + P A^H + B B^H = 0, A^H Q + Q A + C^H C = 0, or A P A^H - P + B B^H = 0 and its dual.

    One Schur form serves both equations. In discrete time T goes to continuous time, which keeps
    the Gramians. Where much may be lost to rounding, other forms are computed, in scalings of the
    states that balance not only A but also B, C and the two factors, and the best is returned.

    Parameters
    ----------
    A, B, C : array (n, n), array (n, m), array (p, n)
        In double precision, all real or all complex.
    discrete : bool

    Returns
    -------
    SchurFactors

    Raises
    ------
    UnstableError
        If a pole is not stable.

    References
    ----------
    Hammarling, "Numerical solution of the stable, non-negative definite Lyapunov equation", IMA J.
    Numer. Anal. 2 (1982); Kressner, "Block variants of Hammarling's method for solving Lyapunov
    equations", ACM TOMS 34 (2008).
    """
    b, c = (abs(x).max(initial=0.0) or 1.0 for x in (B, C))
    B, C = B / b, C / c  # squares neither overflow nor vanish
    scaling = choose_scaling(A)
    try:
        found = _factors(schur_form(A, scaling), B, C, discrete)
    except UnstableError:  # perhaps in this scaling only
        if (scaling[2] == 1.0).all():
            raise
        found = _factors(schur_form(A, (*scaling[:2], np.ones(len(A)))), B, C, discrete)
        if not found.roundoff < CERTAIN:
            raise
    if found.roundoff > POOR:
        S, R = (np.linalg.norm(found.form.Q @ X, axis=1) for X in (found.U, found.V))
        units = least_rounding(found.form, A, B, C, S, R)
        if differ(units, found.form.d):
            with suppress(UnstableError):
                other = _factors(schur_form(A, choose_scaling(A, units)), B, C, discrete)
                found = min(found, other, key=lambda x: x.roundoff * float(frobenius(x.product)))
    product = in_range("the Hankel singular values are", times(b, c * found.product))
    U, V = b * found.U, c * found.V
    return SchurFactors(found.form, b * found.B, c * found.C, U, V, product, found.roundoff)


def _factors(form: SchurForm, B: np.ndarray, C: np.ndarray, discrete: bool) -> SchurFactors:
    poles, T = form.poles, form.T
    require_stable_poles(poles, discrete)
    B, C = form.Q.conj().T @ (B / form.d[:, None]), (C * form.d) @ form.Q
    rate = 1.0 if discrete else time_unit(poles)
    T, inputs, outputs = T / rate, B / math.sqrt(rate), C / math.sqrt(rate)
    if discrete:
        T = to_continuous(form.T)
        if not (real(quasi_triangular_poles(T)) < 0).all():
            raise UnstableError(
                f"a pole, {poles[abs(poles).argmax()]:.17g}, lies on the unit circle to working "
                "precision; remove it or move it inside"
            )
        inputs, outputs = (B - T @ B) / math.sqrt(2), (C - C @ T) / math.sqrt(2)
    U = _factor(T, inputs)
    V = _factor(T.conj().T[::-1, ::-1], outputs.conj().T[::-1])[::-1, ::-1]
    product = V.conj().T @ U
    h2 = float(frobenius(outputs @ U))
    roundoff = 0.0
    if h2:
        moved = ((U - T @ U) / 2, V - T.conj().T @ V) if discrete else (U, V)  # by rounding of T
        turned = _roundoff(form.T / rate, moved[0] / h2, moved[1] / h2, form.edges)
        ports = _turned(V / h2, inputs, form.edges) + _turned(U / h2, outputs.T, form.edges)
        size = float(frobenius(product))
        roundoff = 2 * (turned * size + ports)
        if size > TINY:
            roundoff = max(roundoff, _sampled(form, B, C, discrete) / size)
    return SchurFactors(form, B, C, U, V, product, roundoff)


def _factor(T: np.ndarray, B: np.ndarray) -> np.ndarray:
    """U (n, n) with T U U^H + U U^H T^H + B B^H = 0."""
    return factor(T, lq_factor(B)) if B.shape[1] else np.zeros_like(T)


def to_continuous(T: np.ndarray) -> np.ndarray:
    """(T + 1)^-1 (T - 1), upper quasi-triangular as T is, exact for poles close to 1 and -1."""
    identity = np.eye(len(T))
    moved = np.linalg.solve(T + identity, T - identity)
    if T.dtype.kind == "c":  # and close to all of the circle: Re = -(1 - |p|^2) / |1 + p|^2
        p = T.diagonal()
        np.fill_diagonal(moved, moved.diagonal().imag * 1j - gap(p, True) / abs(1 + p) ** 2)
    return moved


def _roundoff(T: np.ndarray, U: np.ndarray, V: np.ndarray, edges: np.ndarray) -> float:
    """|V^H dT U|, a Schur form having rounded the irreducible blocks: sum |V_i| |dT_ij| |U_j| / n.

    The entries of dT are as good as random, and do not all add up.
    """
    start = edges[:-1]
    left, right = (_norms(X, start, start[:1]) for X in (V, U))
    return float((left * _moved(T, edges) * right.T).sum())


def _moved(T: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """|dT_ij| / n of the irreducible blocks."""
    turned, start = np.diff(edges) > 1, edges[:-1]
    if not turned.any():
        return np.zeros((len(start), len(start)))
    moved = BACKWARD * EPS / len(T) * _norms(T, start, start)
    moved[~(turned | turned[:, None])] = 0.0  # neither turned nor rounded
    return moved


def _sampled(form: SchurForm, B: np.ndarray, C: np.ndarray, discrete: bool) -> float:
    """max |C (s - T)^-1 dT (s - T)^-1 B| at mirror images s of some poles, from slow to fast.

    Next to fast states the H2 norm, and equal values, do not show what slow ones lose.
    """
    n, poles = len(form.T), form.poles
    decay: np.ndarray = 1 - abs(poles) if discrete else -np.real(poles)
    alike = not abs(poles).max(initial=0.0) > ALIKE * decay.min(initial=np.inf)
    if alike or (np.diff(form.edges) == 1).all():
        return 0.0
    at = decay.argsort()[np.unique(np.linspace(0, n - 1, SAMPLES).astype(int))]
    s: Any = -poles[at].conj()
    if discrete:
        s = np.exp(1j * np.angle(poles[at])) / abs(poles[at]).clip(0.5)
    flipped = form.T.conj().T[::-1, ::-1]
    with np.errstate(all="ignore"):
        X = _resolvents(form.T, B, s)
        Y = _resolvents(flipped, C.conj().T[::-1], s.conj())[:, ::-1]
        start, turned = form.edges[:-1], np.diff(form.edges) > 1
        x, y, b, c = (
            np.sqrt(np.add.reduceat(abs(F) ** 2, start, axis=-2).sum(axis=-1))
            for F in (X, Y, B, C.T)
        )
        through = np.einsum("ki,ij,kj->k", y, _moved(form.T, form.edges), x)
        ports = EPS * (y * b + x * c)[:, turned].sum(axis=-1)
        lost = float((math.sqrt(n) * through + ports).max())
    return lost if math.isfinite(lost) else 0.0


def _resolvents(T: np.ndarray, B: np.ndarray, s: Any) -> np.ndarray:
    """(s - T)^-1 B (k, n, m) at the points s (k,), by one Sylvester equation.

    T X + X M^H = -[B ... B] with M = diag(-conj(s)), or of a real T the real form of that.
    """
    (n, m), k = B.shape, len(s)
    if T.dtype.kind == "c":
        return (
            sylvester(T, np.diag(-s.conj().repeat(m)), np.tile(B, k))
            .reshape(n, k, m)
            .swapaxes(0, 1)
        )
    M, F = np.diag(-s.real.repeat(2 * m)), np.zeros((n, k, m, 2))
    even, w = np.arange(0, 2 * k * m, 2), s.imag.repeat(m)
    M[even, even + 1], M[even + 1, even], F[..., 0] = w, -w, B[:, None]
    X = sylvester(T, M, F.reshape(n, -1)).reshape(F.shape)
    return (X[..., 0] + 1j * X[..., 1]).swapaxes(0, 1)


def _turned(V: np.ndarray, B: np.ndarray, edges: np.ndarray) -> float:
    """|V^H dB|, the states having been turned within blocks: sum |V_i| |dB_i|."""
    start = edges[:-1]
    V, B = (_norms(X, start, start[:1])[:, 0] for X in (V, B))
    return float(EPS * (V * B)[np.diff(edges) > 1].sum())


def _norms(X: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """|X_ij|_F of the blocks that begin at `rows` and `columns`."""
    if len(rows) == len(columns) == 1:
        return np.array([[frobenius(X)]])
    top = max(abs(X).max(initial=0.0), TINY)
    squares = np.add.reduceat(abs(X / top) ** 2, rows)
    return top * np.sqrt(np.add.reduceat(squares, columns, axis=1))
