"""Parts of a system: without the states that do nothing; slow and fast."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lti._backend.arrays import frobenius, from_numpy, narrow, to_numpy
from lti._backend.blocks import blocks_of
from lti._backend.checks import no_derivative, positive
from lti.errors import DefectiveError, DimensionError
from lti.systems.algebra import state_scaling
from lti.systems.convert import as_statespace
from lti.systems.decouple import decouple
from lti.systems.protocol import SystemLike
from lti.systems.statespace import StateSpace
from lti.systems.units import form_with_ports

__all__ = ["freqsep", "minimal", "minimal_basis"]

EPS = 2.0**-52
APART = 1e-6  # the largest rounding of a separation, relative
ROUNDED = 10.0  # |A - Q T Q^H| of a Schur form, in units of eps |A|
CERTAIN = 1e-6  # of an input: a rounding that shows a mode to be idle
SPREAD = 1e4  # of the sizes of poles that are looked at together


def minimal(sys: SystemLike, tol: float | None = None) -> StateSpace:
    """V^H A V, V^H B, C V on span [B, A B, A^2 B, ...], and the same for the dual (minreal).

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        A single system; its poles may lie anywhere.
    tol : float, optional
        A new direction of ``A V`` counts if it is above `tol` times the size of A, of B above
        `tol` times that of B, in units of the states in which both are balanced. By default
        ``10 n^2 eps``, for poles of very different size in groups: next to a fast pole a slow one
        would be rounding.

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
    if tol is not None:
        positive("tol", tol)
    T, W = minimal_basis(G, tol)
    if len(W) == G.order:
        return original.to_dense()
    return _back(original, *_projected(G, W, T), original.D)


def minimal_basis(G: StateSpace, tol: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """T, W of the states that inputs reach and outputs see, in the sense of `minimal`."""
    groups = [(np.eye(G.order), np.eye(G.order))]
    if tol is None:
        X, Y = _without_idle_modes(G)
        A, B, C = _projected(G, Y, X)
        rest = _groups(A, B, C, G.is_discrete)
        groups = [(X @ T, W @ Y) for T, W in rest]
    T, W = zip(*(_seen(G, *group, tol) for group in groups), strict=True)
    return np.concatenate(T, axis=1), np.concatenate(W)


def _without_idle_modes(G: StateSpace) -> tuple[np.ndarray, np.ndarray]:
    """T, W of all modes but those whose input w^H B or output C v is the rounding of a Schur form.

    Of ``dA``, the mode i loses ``sum_j w_i^H dA v_j w_j^H B / (p_i - p_j)``: where poles are close
    that says nothing. A staircase would find few of them, as rounding grows from step to step.
    """
    form = form_with_ports(*G.matrices[:3], G.is_discrete)
    everything = np.eye(G.order), np.eye(G.order)
    turned = [k for k in blocks_of(form.edges) if k.stop - k.start > 1]
    if not turned:
        return everything
    with np.errstate(all="ignore"):
        try:
            poles, V = np.linalg.eig(form.T)
            W = np.linalg.inv(V)
        except np.linalg.LinAlgError:
            return everything
        apart = abs(poles[:, None] - poles)
        np.fill_diagonal(apart, np.inf)
        B, C = form.Q.conj().T @ (G.B / form.d[:, None]), (G.C * form.d) @ form.Q
        idle = _idle(form.T, turned, W, V, apart, B) | _idle(form.T, turned, V.T, W.T, apart, C.T)
    idle = idle[abs(form.poles[:, None] - poles).argmin(axis=1)]
    pairs = form.T.diagonal(-1).nonzero()[0]
    idle[pairs] = idle[pairs + 1] = idle[pairs] & idle[pairs + 1]
    T, W, lost = decouple(form, ~idle)
    k = np.count_nonzero(~idle)
    return (T[:, :k], W[:k]) if lost < APART else everything


def _idle(
    T: np.ndarray, turned: list[slice], W: np.ndarray, V: np.ndarray, apart: np.ndarray, B: Any
) -> np.ndarray:
    """Which modes have an input w^H B that is rounding, of T and B in the blocks `turned`."""
    inputs, floor, whole = np.linalg.norm(W @ B, axis=1), 0.0, 0.0
    moved = (inputs / apart) @ abs(V.T)
    for k in turned:
        left, size = np.linalg.norm(W[:, k], axis=1), np.linalg.norm(B[k])
        floor += left * (frobenius(T[k, k]) * np.linalg.norm(moved[:, k], axis=1) + size)
        whole += left * size
    floor *= ROUNDED * EPS
    return (inputs <= floor) & (floor <= CERTAIN * whole)


def _groups(
    A: np.ndarray, B: np.ndarray, C: np.ndarray, discrete: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    """T_k, W_k with W_k A T_k of poles of one size: next to large ones small ones are rounding."""
    form, n = form_with_ports(A, B, C, discrete), len(A)
    size = abs(form.poles)
    order = np.argsort(size)
    gaps = np.diff(np.log(size[order].clip(size.max(initial=0.0) * EPS or 1.0)))
    if gaps.sum() > math.log(SPREAD):
        k = 1 + int(np.argmax(gaps - EPS * abs(np.arange(1, n) - n / 2)))  # of equals the middle
        small = np.zeros(n, dtype=bool)
        small[order[:k]] = True
        T, W, lost = decouple(form, small)
        if lost < APART:
            return [
                (X @ Y, Z @ V)
                for X, V in ((T[:, :k], W[:k]), (T[:, k:], W[k:]))
                for Y, Z in _groups(V @ A @ X, V @ B, C @ X, discrete)
            ]
    return [(np.eye(n), np.eye(n))]


def _seen(
    G: StateSpace, T: np.ndarray, W: np.ndarray, tol: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Of the states W x, T and W of those that inputs reach and outputs see.

    What is above `tol` counts, relative to the sizes of the group, and above the rounding of the
    terms that its entries are sums of.
    """
    tol = 10 * G.order**2 * EPS if tol is None else tol
    A = W @ G.A @ T
    # LAPACK counts the diagonal too, which no scaling changes
    part = StateSpace(A - np.diag(np.diagonal(A)), W @ G.B, G.C @ T, None, G.dt)
    d = state_scaling(part)
    T, W = T * d, W / d[:, None]
    A, B, C = _projected(G, W, T)
    terms = abs(W) @ abs(G.A) @ abs(T), abs(W) @ abs(G.B), abs(G.C) @ abs(T)
    a, b, c = (
        max(tol * float(np.linalg.norm(x)), G.order * EPS * float(np.linalg.norm(y)))
        for x, y in zip((A, B, C), terms, strict=True)
    )
    V = _reached(A, B, a, b)
    A, C = V.conj().T @ A @ V, C @ V
    V = V @ _reached(A.conj().T, C.conj().T, a, c)
    return T @ V, V.conj().T @ W


def _reached(A: np.ndarray, B: np.ndarray, of_A: float, of_B: float) -> np.ndarray:
    """An orthonormal basis of span [B, A B, A^2 B, ...], of what is above `of_B`, then `of_A`."""
    n = len(A)
    V, new, floor = np.zeros((n, 0), dtype=A.dtype), B, of_B
    while V.shape[1] < n and new.size:
        for _ in range(2):  # twice is enough
            new = new - V @ (V.conj().T @ new)
        U, gains, _ = np.linalg.svd(new, full_matrices=False)
        U = U[:, gains > floor]
        if U.shape[1] == 0:
            break
        U = U[:, : n - V.shape[1]]
        U = np.linalg.qr(U - V @ (V.conj().T @ U))[0]
        V, new, floor = np.concatenate([V, U], axis=1), A @ U, of_A
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

    form = form_with_ports(G.A, G.B, G.C, G.is_discrete)
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
    no_derivative(f"{name} has", *sys.matrices)
    dense = sys.to_dense().double()
    A, B, C, D = (to_numpy(x) for x in dense.matrices)
    return StateSpace(A, B, C, D, dense.dt)


def _back(original: Any, *matrices: Any) -> StateSpace:
    """A system in the library and precision of the original, with its labels of signals."""
    from_host = [from_numpy(np.asarray(to_numpy(x)), like=original.B) for x in matrices]
    A, B, C, D = (narrow(x, like=original.B) for x in from_host)
    return StateSpace(A, B, C, D, original.dt, original.labels.without_states())
