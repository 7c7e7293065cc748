"""The Lyapunov equation itself, for any right-hand side and any A with one solution."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import get_lapack_funcs, schur, solve_triangular

from lti._backend.arrays import Array, from_numpy, is_complex, narrow, to_numpy
from lti._backend.checks import common, no_derivative, require_matrix, timebase
from lti.errors import DimensionError, UnstableError

__all__ = ["solve_lyapunov"]

EPS = 2.0**-52


def solve_lyapunov(A: Array, Q: Array, dt: float | bool = 0) -> Array:
    """A X + X A^H + Q = 0, or in discrete time A X A^H - X + Q = 0.

    Parameters
    ----------
    A : array (..., n, n)
        Stable or not.
    Q : array (..., n, n)
        Any matrix; X is Hermitian if Q is.
    dt : float or True, optional
        0 (the default) is the equation of continuous time, as in `StateSpace`.

    Returns
    -------
    array (..., n, n)
        X, computed on the host in double precision.

    Raises
    ------
    DerivativeError
        If derivatives are asked for; those of Gramians are in `controllability_gramian`.
    DimensionError
        If the shapes do not fit.
    UnstableError
        If the equation has no unique solution: two poles, or a pole and itself, mirror each other
        at the stability boundary.

    See Also
    --------
    gramian_factors : For ``Q = B B^H`` of a stable system a factor of X is more accurate.

    References
    ----------
    Bartels, Stewart, "Solution of the matrix equation AX + XB = C", Comm. ACM 15 (1972);
    Kitagawa, "An algorithm for solving the matrix equation X = F X F^T + S", Int. J. Control 25
    (1977).

    Examples
    --------
    >>> import lti, numpy as np
    >>> A, Q = np.array([[-1.0, 2.0], [0.0, 3.0]]), np.array([[2.0, 1.0], [1.0, -1.0]])
    >>> X = lti.solve_lyapunov(A, Q)
    >>> np.allclose(A @ X + X @ A.T + Q, 0)
    True
    >>> X = lti.solve_lyapunov(A / 4, Q, dt=True)
    >>> np.allclose(A / 4 @ X @ A.T / 4 - X + Q, 0)
    True
    """
    A, Q = common(A=A, Q=Q)
    require_matrix(A=A, Q=Q)
    if A.shape[-1] != A.shape[-2] or tuple(A.shape) != tuple(Q.shape):
        raise DimensionError(
            f"A and Q must be square and of one shape, got {tuple(A.shape)} and {tuple(Q.shape)}"
        )
    no_derivative("solve_lyapunov (unlike controllability_gramian) has", A, Q)
    discrete = bool(timebase(dt))
    a, q = (to_numpy(x).astype(complex) for x in (A, Q))
    X = np.empty_like(q)
    for i in np.ndindex(a.shape[:-2]):
        X[i] = _solution(a[i], q[i], discrete)
    return narrow(from_numpy(X if is_complex(A) else X.real.copy(), like=A), like=A)


def _solution(A: np.ndarray, Q: np.ndarray, discrete: bool) -> np.ndarray:
    """X of one system, by the Schur form A = U T U^H."""
    form: Any = schur(A, output="complex")
    T, U = form
    poles = np.diagonal(T)
    _require_unique(poles, discrete)
    hermitian = (Q == Q.conj().T).all()
    Q = U.conj().T @ Q @ U
    X = U @ (_discrete(T, Q) if discrete else _continuous(T, Q)) @ U.conj().T
    return (X + X.conj().T) / 2 if hermitian else X  # near mirrored poles rounding would show


def _continuous(T: np.ndarray, Q: np.ndarray) -> np.ndarray:
    if T.size == 0:
        return Q
    trsyl: Any = get_lapack_funcs("trsyl", (T, Q))
    X, scale, _ = trsyl(T, T, -Q, tranb="C")
    return X / scale


def _discrete(T: np.ndarray, Q: np.ndarray) -> np.ndarray:
    """Column by column from the last: (conj(t_kk) T - 1) x_k = -q_k - T sum_j>k conj(t_kj) x_j."""
    n, X = len(T), np.zeros_like(Q)
    for k in reversed(range(n)):
        known = Q[:, k] + T @ (X[:, k + 1 :] @ T[k, k + 1 :].conj())
        X[:, k] = solve_triangular(T[k, k].conj() * T - np.eye(n), -known)
    return X


def _require_unique(poles: np.ndarray, discrete: bool) -> None:
    pairs = poles[:, None], poles[None, :].conj()
    gap = np.abs(1 - pairs[0] * pairs[1]) if discrete else np.abs(pairs[0] + pairs[1])
    size = 1.0 if discrete else np.abs(poles).max(initial=0.0)
    if gap.size and gap.min() <= EPS * size:
        i, j = np.unravel_index(np.argmin(gap), gap.shape)
        raise UnstableError(
            f"the equation has no unique solution: the poles {poles[i]:.9g} and {poles[j]:.9g} "
            "mirror each other at the stability boundary; move one of them"
        )
