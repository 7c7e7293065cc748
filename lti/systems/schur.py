"""A = X T X^-1, X = diag(d) Q: a Schur form in a scaling of the states, by irreducible blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import get_lapack_funcs

from lti._backend.blocks import Scaling, blocks_of, choose_scaling
from lti.errors import LTIError

__all__ = [
    "SchurForm",
    "middle",
    "pairs_of",
    "poles_of",
    "quasi_triangular_poles",
    "schur_form",
    "shows_poles",
    "sylvester",
]

TINY = 2.0**-1000
WIDTH = 32  # states that LAPACK solves for at once, without matrix products
dgees, dtrsyl = get_lapack_funcs(("gees", "trsyl"), dtype=np.float64)
zgees, ztrsyl = get_lapack_funcs(("gees", "trsyl"), dtype=np.complex128)


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
    lost : float, optional
        What rounding has moved C (s - A)^-1 B by, relatively, where it was estimated.
    """

    T: np.ndarray
    Q: np.ndarray
    d: np.ndarray
    poles: np.ndarray
    edges: np.ndarray
    lost: float = 0.0


def schur_form(A: np.ndarray, scaling: Scaling | None = None) -> SchurForm:
    """A = X T X^-1 with X = diag(d) Q, from one irreducible block of A at a time."""
    order, edges, d = scaling or choose_scaling(A)
    T, Q = _ordered(A, order, d[order]), np.zeros_like(A)
    for k in blocks_of(edges):
        if k.stop - k.start == 1:
            Q[order[k], k] = 1.0
            continue
        T[k, k], Z = _schur(T[k, k])
        Q[order[k], k] = Z
        T[: k.start, k] = T[: k.start, k] @ Z
        T[k, k.stop :] = Z.conj().T @ T[k, k.stop :]
    return SchurForm(T, Q, d, quasi_triangular_poles(T), edges)


def _ordered(A: np.ndarray, order: np.ndarray, d: np.ndarray) -> np.ndarray:
    """A / d_i * d_j with its states in another order; columns are contiguous, as in LAPACK."""
    A = A.T[order[:, None], order].T
    A *= d / d[:, None]
    return A


def _schur(A: np.ndarray, vectors: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """T, Q with A = Q T Q^H."""
    gees = zgees if A.dtype.kind == "c" else dgees
    T, *_, Q, _, info = gees(_unsorted, A, lwork=64 * len(A), compute_v=vectors)
    if info:
        raise LTIError(
            f"LAPACK found no Schur form of A, {A.shape}, with entries up to {abs(A).max():.3g}; "
            "choose other units of the states"
        )
    return T, Q


def poles_of(A: np.ndarray) -> np.ndarray:
    """The poles of A (n, n), each irreducible block for itself; of a Schur form those it shows."""
    if shows_poles(A):
        return quasi_triangular_poles(A)
    order, edges, d = choose_scaling(A)
    A = _ordered(A, order, d[order])
    forms = [_schur(A[k, k], vectors=False)[0] for k in blocks_of(edges)]
    return np.concatenate([quasi_triangular_poles(T) for T in forms])


def shows_poles(A: np.ndarray) -> bool:
    """Whether A (n, n) is quasi-triangular, as a Schur form is."""
    below = A.diagonal(-1) != 0
    low = A[2:, :1].any() or np.tril(A, -2).any()
    return not (low or (below[1:] & below[:-1]).any())


def _unsorted(*pole: Any) -> None:
    """LAPACK asks for a rule by which to sort poles, and does not use it."""


def quasi_triangular_poles(T: np.ndarray) -> np.ndarray:
    """The eigenvalues of a quasi-triangular T."""
    poles = T.diagonal() + 0j
    k = T.diagonal(-1).nonzero()[0]
    if k.size:
        pairs = np.array(pairs_of(T, k))
        size = abs(pairs).max(axis=0)  # squares need room
        a, b, c, d = pairs / size
        root, mean, det = np.sqrt(((a - d) / 2) ** 2 + b * c + 0j), (a + d) / 2, a * d - b * c
        both = np.stack([mean + root, mean - root])
        near, far = abs(both), abs(both[::-1])
        lost = near < far / 2  # cancelled: their product is the determinant
        both[lost] = (det / np.where(lost, both[::-1], 1.0))[lost]
        poles[k], poles[k + 1] = size * both
    return poles


def pairs_of(T: np.ndarray, k: np.ndarray) -> Any:
    """a, b, c, d (len(k),) of the 2 x 2 blocks [[a, b], [c, d]] that begin at k."""
    poles = T.diagonal()
    return poles[k], T.diagonal(1)[k], T.diagonal(-1)[k], poles[k + 1]


def sylvester(T: np.ndarray, M: np.ndarray, F: np.ndarray) -> np.ndarray:
    """X with T X + X M^H = -F of quasi-triangular T and M, by halves."""
    (n, m), (X, scale, info) = F.shape, (F, 1.0, 1)
    if max(n, m) <= WIDTH:
        X, scale, info = (ztrsyl if T.dtype.kind == "c" else dtrsyl)(T, M, F, tranb="C")
    # LAPACK takes poles for zero that are small relative to all entries; by halves they are not
    k, j = (middle(T), middle(M)) if info else (0, 0)
    if k and (n >= m or not j):
        below = sylvester(T[k:, k:], M, F[k:])
        above = sylvester(T[:k, :k], M, F[:k] + T[:k, k:] @ below)
        return np.concatenate([above, below])
    if j:
        right = sylvester(T, M[j:, j:], F[:, j:])
        left = sylvester(T, M[:j, :j], F[:, :j] + right @ M[:j, j:].conj().T)
        return np.concatenate([left, right], axis=1)
    return X / -scale


def middle(T: np.ndarray) -> int:
    """Where T is divided without parting a pair; 0 if it is a single pole or pair."""
    k = len(T) // 2
    return (k + bool(T[k, k - 1])) % len(T) if k else 0
