"""Both Gramian factors of one dense system from one Schur form of A."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from lti._backend.arrays import frobenius, lq_factor, real, times
from lti._backend.checks import in_range
from lti.errors import UnstableError
from lti.gramians.hammarling import factor
from lti.gramians.lyapunov import EPS, TINY, gap
from lti.systems.schur import SchurForm, choose_scaling, quasi_triangular_poles, schur_form
from lti.systems.stability import require_stable_poles, time_unit

__all__ = ["SchurFactors", "common_forms", "schur_factors"]

POOR = 1e-12  # a rounding that another scaling of the states may mend
CERTAIN = 1e-3  # a rounding that has made no pole stable
OTHER = 4  # powers of two between the units of two scalings that are worth a second form
COMMON = 100.0  # the same in the basis of a mean, which is as good to two digits
BACKWARD = 10.0  # |A - Q T Q^H| of LAPACK's Schur form, in units of eps |A|


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


def schur_factors(
    A: np.ndarray, B: np.ndarray, C: np.ndarray, discrete: bool, form: SchurForm | None = None
) -> SchurFactors:
    """A P + P A^H + B B^H = 0, A^H Q + Q A + C^H C = 0, or A P A^H - P + B B^H = 0 and its dual.

    One Schur form serves both equations. In discrete time T goes to continuous time, which keeps
    the Gramians. Where much may be lost to rounding, a second form is computed, in a scaling of the
    states that balances not only A but also the two factors, and the better one is returned.

    Parameters
    ----------
    A, B, C : array (n, n), array (n, m), array (p, n)
        In double precision, all real or all complex.
    discrete : bool
    form : SchurForm, optional
        One of A, if there is one already.

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
        found = _factors(form or schur_form(A, scaling), B, C, discrete)
    except UnstableError:  # perhaps in this scaling only
        if (scaling[2] == 1.0).all():
            raise
        found = _factors(schur_form(A, (*scaling[:2], np.ones(len(A)))), B, C, discrete)
        if not found.roundoff < CERTAIN:
            raise
    if found.roundoff > POOR:
        scaling = choose_scaling(A, _sizes(found))
        if np.ptp(np.log2(scaling[2] / found.form.d)) > OTHER:
            with suppress(UnstableError):
                other = _factors(schur_form(A, scaling), B, C, discrete)
                found = min(found, other, key=lambda x: x.roundoff * float(frobenius(x.product)))
    product = in_range("the Hankel singular values are", times(b, c * found.product))
    U, V = b * found.U, c * found.V
    return SchurFactors(found.form, b * found.B, c * found.C, U, V, product, found.roundoff)


def common_forms(A: np.ndarray) -> Iterator[SchurForm | None]:
    """A_i = X T_i X^-1 of a batch (..., n, n) that commutes, with one X; None where it is not so.

    X is that of the mean, whose eigenvectors are those of all.
    """
    form: SchurForm | None = schur_form(A.mean(axis=tuple(range(A.ndim - 2))))
    for i in np.ndindex(A.shape[:-2]):
        form = form and _in_basis(A[i], form)
        yield form


def _in_basis(A: np.ndarray, form: SchurForm) -> SchurForm | None:
    """The Schur form of A in the basis of another one, if rounding is all that it loses."""
    d, Q = form.d, form.Q
    T = Q.conj().T @ (A / d[:, None] * d) @ Q
    below = np.tril(T, -1)
    pairs = form.T.diagonal(-1).nonzero()[0]
    below[pairs + 1, pairs] = 0.0
    if not frobenius(below) <= COMMON * EPS * frobenius(T):
        return None
    T -= below
    return SchurForm(T, Q, d, quasi_triangular_poles(T), form.edges)


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
        lost = _roundoff(form.T / rate, moved[0] / h2, moved[1] / h2, form.edges)
        roundoff = 2 * lost * float(frobenius(product))
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
    turned, start = np.diff(edges) > 1, edges[:-1]
    if not turned.any():
        return 0.0
    moved = BACKWARD * EPS / len(T) * _norms(T, start, start)
    moved[~(turned | turned[:, None])] = 0.0  # neither turned nor rounded
    left, right = (_norms(X, start, start[:1]) for X in (V, U))
    return float((left * moved * right.T).sum())


def _norms(X: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """|X_ij|_F of the blocks that begin at `rows` and `columns`."""
    if len(rows) == len(columns) == 1:
        return np.array([[frobenius(X)]])
    top = max(abs(X).max(initial=0.0), TINY)
    squares = np.add.reduceat(abs(X / top) ** 2, rows)
    return top * np.sqrt(np.add.reduceat(squares, columns, axis=1))


def _sizes(found: SchurFactors) -> np.ndarray:
    """|S_i| |R_j| in the coordinates of A: how much an entry A_ji counts."""
    d, X = found.form.d, found.form.Q
    rows, columns = (abs(X @ F).max(axis=1) for F in (found.U, found.V))
    return np.outer(rows * d, columns / d)
