"""Both Gramian factors of one dense system from one Schur form A = X T X^-1, X = diag(d) Q.

Hammarling's method, blocked: neither Gramian is formed, so no digit is lost to a square. NumPy and
the LAPACK of SciPy only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from operator import mul
from typing import Any

import numpy as np
from scipy.linalg import get_blas_funcs, get_lapack_funcs
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from lti._backend.arrays import lq_factor, real
from lti.errors import LTIError, UnstableError
from lti.gramians.lyapunov import EPS, INDEPENDENT, TINY, _gap
from lti.systems.stability import require_stable
from lti.systems.statespace import DiagonalStateSpace

__all__ = ["SchurFactors", "SchurForm", "schur_factors", "schur_form"]

WIDTH = 32  # states that LAPACK solves for at once, without matrix products
FEW = 8  # states that Python solves for quicker than NumPy
POOR = 1e-10  # a rounding that another scaling of the states may mend
OTHER = 4  # powers of two between the units of two scalings that are worth a second form
BACKWARD = 10.0  # |A - Q T Q^H| of LAPACK's Schur form, in units of eps |A|

(dnrm2,) = get_blas_funcs(("nrm2",), dtype=np.float64)
dgebal, dpotrf, dtrsyl, dtrtri = get_lapack_funcs(
    ("gebal", "potrf", "trsyl", "trtri"), dtype=np.float64
)
(ztrsyl,) = get_lapack_funcs(("trsyl",), dtype=np.complex128)
Scaling = tuple[np.ndarray, np.ndarray, np.ndarray]


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
        Block upper and block lower triangular.
    product : array (n, n)
        V^H U, whose singular values are those of the system.
    roundoff : float
        How far rounding may have moved the squared H2 norm, relatively: a first-order bound.
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
    the Gramians. Where much may be lost to rounding, a second form is computed, in a scaling of the
    states that balances not only A but also P Q, and the better one is returned.

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
    found = _factors(schur_form(A), B, C, discrete)
    if found.roundoff > POOR:
        scaling = choose_scaling(A, _product(found))
        if np.ptp(np.log2(scaling[2] / found.form.d)) > OTHER:
            found = min(
                found,
                _factors(schur_form(A, scaling), B, C, discrete),
                key=lambda x: x.roundoff,
            )
    return replace(
        found, B=b * found.B, C=c * found.C, U=b * found.U, V=c * found.V,
        product=b * c * found.product,
    )  # fmt: skip


# ------------------------------------------------------------------ the Schur form


def schur_form(A: np.ndarray, scaling: Scaling | None = None) -> SchurForm:
    """A = X T X^-1 with X = diag(d) Q, from one irreducible block of A at a time."""
    order, edges, d = scaling or choose_scaling(A)
    T, Q = np.asfortranarray(A[order[:, None], order]), np.zeros_like(A)
    T *= d[order] / d[order, None]
    for k in _slices(edges):
        if k.stop - k.start == 1:
            Q[order[k], k] = 1.0
            continue
        T[k, k], Z = _schur(T[k, k])
        Q[order[k], k] = Z
        T[: k.start, k] = T[: k.start, k] @ Z
        T[k, k.stop :] = Z.conj().T @ T[k, k.stop :]
    return SchurForm(T, Q, d, _poles(T), edges)


def choose_scaling(A: np.ndarray, like: np.ndarray | None = None) -> Scaling:
    """order, edges, d: a block upper triangular order of A's states, where blocks begin, and units.

    Each irreducible block has rows as large as columns, in A / d_i * d_j and, if given, also in
    `like` (n, n), which transforms as A does; the large ones come first, which lets small poles
    keep their digits.
    """
    order, edges = _irreducible(A)
    A, d = abs(A[order[:, None], order]), np.ones(len(A))
    weights = A if like is None else _unit(A) + _unit(abs(like[order[:, None], order]))
    local = np.arange(len(A))
    for k in _slices(edges):
        if k.stop - k.start > 1:
            d[k] = dgebal(weights[k, k], scale=1, permute=0)[3]
            size = (A[k, k] / d[k, None] * d[k]).max(axis=1)
            local[k] = k.start + np.argsort(-size, kind="stable")
    order, units = order[local], np.empty_like(d)
    units[order] = d[local]
    return order, edges, units


def _slices(edges: np.ndarray) -> list[slice]:
    return [slice(*pair) for pair in pairwise(edges.tolist())]


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
    """T, Q with A = Q T Q^H."""
    (gees,) = get_lapack_funcs(("gees",), (A,))
    T, *_, Q, _, info = gees(_unsorted, A, lwork=64 * len(A))
    if info:
        raise LTIError(
            f"LAPACK found no Schur form of A, {A.shape}, with entries up to {abs(A).max():.3g}; "
            "choose other units of the states"
        )
    return T, Q


def _unsorted(*pole: Any) -> None:
    """LAPACK asks for a rule by which to sort poles, and does not use it."""


def _poles(T: np.ndarray) -> np.ndarray:
    """The eigenvalues of a quasi-triangular T."""
    poles = T.diagonal() + 0j
    k = T.diagonal(-1).nonzero()[0]
    if k.size:
        a, b, c, d = _entries(T, k)
        root = np.sqrt(((a - d) / 2) ** 2 + b * c + 0j)
        poles[k], poles[k + 1] = (a + d) / 2 + root, (a + d) / 2 - root
    return poles


def _entries(T: np.ndarray, k: np.ndarray) -> Any:
    """a, b, c, d (len(k),) of the 2 x 2 blocks [[a, b], [c, d]] that begin at k."""
    return T[k, k], T[k, k + 1], T[k + 1, k], T[k + 1, k + 1]


# ------------------------------------------------------------------ the factors of one form


def _factors(form: SchurForm, B: np.ndarray, C: np.ndarray, discrete: bool) -> SchurFactors:
    poles, T, n = form.poles, form.T, len(form.T)
    if not (abs(poles) < 1 if discrete else real(poles) < 0).all():
        ports = np.empty((n, 0)), np.empty((0, n))
        require_stable(DiagonalStateSpace(poles, *ports, dt=discrete or 0))  # names the pole
    B, C = form.Q.conj().T @ (B / form.d[:, None]), (C * form.d) @ form.Q
    inputs, outputs = B, C
    if discrete:
        T = to_continuous(form.T)
        if not (real(_poles(T)) < 0).all():
            raise UnstableError(
                f"a pole, {poles[abs(poles).argmax()]:.17g}, lies on the unit circle to working "
                "precision; remove it or move it inside"
            )
        inputs, outputs = (B - T @ B) / math.sqrt(2), (C - C @ T) / math.sqrt(2)
    U = _hammarling(T, _narrow(inputs))[0]
    V = _hammarling(T.conj().T[::-1, ::-1], _narrow(outputs.conj().T[::-1]))[0][::-1, ::-1]
    product = V.conj().T @ U
    h2 = np.linalg.norm(outputs @ U)
    # |C S|^2 has the derivative 2 tr(K dA), K = P Q, or 2 tr(K dZ) for the discrete Z of A
    K = (U / h2) @ product.conj().T @ (V.conj().T / h2) if h2 else 0 * T
    if discrete:
        K = (K - T @ K - (K - T @ K) @ T) / 2
    return SchurFactors(form, B, C, U, V, product, _roundoff(form.T, K, form.edges))


def _narrow(B: np.ndarray) -> np.ndarray:
    """B with from one to n columns and the same B B^H."""
    return lq_factor(B) if B.shape[1] else np.zeros((len(B), 1), B.dtype)


def to_continuous(T: np.ndarray) -> np.ndarray:
    """(T + 1)^-1 (T - 1), upper quasi-triangular as T is, exact for poles close to 1 and -1."""
    identity = np.eye(len(T))
    moved = np.linalg.solve(T + identity, T - identity)
    if T.dtype.kind == "c":  # and close to all of the circle: Re = -(1 - |p|^2) / |1 + p|^2
        p = T.diagonal()
        np.fill_diagonal(moved, moved.diagonal().imag * 1j - _gap(p, True) / abs(1 + p) ** 2)
    return moved


def _roundoff(T: np.ndarray, K: np.ndarray, edges: np.ndarray) -> float:
    """2 sum |dT_ij| |K_ji| over the irreducible blocks, each of which a Schur form rounds."""
    start, single = edges[:-1], np.diff(edges) == 1
    moved = BACKWARD * EPS * _norms(T, start)
    moved[np.ix_(single, single)] = 0.0  # neither turned nor rounded
    return float(2 * np.vdot(moved, _norms(K, start).T))


def _norms(X: np.ndarray, start: np.ndarray) -> np.ndarray:
    """|X_ij|_F of the blocks that begin at `start`."""
    if len(start) == 1:
        return np.array([[np.linalg.norm(X)]])
    top = max(abs(X).max(initial=0.0), TINY)
    return top * np.sqrt(np.add.reduceat(np.add.reduceat(abs(X / top) ** 2, start), start, axis=1))


def _product(found: SchurFactors) -> np.ndarray:
    """P Q in the coordinates of A."""
    d, X = found.form.d[:, None], found.form.Q
    K = found.U @ found.product.conj().T @ found.V.conj().T
    return d * (X @ K @ X.conj().T) / d.T


# ------------------------------------------------------------------ Hammarling's method


def _hammarling(T: np.ndarray, B: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """U upper triangular with T U U^H + U U^H T^H + B B^H = 0, beta = U^-1 B and M = U^-1 T U.

    Of T = [T1, F; 0, T2] and U = [U1, X; 0, U2] the last states have an equation of their own; then
    ``T1 X + X M2^H = -(F U2 + B1 beta2^H)``, and the first have one with ``B1 - X beta2`` for B1.
    As M + M^H = -beta beta^H, both stay bounded where U is singular.
    """
    n = len(T)
    paired = n > 1 and T.diagonal(-1).any()
    if 0 < n <= WIDTH and B.shape[1] == 1:
        return _one_input(T, B)
    if not paired and n <= FEW:
        return _poles_only(T, B)
    if n == 2:
        return _pair(T, B)
    found = _from_gramian(T, B) if paired and n <= WIDTH else None
    if found:
        return found
    k = _middle(T)
    U2, beta2, M2 = _hammarling(T[k:, k:], B[k:])
    X = _sylvester(T[:k, :k], M2, T[:k, k:] @ U2 + B[:k] @ beta2.conj().T)
    U1, beta1, M1 = _hammarling(T[:k, :k], B[:k] - X @ beta2)
    U, M = np.zeros((2, n, n), T.dtype).transpose(0, 2, 1)
    U[:k, :k], U[:k, k:], U[k:, k:] = U1, X, U2
    M[:k, :k], M[:k, k:], M[k:, k:] = M1, beta1 @ -beta2.conj().T, M2
    return U, np.concatenate([beta1, beta2]), M


def _sylvester(T: np.ndarray, M: np.ndarray, F: np.ndarray) -> np.ndarray:
    """X with T X + X M^H = -F, by halves."""
    (n, m), (X, scale, info) = F.shape, (F, 1.0, 1)
    if max(n, m) <= WIDTH:
        X, scale, info = (ztrsyl if T.dtype.kind == "c" else dtrsyl)(T, M, F, tranb="C")
    # LAPACK takes poles for zero that are small relative to all entries; by halves they are not
    k, j = (_middle(T), _middle(M)) if info else (0, 0)
    if k and (n >= m or not j):
        below = _sylvester(T[k:, k:], M, F[k:])
        above = _sylvester(T[:k, :k], M, F[:k] + T[:k, k:] @ below)
        return np.concatenate([above, below])
    if j:
        right = _sylvester(T, M[j:, j:], F[:, j:])
        left = _sylvester(T, M[:j, :j], F[:, :j] + right @ M[:j, j:].conj().T)
        return np.concatenate([left, right], axis=1)
    return X / -scale


def _middle(T: np.ndarray) -> int:
    """Where T is divided without parting a pair; 0 if it is a single pole or pair."""
    k = len(T) // 2
    return (k + bool(T[k, k - 1])) % len(T) if k else 0


def _one_input(T: np.ndarray, B: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same, from T U + U M^H = -B beta^H: of one input, the poles determine beta and M."""
    n, poles = len(T), T.diagonal()
    beta = np.sqrt(2 * abs(real(poles))).astype(T.dtype)
    pairs = T.diagonal(-1).nonzero()[0]
    a, b, c, d = _entries(T, pairs)
    beta[pairs], beta[pairs + 1] = 0.0, np.sqrt(-2 * (a + d))
    M = -np.outer(beta, beta)
    M.ravel()[:: n + 1], M.ravel()[n :: n + 1] = poles, 0.0
    M[pairs, pairs], M[pairs + 1, pairs + 1] = 0.0, a + d
    M[pairs, pairs + 1] = root = np.sqrt(a * d - b * c)
    M[pairs + 1, pairs] = -root
    beta = beta[:, None]
    return _sylvester(T, M, B @ beta.T), beta, M


def _from_gramian(T: np.ndarray, B: np.ndarray) -> Any:
    """The same by Cholesky of U U^H, if its states are far from dependent, else None."""
    P = _sylvester(T, T, B @ B.conj().T)
    units = np.sqrt(P.diagonal())
    if not units.all():
        return None
    K, info = dpotrf(P[::-1, ::-1] / units[::-1, None] / units[::-1], lower=1)
    if info:
        return None
    inverse, _ = dtrtri(K, lower=1)
    if not np.vdot(inverse, inverse) < INDEPENDENT:
        return None
    U = units[:, None] * K[::-1, ::-1]
    beta = inverse[::-1, ::-1] @ (B / units[:, None])
    low = T.diagonal(-1) * U.diagonal()[:-1] / U.diagonal()[1:]
    return U, beta, _similar(beta, low)


def _similar(beta: np.ndarray, low: np.ndarray) -> np.ndarray:
    """M = U^-1 T U, upper quasi-triangular, from M + M^T = -beta beta^T and its subdiagonal."""
    M, n = beta @ -beta.T, len(beta)
    entries = M.ravel()
    entries[:: n + 1] *= 0.5
    entries[1 :: n + 1] -= low
    entries[n :: n + 1] = low
    return M


def _poles_only(T: np.ndarray, B: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same for a few poles and no pairs, number by number: for NumPy too few to be quick."""
    t, b, n = T.tolist(), B.tolist(), len(T)
    columns, beta = [[0.0] * n for _ in b], [[0.0] * len(row) for row in b]
    for j in range(n - 1, -1, -1):
        size = math.hypot(*map(abs, b[j]))
        if size <= TINY:  # a state that is not reached
            continue
        pole, column = t[j][j].conjugate(), columns[j]
        root = math.sqrt(-2 * pole.real)
        column[j] = u = size / root
        beta[j] = row = [x * (root / size) for x in b[j]]
        back = [x.conjugate() for x in row]
        for i in range(j - 1, -1, -1):
            ti, bi = t[i], b[i]
            x = (
                ti[j] * u
                + sum(map(mul, bi, back))
                + sum(map(mul, ti[i + 1 : j], column[i + 1 : j]))
            )
            column[i] = x = -x / (ti[i] + pole)
            b[i] = [y - x * z for y, z in zip(bi, row)]  # noqa: B905
    rows = np.array(beta, T.dtype).reshape(B.shape)
    M = rows @ -rows.conj().T
    M.ravel()[:: n + 1], M.ravel()[n :: n + 1] = T.diagonal(), 0.0
    return np.array(columns, T.dtype).reshape(n, n).T, rows, M


def _pair(T: np.ndarray, B: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same for a real pair, P = S S^T, S = [sqrt(det T) B, adj(T) B] / sqrt(-2 tr T det T)."""
    a, b, c, d = T.ravel().tolist()
    det, trace = a * d - b * c, a + d
    root, scale = math.sqrt(-2 * trace), 1 / math.sqrt(-2 * trace * det)
    first = np.concatenate([B[0] / root, (scale * d) * B[0] - (scale * b) * B[1]])
    last = np.concatenate([B[1] / root, (scale * a) * B[1] - (scale * c) * B[0]])
    r = dnrm2(last)
    if r <= TINY:
        return np.zeros((2, 2)), np.zeros_like(B), T
    last /= r
    x = float(first @ last)
    first -= x * last
    u = dnrm2(first)
    first /= u
    beta = root * np.stack([first[: B.shape[1]], last[: B.shape[1]]])
    return np.array([[u, x], [0.0, r]]), beta, _similar(beta, np.array([c * u / r]))
