"""Parts of a system: without the states that do nothing; slow and fast."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lti._backend.arrays import from_numpy, narrow, to_numpy, tracked
from lti._backend.checks import positive
from lti.errors import DefectiveError, DerivativeError, DimensionError
from lti.systems.algebra import in_units, state_scaling
from lti.systems.convert import as_statespace
from lti.systems.decouple import decouple
from lti.systems.protocol import SystemLike
from lti.systems.schur import schur_form
from lti.systems.statespace import StateSpace

__all__ = ["freqsep", "minimal", "minimal_basis"]

EPS = 2.0**-52
APART = 1e-6  # the largest rounding of a separation, relative


def minimal(sys: SystemLike, tol: float | None = None) -> StateSpace:
    """V^H A V, V^H B, C V on span [B, A B, A^2 B, ...], and the same for the dual (minreal).

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        A single system; its poles may lie anywhere.
    tol : float, optional
        A new direction of ``A V`` counts if it is above `tol` times the size of A, of B above
        `tol` times that of B, in units of the states in which both are balanced. ``10 n^2 eps``
        by default.

    Returns
    -------
    StateSpace
        Without the states that no input reaches or no output sees; the same transfer function.

    Raises
    ------
    DerivativeError
        If derivatives are asked for: the number of states has none.
    DimensionError
        If `sys` is a batch, whose systems may have different minimal orders.

    See Also
    --------
    Balancing.minimal_order : Of stable systems, what is above the rounding of the Gramians.

    References
    ----------
    Van Dooren, "The generalized eigenstructure problem in linear system theory", IEEE TAC 26
    (1981).

    Examples
    --------
    >>> import lti, numpy as np
    >>> A, B, C = np.diag([1.0, 2.0, -3.0, -4.0]), [[1.0], [0.0], [1.0], [1.0]], np.ones((1, 4))
    >>> lti.minimal((A, B, C)).order
    3
    """
    original = as_statespace(sys)
    G = _on_host(original, "minimal")
    if tol is None:
        tol = 10 * G.order**2 * EPS
    positive("tol", tol)
    T, W = minimal_basis(G, tol)
    if len(W) == G.order:
        return original.to_dense()
    return _back(original, *_projected(G, W, T), original.D)


def minimal_basis(G: StateSpace, tol: float) -> tuple[np.ndarray, np.ndarray]:
    """T, W of the states that inputs reach and outputs see, in the sense of `minimal`."""
    # LAPACK counts the diagonal too, which no scaling changes
    d = state_scaling(replace(G, A=G.A - np.diag(np.diagonal(G.A))))
    G = in_units(G, d)
    V = _reached(G.A, G.B, tol)
    A, _, C = _projected(G, V.conj().T, V)
    V = V @ _reached(A.conj().T, C.conj().T, tol)
    return d[:, None] * V, V.conj().T / d


def _reached(A: np.ndarray, B: np.ndarray, tol: float) -> np.ndarray:
    """An orthonormal basis of span [B, A B, A^2 B, ...], block by block."""
    n = len(A)
    V, new = np.zeros((n, 0), dtype=A.dtype), B
    size = np.linalg.norm(B, axis=0).max(initial=0.0)
    while size > 0 and V.shape[1] < n:
        for _ in range(2):  # twice is enough
            new = new - V @ (V.conj().T @ new)
        U, gains, _ = np.linalg.svd(new, full_matrices=False)
        U = U[:, gains > tol * size]
        if U.shape[1] == 0:
            break
        U = U[:, : n - V.shape[1]]
        U = np.linalg.qr(U - V @ (V.conj().T @ U))[0]
        V, new, size = np.concatenate([V, U], axis=1), A @ U, np.linalg.norm(A, ord=2)
    return V


def freqsep(sys: SystemLike, w: float) -> tuple[StateSpace, StateSpace]:
    """G = G_slow + G_fast: the poles with |p| < w, and the others.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        A single system; its poles may lie anywhere.
    w : float
        In rad per unit of time (rad per sample if ``dt`` is True); of a discrete pole z,
        ``|log z| / dt`` counts.

    Returns
    -------
    slow, fast : StateSpace
        The fast part has D. Real systems have real parts.

    Raises
    ------
    DefectiveError
        If poles on both sides of w are too close to be separated.
    DerivativeError
        If derivatives are asked for.
    DimensionError
        If `sys` is a batch.
    OptionError
        If `w` is not positive.

    Examples
    --------
    >>> import lti, numpy as np
    >>> sys = lti.StateSpace(np.diag([-1.0, -100.0]), np.ones((2, 1)), np.ones((1, 2)))
    >>> slow, fast = lti.freqsep(sys, 10.0)
    >>> slow.poles.real, fast.poles.real
    (array([-1.]), array([-100.]))
    """
    original = as_statespace(sys)
    positive("w", w)
    G = _on_host(original, "freqsep")
    step = 1.0 if G.dt is True else float(G.dt)

    form = schur_form(G.A)
    with np.errstate(divide="ignore"):
        rates = abs(np.log(form.poles)) / step if G.is_discrete else abs(form.poles)
    slow = rates < w
    T, W, lost = decouple(form, slow)
    if not lost < APART:
        raise DefectiveError(
            f"poles on both sides of w={w:g} are too close to be separated: the parts would have "
            f"{-np.log10(APART):.0f} digits or fewer; choose another w"
        )
    k = np.count_nonzero(slow)
    return (
        _back(original, *_projected(G, W[:k], T[:, :k]), 0 * G.D),
        _back(original, *_projected(G, W[k:], T[:, k:]), G.D),
    )


def _projected(G: StateSpace, W: np.ndarray, T: np.ndarray) -> tuple[np.ndarray, ...]:
    return W @ G.A @ T, W @ G.B, G.C @ T


def _on_host(sys: Any, name: str) -> StateSpace:
    """A single system in double precision on the host."""
    if sys.batch_shape:
        raise DimensionError(
            f"{name} takes one system, got a batch of shape {sys.batch_shape}; pass each of them"
        )
    if tracked(*sys.matrices):
        raise DerivativeError(f"{name} has no derivative; detach the system from its graph first")
    dense = sys.to_dense().double()
    A, B, C, D = (to_numpy(x) for x in dense.matrices)
    return StateSpace(A, B, C, D, dense.dt)


def _back(original: Any, *matrices: Any) -> StateSpace:
    """A system in the library and precision of the original, with its labels of signals."""
    from_host = [from_numpy(np.asarray(to_numpy(x)), like=original.B) for x in matrices]
    A, B, C, D = (narrow(x, like=original.B) for x in from_host)
    return StateSpace(A, B, C, D, original.dt, original.labels.without_states())
