"""A system as the sum of its stable part and the rest: G = G_stable + G_rest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.linalg import schur, solve_sylvester

from lti._array import Array, eye, from_numpy, namespace, to_numpy
from lti.errors import DefectiveError, DimensionError
from lti.system import DiagonalStateSpace, Labels, StateSpace, System

__all__ = ["Split", "split", "whole"]

EPS = 2.0**-52
APART = 1e-6  # the largest rounding of a split, relative


@dataclass(frozen=True, eq=False)
class Split:
    """W A T = diag(A_rest, A_stable), W T = I: the poles that are not stable come first.

    Parameters
    ----------
    stable : StateSpace or DiagonalStateSpace
        The part with the stable poles, and with D.
    rest : StateSpace
        The part with the poles on or beyond the stability boundary, with D = 0.
    T, W : array (..., n, n)
        The change of state, ``x = T [x_rest, x_stable]``.
    """

    stable: System
    rest: StateSpace
    T: Array
    W: Array


def split(sys: System) -> Split:
    """[U_1; U_2] A [V_1, V_2] = diag(A_rest, A_stable) by an ordered Schur form, U V = I.

    A real system has real parts. A diagonal system is only sorted, and its stable part stays
    diagonal.

    Parameters
    ----------
    sys : StateSpace or DiagonalStateSpace
        In a stack, every member must have the same number of poles that are not stable.

    Returns
    -------
    Split

    Raises
    ------
    DimensionError
        If the members of a stack have different numbers of stable poles.
    DefectiveError
        If stable poles and others are too close to be separated.

    References
    ----------
    Safonov, Jonckheere, Verma, Limebeer, "Synthesis of positive real multivariable feedback
    systems", Int. J. Control 45 (1987).
    """
    poles = to_numpy(sys.poles)
    outside = np.abs(poles) >= 1 if sys.is_discrete else poles.real >= 0
    counts = np.unique(outside.sum(axis=-1))
    if counts.size > 1:
        raise DimensionError(
            f"the members of the stack have from {counts[0]} to {counts[-1]} poles that are not "
            "stable; split each of them"
        )
    k = int(counts[0]) if counts.size else 0
    if k == 0:
        return whole(sys)
    sorted_, dense = isinstance(sys, DiagonalStateSpace), sys.to_dense()
    xp = namespace(dense.A)
    if sorted_:
        order = np.argsort(~outside, axis=-1, kind="stable")
        stable = _take(sys, order[..., k:])
        if sys.conjugate:  # the dense state is [Re x, Im x]
            n = poles.shape[-1]
            order = np.concatenate(
                [order[..., :k], order[..., :k] + n, order[..., k:], order[..., k:] + n], axis=-1
            )
            k = 2 * k
        W = np.take_along_axis(np.broadcast_to(np.eye(dense.order), dense.A.shape),
                               order[..., :, None], axis=-2)  # fmt: skip
        T = np.swapaxes(W, -1, -2)
    else:
        T, W = _bases(to_numpy(dense.A), dense.is_discrete)
    T, W = (xp.astype(from_numpy(x, like=dense.A), dense.A.dtype) for x in (T, W))
    turned = StateSpace(W @ dense.A @ T, W @ dense.B, dense.C @ T, dense.D, dense.dt)
    rest = _part(turned, slice(0, k), D=False)
    return Split(stable if sorted_ else _part(turned, slice(k, None), D=True), rest, T, W)


def whole(sys: System) -> Split:
    """The split of a system that is stable."""
    dense = sys.to_dense()
    identity = namespace(dense.A).broadcast_to(eye(sys.order, like=dense.A), dense.A.shape)
    return Split(sys, _part(dense, slice(0, 0), D=False), identity, identity)


def _bases(A: np.ndarray, discrete: bool) -> tuple[np.ndarray, np.ndarray]:
    """T, W of a stack of dense matrices."""
    T, W = np.empty_like(A), np.empty_like(A)
    for i in np.ndindex(A.shape[:-2]):
        T[i], W[i] = _basis(A[i], discrete)
    return T, W


def _basis(A: np.ndarray, discrete: bool) -> tuple[np.ndarray, np.ndarray]:
    def outside(re: float, im: float | None = None) -> bool:
        size = abs(re) if im is None else np.hypot(re, im)
        return bool(size >= 1) if discrete else bool(np.real(re) >= 0)

    kind = "complex" if np.iscomplexobj(A) else "real"
    form: Any = schur(A, output=kind, sort=outside)
    S, Q, k = form
    # [1 Y; 0 1] takes out the coupling: S_11 Y - Y S_22 = -S_12
    with np.errstate(all="ignore"):
        Y = solve_sylvester(S[:k, :k], -S[k:, k:], -S[:k, k:])
    if not EPS * np.abs(Y).max(initial=0.0) < APART:
        raise DefectiveError(
            "a stable pole and one that is not can hardly be told apart; splitting them would "
            f"leave {-np.log10(APART):.0f} digits or fewer; move them apart, or remove one"
        )
    above, below = Q[:, :k], Q[:, k:]
    T = np.concatenate([above, above @ Y + below], axis=1)
    W = np.concatenate([above.conj().T - Y @ below.conj().T, below.conj().T])
    return T, W


def _part(sys: StateSpace, rows: slice, *, D: bool) -> StateSpace:
    A, B, C = sys.A[..., rows, rows], sys.B[..., rows, :], sys.C[..., :, rows]
    return StateSpace(A, B, C, sys.D if D else None, sys.dt)


def _take(sys: DiagonalStateSpace, index: np.ndarray) -> DiagonalStateSpace:
    """The modes `index` (..., k) of each member of the stack."""
    xp, at = namespace(sys.poles), from_numpy(index, like=sys.poles)
    return replace(
        sys,
        poles=xp.take_along_axis(sys.poles, at, axis=-1),
        B=xp.take_along_axis(sys.B, at[..., :, None], axis=-2),
        C=xp.take_along_axis(sys.C, at[..., None, :], axis=-1),
        labels=Labels(),
    )
