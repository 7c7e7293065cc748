"""Both Gramian factors of one dense system from one Schur form A = X T X^-1, X = diag(d) Q.

Hammarling's method, blocked: neither Gramian is formed, so no digit is lost to a square. NumPy and
the LAPACK of SciPy only.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.linalg import get_lapack_funcs
from scipy.linalg.blas import dnrm2, dznrm2
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from lti._array import lq_factor
from lti.errors import LTIError, UnstableError
from lti.lyapunov import scaled
from lti.system import DiagonalStateSpace, require_stable

__all__ = ["SchurFactors", "SchurForm", "schur_factors", "schur_form"]

EPS = 2.0**-52
WIDTH = 24  # states that are solved for one by one, between matrix products
TINY = 2.0**-1000  # what is smaller is zero: dividing by a subnormal number overflows
POOR = 1e-10  # a rounding that another scaling of the states may mend
SYMMETRIC = 0.9  # tr A^2 / |A|_F^2: 1 for a symmetric matrix, -1 for an undamped oscillation
STIFF = 1e4  # |A| |A^-1|


@dataclass(frozen=True, eq=False)
class SchurForm:
    """A = X T X^-1 with X = diag(d) Q.

    Parameters
    ----------
    T : array (n, n)
        Upper triangular; if A is real, with a 2 x 2 block on the diagonal for a pair of poles.
    Q : array (n, n)
        Unitary.
    d : array (n,)
        The scaling of the states, powers of two.
    poles : array (n,)
        Complex, in the order of the diagonal of T.
    edges : array (k + 1,)
        First states in T of the irreducible blocks of A, and n. No rounding passes between these.
    """

    T: np.ndarray
    Q: np.ndarray
    d: np.ndarray
    poles: np.ndarray
    edges: np.ndarray


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
        Upper and lower triangular.
    roundoff : float
        How far rounding may have moved the squared H2 norm, relatively: a first-order bound.
    """

    form: SchurForm
    B: np.ndarray
    C: np.ndarray
    U: np.ndarray
    V: np.ndarray
    roundoff: float = 0.0


def schur_factors(A: np.ndarray, B: np.ndarray, C: np.ndarray, discrete: bool) -> SchurFactors:
    """A P + P A^H + B B^H = 0 or A P A^H - P + B B^H = 0, and A^H Q + Q A + C^H C = 0 or its like.

    One Schur form serves both equations. In discrete time T goes to continuous time, which keeps
    the Gramians. If the form in the scaling by A leaves much rounding, another scaling is tried,
    which weighs the Gramians too.

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
    (B, b), (C, c) = scaled(B), scaled(C)
    best = _from_form(schur_form(A), B, C, discrete)
    if best.roundoff > POOR and (np.diff(best.form.edges) > 1).any():
        again = _from_form(schur_form(A, _product(best)), B, C, discrete)
        best = min(best, again, key=lambda x: x.roundoff)
    b, c = b.item(), c.item()
    return replace(best, B=b * best.B, C=c * best.C, U=b * best.U, V=c * best.V)


def schur_form(A: np.ndarray, like: np.ndarray | None = None) -> SchurForm:
    """A = X T X^-1 with X = diag(d) Q, from one irreducible block of A at a time.

    Each block is scaled so that its rows are as large as its columns, in A and, if given, also in
    `like` (n, n), which transforms as A does.
    """
    order, edges = _irreducible(A)
    T, Q, d = A[np.ix_(order, order)], np.zeros_like(A), np.ones(len(A))
    if not len(A):
        return SchurForm(T, Q, d, d + 0j, edges)
    weights = abs(T) if like is None else _unit(abs(T)) + _unit(abs(like[np.ix_(order, order)]))
    blocks = [slice(*pair) for pair in zip(edges[:-1], edges[1:], strict=True)]
    (gebal,) = get_lapack_funcs(("gebal",), (weights,))
    for k in blocks:
        if k.stop - k.start > 1:
            d[k] = gebal(weights[k, k], scale=1, permute=0)[3]
        if k.start:  # couplings no larger than the block: the solver takes its unit from all of T
            coupling = (abs(T[: k.start, k]) / d[: k.start, None] * d[k]).max()
            size = abs(T[k, k] / d[k][:, None] * d[k]).max()
            if coupling > size > 0:
                d[k] *= 2.0 ** math.floor(math.log2(size / coupling))
    T = np.asfortranarray(T / d[:, None] * d)
    for k in blocks:
        if k.stop - k.start == 1:
            Q[order[k], k] = 1.0
            continue
        T[k, k], Z = _schur(T[k, k])
        Q[order[k], k] = Z
        T[: k.start, k] = T[: k.start, k] @ Z
        T[k, k.stop :] = Z.conj().T @ T[k, k.stop :]
    units = np.empty_like(d)
    units[order] = d
    return SchurForm(T, Q, units, _poles(T), edges)


def _irreducible(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An order of the states in which A is block upper triangular, and where its blocks begin."""
    if A.all():
        return np.arange(len(A)), np.unique([0, len(A)])
    _, labels = connected_components(csr_array(A != 0), connection="strong")
    # Tarjan's algorithm numbers a component after all that it leads to
    edges = np.concatenate([[0], np.cumsum(np.bincount(labels)[::-1])])
    return np.argsort(-labels, kind="stable"), edges


def _unit(X: np.ndarray) -> np.ndarray:
    return X / max(X.max(), TINY)


def _schur(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """T, Q with A = Q T Q^H.

    Slow poles of a symmetric A keep twice as many digits by way of (A - a)^-1 (A + a).
    """
    size = np.linalg.norm(A)
    if np.vdot(A.conj().T, A).real > SYMMETRIC * size**2:
        identity = np.eye(len(A))
        inverse = np.linalg.norm(np.linalg.inv(A))
        if size * inverse > STIFF * len(A):
            a = math.sqrt(size / inverse)
            T, Q = _gees(np.linalg.solve(A - a * identity, A + a * identity))
            return a * np.linalg.solve(T - identity, T + identity), Q
    return _gees(A)


def _gees(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    (gees,) = get_lapack_funcs(("gees",), (A,))

    def unsorted(*pole: Any) -> None:
        pass

    work = int(gees(unsorted, A, lwork=-1)[-2][0].real)
    T, *_, Q, _, info = gees(unsorted, A, lwork=work)
    if info:
        raise LTIError(
            f"LAPACK found no Schur form of A, {A.shape}, with entries up to {abs(A).max():.3g}; "
            "bring the states into units in which these are closer to 1"
        )
    return T, Q


def _poles(T: np.ndarray) -> np.ndarray:
    """The eigenvalues of a quasi-triangular T."""
    poles = T.diagonal() + 0j
    for k in T.diagonal(-1).nonzero()[0]:
        poles[k : k + 2] = _eigenvalues(*T[k : k + 2, k : k + 2].ravel().tolist())
    return poles


def _eigenvalues(a: float, b: float, c: float, d: float) -> tuple[complex, complex]:
    """Those of [[a, b], [c, d]]."""
    half = (a - d) / 2
    root = cmath.sqrt(half * half + b * c)
    return (a + d) / 2 + root, (a + d) / 2 - root


# ------------------------------------------------------------------ the factors of one form


def _from_form(form: SchurForm, B: np.ndarray, C: np.ndarray, discrete: bool) -> SchurFactors:
    poles = form.poles
    if not (abs(poles) < 1 if discrete else poles.real < 0).all():
        ports = np.empty((len(poles), 0)), np.empty((0, len(poles)))
        require_stable(DiagonalStateSpace(poles, *ports, dt=discrete or 0))  # names the pole
    B, C = form.Q.conj().T @ (B / form.d[:, None]), (C * form.d) @ form.Q
    T, B_T, C_T = _to_continuous(form.T, B, C) if discrete else (form.T, B, C)
    if discrete and not (_poles(T).real < 0).all():
        raise UnstableError(
            f"a pole, {poles[abs(poles).argmax()]:.17g}, lies on the unit circle to working "
            "precision; remove it or move it inside"
        )
    U = _hammarling(T, B_T)
    V = _hammarling(T.conj().T[::-1, ::-1], C_T.conj().T[::-1])[::-1, ::-1]
    found = SchurFactors(form, B, C, U, V)
    return replace(found, roundoff=_roundoff(found, T, C_T))


def _to_continuous(
    T: np.ndarray, B: np.ndarray, C: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(T + 1)^-1 (T - 1), sqrt(2) (T + 1)^-1 B, sqrt(2) C (T + 1)^-1: the same Gramians."""
    n, E = len(T), T + np.eye(len(T))
    root = math.sqrt(2)
    solved = np.linalg.solve(E, np.concatenate([T - np.eye(n), root * B], axis=1))
    return solved[:, :n], solved[:, n:], root * np.linalg.solve(E.T, C.T).T


def _roundoff(found: SchurFactors, T: np.ndarray, C: np.ndarray) -> float:
    """2 eps sum |T_ij| |(P Q)_ji| / |C S|_F^2 over the irreducible blocks.

    For d |C S|_F^2 = 2 tr(Q dA P), and a Schur form rounds a block of A by eps of its norm.
    """
    U, V, start = found.U, found.V, found.form.edges[:-1]
    energy = np.linalg.norm(C @ U) ** 2
    if not energy:
        return 0.0
    # Blocks have units of their own
    own = [np.maximum.reduceat(abs(x).max(axis=1), start) for x in (V, U)]
    units = np.sqrt(np.maximum(own[0], TINY) / np.maximum(own[1], TINY))
    e = np.repeat(units, np.diff(found.form.edges))[:, None]
    U, V, T = U / e, V * e, T / e * e.T
    K = U @ (U.conj().T @ V) @ V.conj().T

    def norms(X: np.ndarray) -> np.ndarray:
        return np.sqrt(np.add.reduceat(np.add.reduceat(abs(X) ** 2, start), start, axis=1))

    return float(2 * EPS * np.vdot(norms(K).T, norms(T)) / energy)


def _product(found: SchurFactors) -> np.ndarray:
    """P Q in the coordinates of A."""
    d, X = found.form.d[:, None], found.form.Q
    return d * (X @ found.U @ (found.U.conj().T @ found.V) @ found.V.conj().T @ X.conj().T) / d.T


# ------------------------------------------------------------------ Hammarling's method


def _hammarling(T: np.ndarray, B: np.ndarray) -> np.ndarray:
    """U upper triangular with T U U^H + U U^H T^H + B B^H = 0.

    With T = [T1, F; 0, T2] and U = [U1, X; 0, U2], the last states have such an equation of their
    own. With beta = U2^-1 B2 and M = U2^-1 T2 U2, where M + M^H = -beta beta^H, the others have
    ``T1 X + X M^H = -(F U2 + B1 beta^H)``, then ``B1 - X beta`` in place of B1. beta and M stay
    bounded where U is singular.
    """
    T, B = np.asfortranarray(T), lq_factor(B).copy()
    U = np.zeros_like(T)
    blocks = _blocks(T)
    (trsyl,) = get_lapack_funcs(("trsyl",), (T, B))
    for index in range(len(blocks) - 1, -1, -1):
        k = blocks[index]
        U[k, k], beta, M = _small(T[k, k], B[k])
        X = T[: k.start, k] @ U[k, k] + B[: k.start] @ beta.conj().T
        for i in reversed(blocks[:index]):
            X[i] = _sylvester(trsyl, T[i, i], M, X[i])
            X[: i.start] += T[: i.start, i] @ X[i]
        U[: k.start, k] = X
        B[: k.start] -= X @ beta
    return U


def _sylvester(trsyl: Any, T: np.ndarray, M: np.ndarray, F: np.ndarray) -> np.ndarray:
    """X with T X + X M^H = -F."""
    X, scale, _ = trsyl(T, M, F, tranb="C")
    return X / -scale


def _blocks(T: np.ndarray) -> list[slice]:
    """The diagonal in blocks of about WIDTH states, none of which parts a pair."""
    n, edges = len(T), [len(T)]
    while edges[-1]:
        start = max(edges[-1] - WIDTH, 0)
        edges.append(start - bool(start and T[start, start - 1]))
    return [slice(*pair) for pair in zip(edges[:0:-1], edges[-2::-1], strict=True)] if n else []


def _small(T: np.ndarray, B: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """U, beta = U^-1 B, M = U^-1 T U of a few states, by one pole or pair at a time."""
    trsyl, trtrs = get_lapack_funcs(("trsyl", "trtrs"), (T, B))
    U, beta, B, pairs = np.zeros_like(T), np.zeros_like(B), B.copy(), []
    shifted, poles, paired = T.copy(order="F"), T.diagonal(), bool(T.diagonal(-1).any())
    stop = len(T)
    while stop:
        start = stop - 1 - bool(paired and stop > 1 and T[stop - 1, stop - 2])
        k, up = slice(start, stop), slice(start)
        if stop - start == 1:
            own = poles[start:stop, None]
            U[start, start], beta[start] = _single(poles[start], B[start])
        else:
            U[k, k], beta[k], own = _pair(T[k, k], B[k])
            pairs.append((k, own))
        if start:
            X = T[up, k] @ U[k, k] + B[up] @ beta[k].conj().T
            if paired:
                X = _sylvester(trsyl, T[up, up], own, X)
            else:
                shifted.ravel("K")[:: len(T) + 1] = poles + poles[start].conjugate()
                X = -trtrs(shifted[up, up], X)[0]
            U[up, k] = X
            B[up] -= X @ beta[k]
        stop = start
    M = np.triu(beta @ -beta.conj().T, 1)
    np.fill_diagonal(M, poles)
    for k, own in pairs:
        M[k, k] = own
    return U, beta, M


def _pair(T: np.ndarray, B: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """U, beta, M of a real 2 x 2 block: those of its complex triangular form, made real again."""
    a, b, c, d = T.ravel().tolist()
    p, q = _eigenvalues(a, b, c, d)
    # Z = [z, -w*; w, z*] with the eigenvector of p; Z^H T Z = [p, t; 0, q]
    z, w = (b + 0j, p - a) if abs(b) >= abs(c) else (p - d, c + 0j)
    size = math.hypot(abs(z), abs(w))
    z, w = z / size, w / size
    zc, wc = z.conjugate(), w.conjugate()
    t = zc * (b * zc - a * wc) + wc * (d * zc - c * wc)
    first, last = zc * B[0] + wc * B[1], z * B[1] - w * B[0]
    u, last = _single(q, last)
    x = -(t * u + complex(np.vdot(last, first))) / (p + q.conjugate())
    v, first = _single(p, first - x * last)
    f, g = w * v, w * x + zc * u
    r = math.hypot(abs(f), abs(g))
    if r <= TINY:
        return np.zeros_like(T), np.zeros_like(B), T
    # Z [v, x; 0, u] Y is real and triangular for Y = [g, f*; -f, g*] / r
    fc, gc, s = f.conjugate(), g.conjugate(), -complex(np.vdot(last, first))
    U = [[u * v / r, ((z * v * fc + (z * x - wc * u) * gc) / r).real], [0.0, r]]
    beta = np.stack([(gc / r) * first - (fc / r) * last, (f / r) * first + (g / r) * last]).real
    f, g, fc, gc = f / r, g / r, fc / r, gc / r
    M = [
        [gc * (p * g - s * f) + fc * q * f, gc * (p * fc + s * gc) - fc * q * gc],
        [f * (p * g - s * f) - g * q * f, f * (p * fc + s * gc) + g * q * gc],
    ]
    return np.array(U), beta, np.array(M).real


def _single(pole: complex, b: np.ndarray) -> tuple[float, np.ndarray]:
    """u >= 0, b / u with 2 Re(pole) u^2 + |b|^2 = 0; zeros for a state that is not reached."""
    size = (dnrm2 if b.dtype.kind == "f" else dznrm2)(b)
    if size <= TINY:
        return 0.0, 0 * b
    root = math.sqrt(-2 * pole.real)
    return size / root, b * (root / size)
