"""W A T = diag(A_1, A_2), W T = I: two groups of poles taken apart, in any units of the states."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from scipy.linalg import eig, get_lapack_funcs

from lti._backend.arrays import frobenius
from lti._backend.blocks import blocks_of
from lti.systems.schur import TINY, SchurForm, sylvester

__all__ = ["block_sizes", "decouple", "sensitivity"]

EPS = 2.0**-52


def block_sizes(form: SchurForm) -> np.ndarray:
    """|A_kk|_F of the irreducible block of each pole (n,): rounding moves it in proportion."""
    sizes = np.empty(len(form.T))
    for k in blocks_of(form.edges):
        sizes[k] = frobenius(form.T[k, k])
    return sizes


def sensitivity(form: SchurForm) -> np.ndarray:
    """|u| |v| / |u^H v| of each pole (n,) in its irreducible block; u, v are its eigenvectors.

    A change of the block moves the pole by so much, relatively to the change.
    """
    found = np.ones(len(form.T))
    for k in blocks_of(form.edges):
        if k.stop - k.start > 1:
            solved: Any = eig(form.T[k, k], left=True, right=True)
            poles, U, V = solved
            at = abs(form.poles[k, None] - poles).argmin(axis=1)
            found[k] = 1 / np.maximum(abs((U.conj() * V).sum(axis=0)), TINY)[at]
    return found


def decouple(form: SchurForm, first: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """T, W with the poles `first` (n,) in the leading block; how much of the states is rounding.

    Each irreducible block is sorted by rotations, and the couplings are taken out by Sylvester
    equations, ``[1 Y; 0 1]``, from one run of states of the same group to the next: no rounding
    passes between states whose units do not compare. The last number is ``eps tr |W| |T|``.

    References
    ----------
    Bavely, Stewart, "An algorithm for computing reducing subspaces by block diagonalization", SIAM
    J. Numer. Anal. 16 (1979).
    """
    S, Q, first = form.T.copy(), form.Q.copy(), first.copy()
    for k in blocks_of(form.edges):
        if (np.diff(first[k].astype(int)) > 0).any():
            S[k, k], Z = _sorted(S[k, k], first[k])
            Q[:, k], S[: k.start, k] = Q[:, k] @ Z, S[: k.start, k] @ Z
            S[k, k.stop :] = Z.conj().T @ S[k, k.stop :]
            first[k] = np.sort(first[k])[::-1]
    X, inverse = np.eye(len(S), dtype=S.dtype), np.eye(len(S), dtype=S.dtype)
    ends = np.unique(np.concatenate([[0], 1 + np.flatnonzero(np.diff(first)), [len(S)]]))
    for run in (slice(*pair) for pair in pairwise(ends.tolist())):
        others = np.flatnonzero(first[: run.start] != first[run.start])
        if not S[others, run].any():
            continue
        # T_oo Y - Y T_rr = -T_or, as an equation with an upper triangular matrix on the right
        right = -S[run, run].conj().T[::-1, ::-1]
        with np.errstate(all="ignore"):
            Y = sylvester(S[np.ix_(others, others)], right, S[others, run][:, ::-1])[:, ::-1]
            S[:, run] += S[:, others] @ Y
            S[others, run] = 0.0
            S[others, run.stop :] -= Y @ S[run, run.stop :]
            X[:, run] += X[:, others] @ Y
            inverse[others] -= Y @ inverse[run]
    order = np.argsort(~first, kind="stable")
    with np.errstate(all="ignore"):
        T, W = Q @ X[:, order], inverse[order] @ Q.conj().T
        lost = float(EPS * (abs(W) * abs(T.T)).sum())
    return form.d[:, None] * T, W / form.d, lost


def _sorted(T: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The Schur form with the poles `first` in front, and the rotation that brings it there."""
    (trsen,) = get_lapack_funcs(("trsen",), (T,))
    T, Z, *_ = trsen(first, T, np.eye(len(T), dtype=T.dtype), job="N")
    return T, Z
