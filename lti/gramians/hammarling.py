"""Hammarling's method, blocked: U with T U U^H + U U^H T^H + B B^H = 0 of a quasi-triangular T.

U U^H is never formed, so no digit is lost to a square. NumPy and the LAPACK of SciPy only.
"""

from __future__ import annotations

import math
from operator import mul
from typing import Any

import numpy as np
from scipy.linalg import get_blas_funcs, get_lapack_funcs

from lti._backend.arrays import lq_factor, real
from lti.gramians.lyapunov import INDEPENDENT, TINY, cauchy_factor
from lti.systems.schur import WIDTH, middle, pairs_of, sylvester

__all__ = ["factor", "hammarling"]

INPUTS = 4  # so many are quicker one by one, if there are no more than WIDTH states
FEW = 8  # states that Python solves for quicker than NumPy

(dnrm2,) = get_blas_funcs(("nrm2",), dtype=np.float64)
dpotrf, dtrtri = get_lapack_funcs(("potrf", "trtri"), dtype=np.float64)


def factor(T: np.ndarray, B: np.ndarray) -> np.ndarray:
    """U (n, n) with T U U^H + U U^H T^H + B B^H = 0, in the end the sum over the inputs."""
    (n, m), k = B.shape, middle(T)
    if np.count_nonzero(T) == np.count_nonzero(T.diagonal()):
        return cauchy_factor(T.diagonal(), B, False)  # also small states to all digits
    if 2 < n <= WIDTH and m > 1 and T.diagonal(-1).any() and (found := _from_gramian(T, B)):
        return found[0]
    if 0 < n <= WIDTH and m <= INPUTS:
        T = np.asfortranarray(T)
        beta, M = _of_one_input(T)
        each = [sylvester(T, M, b[:, None] * beta[:, 0]) for b in B.T]
        return lq_factor(np.concatenate(each, axis=1))
    if n <= WIDTH or not k:
        return hammarling(T, B)[0]
    U2, X, B1 = _last(T, B, k)[:3]
    U = np.zeros((n, n), T.dtype, order="F")
    U[:k, :k], U[:k, k:], U[k:, k:] = factor(T[:k, :k], B1), X, U2
    return U


def hammarling(T: np.ndarray, B: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """U upper triangular with T U U^H + U U^H T^H + B B^H = 0, beta = U^-1 B and M = U^-1 T U.

    Of T = [T1, F; 0, T2] and U = [U1, X; 0, U2] the last states have an equation of their own; then
    ``T1 X + X M2^H = -(F U2 + B1 beta2^H)``, and the first have one with ``B1 - X beta2`` for B1.
    As M + M^H = -beta beta^H, both stay bounded where U is singular.
    """
    n = len(T)
    paired = n > 1 and T.diagonal(-1).any()
    if 0 < n <= WIDTH and B.shape[1] == 1:
        beta, M = _of_one_input(T)
        return sylvester(T, M, B @ beta.T), beta, M
    if not paired and n <= FEW:
        return _poles_only(T, B)
    if n == 2:
        return _pair(T, B)
    found = _from_gramian(T, B) if paired and n <= WIDTH else None
    if found:
        return found
    k = middle(T)
    U2, X, B1, beta2, M2 = _last(T, B, k)
    U1, beta1, M1 = hammarling(T[:k, :k], B1)
    U, M = np.zeros((2, n, n), T.dtype).transpose(0, 2, 1)
    U[:k, :k], U[:k, k:], U[k:, k:] = U1, X, U2
    M[:k, :k], M[:k, k:], M[k:, k:] = M1, beta1 @ -beta2.conj().T, M2
    return U, np.concatenate([beta1, beta2]), M


def _last(T: np.ndarray, B: np.ndarray, k: int) -> tuple[np.ndarray, ...]:
    """U2, X, and the B of the first k states, beta2, M2."""
    U2, beta2, M2 = hammarling(T[k:, k:], B[k:])
    X = sylvester(T[:k, :k], M2, T[:k, k:] @ U2 + B[:k] @ beta2.conj().T)
    return U2, X, B[:k] - X @ beta2, beta2, M2


def _of_one_input(T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """beta and M of one input, which the poles determine: T U + U M^H = -B beta^H."""
    poles, pairs = T.diagonal(), T.diagonal(-1).nonzero()[0]
    beta = np.sqrt(2 * abs(real(poles))).astype(T.dtype)
    a, b, c, d = pairs_of(T, pairs)
    beta[pairs], beta[pairs + 1] = 0.0, np.sqrt(-2 * (a + d))
    M = (-beta[:, None] * beta).T  # in the order of LAPACK
    on, above, below = (M.T.ravel()[k :: len(T) + 1] for k in (0, len(T), 1))
    on[:], below[:] = poles, 0.0
    on[pairs], on[pairs + 1] = 0.0, a + d
    above[pairs] = root = np.sqrt(a * d - b * c)
    below[pairs] = -root
    return beta[:, None], M


def _from_gramian(T: np.ndarray, B: np.ndarray) -> Any:
    """The same by Cholesky of U U^H, if its states are far from dependent, else None."""
    P = sylvester(T, T, B @ B.conj().T)
    P = (P + P.conj().T) / 2  # modes of little damping magnify what is not symmetric
    power = P.diagonal()
    if not (power > 0).all():  # rounding may make one negative
        return None
    units = np.sqrt(power)
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
    first /= u or 1.0  # two states that to rounding are one
    beta = root * np.stack([first[: B.shape[1]], last[: B.shape[1]]])
    return np.array([[u, x], [0.0, r]]), beta, _similar(beta, np.array([c * u / r]))
