"""Systems with a known truth: all-pass ones, P = Q = I; and a system as the code that makes it."""

from __future__ import annotations

from typing import Any

import numpy as np

from lti._backend.arrays import to_numpy
from lti.systems.convert import as_statespace
from lti.systems.protocol import SystemLike
from lti.systems.statespace import DiagonalStateSpace, StateSpace

__all__ = ["all_pass", "as_code", "unitary"]


def unitary(n: int, seed: int, is_complex: bool = False) -> np.ndarray:
    """U^H U = I, a random orthogonal or unitary matrix.

    Parameters
    ----------
    n : int
        Size.
    seed : int
        Equal seeds give equal matrices.
    is_complex : bool, optional

    Returns
    -------
    array (n, n)
    """
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, n))
    return np.linalg.qr(X + 1j * rng.standard_normal((n, n)) if is_complex else X)[0]


def all_pass(poles: Any, directions: Any = None) -> StateSpace:
    """prod (s + p^*) / (s - p) in balanced form, P = Q = I: every gain is 1, every order's error 2.

    Parameters
    ----------
    poles : array (n,)
        In the open left half-plane.
    directions : array (n, m), optional
        Of m inputs and outputs, the unit vector that each pole acts on; by default there is one.

    Returns
    -------
    StateSpace
        Continuous.

    Examples
    --------
    >>> import lti, lti.testing
    >>> G = lti.testing.all_pass([-1.0, -2.0])
    >>> print(f"{lti.hinf_norm(G):.6f}", lti.hankel_singular_values(G).round(6))
    1.000000 [1. 1.]
    """
    poles = np.asarray(poles)
    v = np.ones((len(poles), 1)) if directions is None else np.asarray(directions)
    B = np.sqrt(-2 * poles.real)[:, None] * v
    # P = I asks for A + A^H = -B B^H: the cascade of Takenaka and Malmquist
    A = np.diag(poles) - np.tril(B @ B.conj().T, -1)
    return StateSpace(A, B, -B.conj().T, np.eye(v.shape[1]), 0)


def as_code(sys: SystemLike) -> str:
    """lti.StateSpace(A=..., B=..., C=..., D=..., dt=...): an expression that makes `sys` again.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts

    Returns
    -------
    str

    Examples
    --------
    >>> import lti, lti.testing
    >>> print(lti.testing.as_code(lti.StateSpace([[-0.5]], [[1.0]], [[2.0]])))
    lti.StateSpace(
        A=[[-0.5]],
        B=[[1.0]],
        C=[[2.0]],
        D=[[0.0]],
        dt=0,
    )
    """
    sys = as_statespace(sys)
    diagonal = isinstance(sys, DiagonalStateSpace)
    names = ("poles" if diagonal else "A", "B", "C", "D")
    entries = [f"{name}={_literal(to_numpy(getattr(sys, name)))}" for name in names]
    entries += [f"dt={sys.dt!r}"] + ["conjugate=True"] * getattr(sys, "conjugate", False)
    return f"lti.{type(sys).__name__}(\n" + "".join(f"    {entry},\n" for entry in entries) + ")"


def _literal(x: np.ndarray) -> str:
    x = x + 0  # no negative zeros
    if x.size and x.dtype in (np.float64, np.complex128):
        return repr(x.tolist())
    return f"np.array({x.tolist()!r}, dtype={str(x.dtype)!r}).reshape({x.shape})"
