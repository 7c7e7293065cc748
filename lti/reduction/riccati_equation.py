"""A^H X + X A - (X B + S) R^-1 (B^H X + S^H) + Q = 0: the stabilizing solution, or why none is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import solve_continuous_are, solve_discrete_are

from lti._backend.arrays import Array
from lti.errors import LTIError, OptionError
from lti.gramians.equation import solve_lyapunov
from lti.systems.statespace import StateSpace

__all__ = ["stabilizing_solution"]

MARGIN = 1e-7  # relative; half of the digits are lost where closed-loop poles meet there
SOLVED = 1e-6  # a residual, relative to the terms of the equation
STEPS = 60  # of Newton's method, which halves an error that is large, and squares a small one
DONE = 1e-13


def stabilizing_solution(G: StateSpace, Q: Array, R: Array, S: Array, need: str) -> Array:
    """X with A^H X + X A - (X B + S) R^-1 (B^H X + S^H) + Q = 0, or discrete, of a stable A.

    Raises
    ------
    OptionError
        If there is none: `need` says what it takes, ``Phi = R + S^H Z + Z^H S + Z^H Q Z`` definite
        on the stability boundary, ``Z = (s - A)^-1 B``.

    References
    ----------
    Kleinman, "On an iterative technique for Riccati equation computations", IEEE TAC 13 (1968);
    Lancaster, Rodman, "Algebraic Riccati equations", Oxford (1995), section 9.2.
    """
    if G.order == 0:
        return np.zeros((0, 0))
    if G.n_inputs == 0:  # SciPy wants an R
        return solve_lyapunov(G.A.conj().T, Q, G.dt)
    solve: Callable[..., Any] = solve_discrete_are if G.is_discrete else solve_continuous_are
    try:
        X = solve(G.A, G.B, Q, R, s=S)
        X, why = (X + X.conj().T) / 2, ""
    except (np.linalg.LinAlgError, ValueError) as error:
        X, why = None, f" ({error})"
    # SciPy returns something where the solution is complex or infinite, and also for stiff systems
    if X is None or not _solves(G, Q, R, S, X):
        X = _by_newton(G, Q, R, S)
    if X is None or not _solves(G, Q, R, S, X):
        raise OptionError(f"no stabilizing solution of the Riccati equation is found{why}: {need}")
    poles = np.linalg.eigvals(G.A - G.B @ _feedback(G, R, S, X))
    margin = 1 - np.abs(poles) if G.is_discrete else -poles.real / np.linalg.norm(G.A)
    near = poles[margin < MARGIN]
    on_boundary = np.exp(1j * np.angle(near)) if G.is_discrete else 1j * near.imag
    if margin.min() <= 0 or any(_is_singular(G, Q, R, S, s) for s in on_boundary):
        raise OptionError(
            "the Riccati equation has a closed-loop pole on the stability boundary, within "
            f"{MARGIN:g}: {need}"
        )
    return X


def _feedback(G: StateSpace, R: Array, S: Array, X: Array) -> Array:
    """F with u = -F x."""
    XB = G.A.conj().T @ X @ G.B + S if G.is_discrete else X @ G.B + S
    return np.linalg.solve(R + G.B.conj().T @ X @ G.B if G.is_discrete else R, XB.conj().T)


def _solves(G: StateSpace, Q: Array, R: Array, S: Array, X: Array) -> bool:
    A, AH, F = G.A, G.A.conj().T, _feedback(G, R, S, X)
    terms = [AH @ X @ A, -X] if G.is_discrete else [AH @ X, X @ A]
    terms += [Q, -((AH @ X @ G.B if G.is_discrete else X @ G.B) + S) @ F]
    return bool(np.linalg.norm(sum(terms)) <= SOLVED * sum(map(np.linalg.norm, terms)))


def _by_newton(G: StateSpace, Q: Array, R: Array, S: Array) -> Array | None:
    """By (A - B F)^H X + X (A - B F) + Q - S F - F^H S^H + F^H R F = 0, from F = 0 on."""
    X, F = None, np.zeros_like(S.conj().T)
    try:
        for _ in range(STEPS):
            SF = S @ F
            rest = Q - SF - SF.conj().T + F.conj().T @ R @ F
            last, X = X, solve_lyapunov((G.A - G.B @ F).conj().T, rest, G.dt)
            F = _feedback(G, R, S, X)
            if last is not None and np.linalg.norm(X - last) <= DONE * np.linalg.norm(X):
                break
    except (LTIError, np.linalg.LinAlgError):
        return None
    return X


def _is_singular(G: StateSpace, Q: Array, R: Array, S: Array, s: complex) -> bool:
    """Whether Phi (s) is singular to rounding."""
    Z = np.linalg.solve(s * np.eye(G.order) - G.A, G.B + 0j)
    SZ, ZQZ = S.conj().T @ Z, Z.conj().T @ Q @ Z
    smallest = abs(np.linalg.eigvalsh(R + SZ + SZ.conj().T + ZQZ)).min(initial=np.inf)
    return bool(smallest <= MARGIN**2 * sum(map(np.linalg.norm, (R, SZ, ZQZ))))
