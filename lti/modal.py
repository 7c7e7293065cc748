"""Modes, A V = V diag(poles): the diagonal form, and truncation by the gain of each mode."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from lti._array import Array, eig, from_numpy, is_complex, namespace, narrow, to_numpy, widen
from lti.algebra import units
from lti.balancing import cast_gain, is_stable, stable_part
from lti.errors import DefectiveError, DimensionError, ReductionWarning
from lti.hankel import hankel_singular_values, order_asked
from lti.interop import as_statespace
from lti.reduction import Reduction
from lti.split import parts_of
from lti.system import DiagonalStateSpace, StateSpace, System, require_stable

__all__ = ["diagonalize", "modal_truncation"]

EPS = 2.0**-52


def diagonalize(sys: System, conjugate: bool = False) -> tuple[DiagonalStateSpace, Any]:
    """poles = V^-1 A V, B = V^-1 B, C = C V: the modal form, and the condition number of V.

    Parameters
    ----------
    sys : StateSpace, or what `as_statespace` accepts
        A system of n states.
    conjugate : bool, optional
        Store one mode of each conjugate pair of a real system, the one in the upper half-plane. A
        real pole has no partner: it takes a slot of its own, with half the weight in C. A system
        of a stack that needs fewer slots than another ends in modes without input or output.

    Returns
    -------
    modal : DiagonalStateSpace
        Of the same transfer function; its modes are scaled so that row i of B and column i of C
        have equal norms.
    condition : float, or array (...) for a stack
        2-norm condition number of V: the rounding of `modal` is ``condition * eps`` relative.

    Raises
    ------
    DimensionError
        If `conjugate` is asked for a complex system.
    DefectiveError
        If A is not diagonalisable to working precision.

    Examples
    --------
    >>> import lti
    >>> sys = lti.StateSpace([[0.0, -0.81], [1.0, 0.0]], [[1.0], [0.0]], [[0.0, 1.0]], dt=True)
    >>> modal, condition = lti.diagonalize(sys, conjugate=True)
    >>> modal.poles
    array([0.+0.9j])
    """
    sys = as_statespace(sys).to_dense()
    poles, V, condition = _eigenvectors(widen(sys.A))
    xp = namespace(poles)
    condition = from_numpy(condition, like=sys.B) if sys.batch_shape else float(condition)
    if sys.order == 0:
        return DiagonalStateSpace(poles, sys.B, sys.C, sys.D, sys.dt, conjugate), condition
    B, C = xp.linalg.solve(V, widen(sys.B) + 0j), (widen(sys.C) + 0j) @ V
    if conjugate:
        if is_complex(sys.A) or is_complex(sys.B) or is_complex(sys.C):
            raise DimensionError(
                "only a real system has conjugate pairs, got complex matrices; pass conjugate=False"
            )
        # LAPACK returns real eigenvalues exactly real, and pairs as exact conjugates
        imag = to_numpy(poles).imag
        slots = np.count_nonzero(imag >= 0, axis=-1).max(initial=0)
        upper = np.argsort(imag < 0, axis=-1, kind="stable")[..., :slots]
        chosen = np.eye(sys.order)[upper] + 0j
        kept = chosen * (imag >= 0)[..., None, :]
        half = kept * np.where(imag > 0, 1.0, 0.5)[..., None, :]
        chosen, kept, half = (from_numpy(x, like=poles) for x in (chosen, kept, half))
        poles = (chosen @ poles[..., None])[..., 0]
        B, C = kept @ B, C @ xp.matrix_transpose(half)
    b, c = xp.linalg.vector_norm(B, axis=-1), xp.linalg.vector_norm(C, axis=-2)
    both = (b > 0) & (c > 0)  # a mode without input or output has no scale
    scale = xp.sqrt(xp.where(both, c, 1.0) / xp.where(both, b, 1.0))
    B, C = B * scale[..., None], C / scale[..., None, :]
    poles, B, C = (narrow(x, like=sys.B) for x in (poles, B, C))
    return DiagonalStateSpace(poles, B, C, sys.D, sys.dt, conjugate), condition


def _eigenvectors(A: Array) -> tuple[Array, Array, np.ndarray]:
    """A V = V diag(poles), and the condition number of V (...)."""
    poles, V = eig(A)
    gains = to_numpy(namespace(V).linalg.svdvals(V))
    if A.shape[-1] == 0:
        return poles, V, np.ones(A.shape[:-2])
    with np.errstate(divide="ignore"):
        condition = gains[..., 0] / gains[..., -1]
    if condition.max(initial=0.0) > 1 / EPS:
        raise DefectiveError(
            f"A of order {A.shape[-1]} is not diagonalisable to working precision (its "
            f"eigenvectors have condition number {condition.max():.3g}); keep it dense, or choose "
            "another order"
        )
    return poles, V, condition


def modal_truncation(
    sys: System,
    order: int | None = None,
    tol: float | None = None,
    *,
    relative: bool = False,
    energy: float | None = None,
    unstable: str = "raise",
) -> Reduction:
    """G_r = D + sum of c_i b_i / (s - p_i) over the modes of largest |c_i| |b_i| / |Re p_i|.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        One system (no stack) of n states, with a basis of eigenvectors.
    order : int, optional
        States to keep, 0 to n. Conjugate pairs of a real system stay together: an order that would
        part one is lowered by one.
    tol : float, optional
        In place of `order`: the smallest order whose error bound is within `tol`.
    relative : bool, optional
        Count `tol` in units of ``hsv[0]``.
    energy : float, optional
        In place of `order`: the smallest order that keeps this share of the sum of the gains.
    unstable : {"raise", "split"}, optional
        Refuse poles that are not stable, or keep their modes.

    Returns
    -------
    Reduction
        With poles of `sys`. Its bound is the sum of the gains of the modes left out, its lower
        bound the Hankel singular value ``hsv[order]``: how much is lost against balancing.

    Raises
    ------
    UnstableError
        If a pole is not stable and ``unstable="split"`` was not given.
    DefectiveError
        If A has no basis of eigenvectors to working precision.
    DimensionError
        If `sys` is a stack.
    OrderError
        If not just one of `order`, `tol` and `energy` is given, or it makes no sense.

    Warns
    -----
    ReductionWarning
        If the order was lowered to keep a pair together.

    References
    ----------
    Davison, "A method for simplifying linear dynamic systems", IEEE TAC 11 (1966); Varga,
    "Enhanced modal approach for model reduction", Math. Modelling of Systems 1 (1995).

    Examples
    --------
    >>> import lti, numpy as np
    >>> sys = lti.StateSpace(np.diag([-1.0, -9.0]), np.ones((2, 1)), np.ones((1, 2)))
    >>> lti.modal_truncation(sys, order=1).system.poles
    array([-1.+0.j])
    """
    sys = as_statespace(sys)
    if sys.batch_shape:
        raise DimensionError(
            f"modal_truncation takes one system, got a stack of shape {sys.batch_shape}; loop over "
            "it"
        )
    if unstable == "raise":
        require_stable(sys)
    parts = parts_of(sys.double(), unstable)
    k, n = parts.rest.order, sys.order
    T, W, sizes, gains, scale = _modes(parts.stable.to_dense())
    ends = np.cumsum([k, *sizes])  # the orders that part no pair
    tails = np.append(np.cumsum(gains[::-1])[::-1], 0.0)
    bounds = np.full(n + 1, np.inf)
    bounds[k:] = tails[np.searchsorted(ends, np.arange(k, n + 1), side="right") - 1]
    kept = np.full(k, np.inf)
    sigma = np.concatenate([kept, to_numpy(hankel_singular_values(parts.stable))])
    weights = np.zeros(n - k)
    weights[ends[1:] - k - 1] = gains  # all at the last state of a mode, so that pairs stay whole
    values = sigma if energy is None else np.concatenate([kept, weights])
    asked = order_asked(order, tol, relative, energy, values, bounds, k)
    r, flags = int(ends[ends <= asked].max()), ()
    if r < asked:
        flags = (f"order lowered from {asked} to {r}: a conjugate pair stays together",)
    T, W = (from_numpy(x, like=sys.B) for x in (T[:, : r - k], W[: r - k]))
    xp, dense = namespace(sys.B), sys.double().to_dense()
    T = xp.concat([parts.T[:, :k], parts.T[:, k:] @ T], axis=-1)
    W = xp.concat([parts.W[:k, :], W @ parts.W[k:, :]], axis=-2)
    exact = StateSpace(W @ dense.A @ T, W @ dense.B, dense.C @ T, dense.D, sys.dt)
    A, B, C, D = (narrow(x, sys.B) for x in exact.matrices)
    system = StateSpace(A, B, C, D, sys.dt, sys.labels.without_states())
    reduced, bound = stable_part(system, k), from_numpy(np.asarray(bounds[r]), like=exact.B)
    if r > k:  # the modes that stay carry the rounding of V
        bound = bound + n * EPS * scale
    if system.B.dtype != exact.B.dtype:
        stays = bool(is_stable(reduced))
        bound = bound + (cast_gain(stable_part(exact, k), reduced) if stays else float("inf"))
        if not stays:
            flags = (*flags, f"not stable in {sys.B.dtype}: convert the system to float64")
    for flag in flags:
        warnings.warn(flag, ReductionWarning, stacklevel=2)
    hsv, lower = (from_numpy(np.asarray(x), sys.B) for x in (sigma, sigma[r] if r < n else 0.0))
    return Reduction(
        sys,
        system,
        r,
        narrow(hsv, sys.B),
        narrow(bound, sys.B),
        narrow(lower, sys.B),
        narrow(T, sys.B),
        narrow(W, sys.B),
        "modal truncation",
        flags,
        (parts.stable, reduced) if k else None,
        scale=from_numpy(np.asarray(scale), like=sys.B),
    )


def _modes(sys: StateSpace) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """T, W of the modes in descending order of gain; the states and gain of each; their scale.

    A pair p, conj(p) of a real system is one mode: x = v z + conj(v z) = 2 (Re v Re z - Im v Im z).
    """
    is_real = not is_complex(sys.B)
    A, B, C = (to_numpy(x) for x in (sys.A, sys.B, sys.C))
    d = units(StateSpace(A, B, C, None, sys.dt))
    poles, V, condition = _eigenvectors(A / d[:, None] * d)
    B, C = B / d[:, None], C * d
    b, c = (np.abs(x).max(initial=0.0) or 1.0 for x in (B, C))  # squares need room
    B, C = B / b, C / c
    U = np.linalg.inv(V)
    decay = 1 - np.abs(poles) if sys.is_discrete else -poles.real
    gains = b * c * np.linalg.norm(C @ V, axis=0) * np.linalg.norm(U @ B, axis=1) / decay
    scale = b * c * condition * np.linalg.norm(B) * np.linalg.norm(C) / decay.min(initial=np.inf)
    first = np.flatnonzero(poles.imag >= 0) if is_real else np.arange(len(poles))
    pair = is_real & (poles[first].imag > 0)
    gains = np.where(pair, 2.0, 1.0) * gains[first]
    T, W, sizes = [], [], []
    descending = np.argsort(-gains, kind="stable")
    for i, two in zip(first[descending], pair[descending], strict=True):
        v, u = V[:, i], U[i]
        T += [v.real, v.imag] if two else [v.real if is_real else v]
        W += [2 * u.real, -2 * u.imag] if two else [u.real if is_real else u]
        sizes.append(1 + two)
    empty = np.zeros((0, sys.order))
    return (
        d[:, None] * np.array(T or empty).T,
        np.array(W or empty) / d,
        np.array(sizes, dtype=int),
        gains[descending],
        float(scale),
    )
