"""A system as the sum of its stable part and its unstable part: G = G_stable + G_rest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.linalg import schur, solve_sylvester

from lti._backend.arrays import Array, block_diag, eye, from_numpy, namespace, to_numpy
from lti._backend.checks import one_of
from lti.errors import DefectiveError, DimensionError, OptionError
from lti.systems.algebra import state_scaling
from lti.systems.labels import Labels
from lti.systems.protocol import System
from lti.systems.statespace import DiagonalStateSpace, StateSpace

__all__ = ["Split", "parts_of", "split", "whole"]

EPS = 2.0**-52
WIDEST = 1e-2  # of |A|: poles that far from the boundary are never kept with others
APART = 1e-6  # the largest rounding of a split, relative


@dataclass(frozen=True, eq=False)
class Split:
    """W A T = diag(A_rest, A_stable), W T = I: the unstable part comes first, then the stable one.

    Parameters
    ----------
    stable : StateSpace or DiagonalStateSpace
        The part with the stable poles, and with D.
    rest : StateSpace
        The part with the poles on or beyond the stability boundary, with D = 0.
    T, W : array (..., n, n)
        The change of state, ``x = T [x_rest, x_stable]``.
    is_whole : bool, optional
        Whether the stable part is the system as it stands, and T the identity.
    """

    stable: System
    rest: StateSpace
    T: Array
    W: Array
    is_whole: bool = False

    def with_stable(self, stable: System, X: Array, inverse: Array) -> Split:
        """The same with the stable part in other coordinates, ``x_stable = X z``."""
        k = self.rest.order
        if k:
            xp = namespace(X)
            X = xp.concat([self.T[..., :k], self.T[..., k:] @ X], axis=-1)
            inverse = xp.concat([self.W[..., :k, :], inverse @ self.W[..., k:, :]], axis=-2)
        return Split(stable, self.rest, X, inverse)

    def with_projected(self, small: StateSpace) -> StateSpace:
        """The rest and, in place of the stable part, `small`."""
        rest, xp = self.rest, namespace(small.A)
        if rest.order == 0:
            return small
        A = block_diag(rest.A, small.A)
        B, C = xp.concat([rest.B, small.B], axis=-2), xp.concat([rest.C, small.C], axis=-1)
        return StateSpace(A, B, C, small.D, small.dt)

    def right(self, T: Array) -> Array:
        """[T_rest, T_stable T], columns in the coordinates of the system."""
        k = self.rest.order
        if self.is_whole:
            return T
        moved = self.T[..., k:] @ T
        return namespace(T).concat([self.T[..., :k], moved], axis=-1) if k else moved

    def left(self, W: Array) -> Array:
        """[W_rest; W W_stable], rows in the coordinates of the system."""
        k = self.rest.order
        if self.is_whole:
            return W
        moved = W @ self.W[..., k:, :]
        return namespace(W).concat([self.W[..., :k, :], moved], axis=-2) if k else moved


def parts_of(sys: System, unstable: str, alpha: float | None = None) -> Split:
    """The parts of `sys`: all of it in the stable part ("raise"), or `split` by stability."""
    one_of("unstable", unstable, ("raise", "split"))
    if unstable == "split":
        return split(sys, alpha)
    if alpha is not None:
        raise OptionError(
            f'alpha={alpha!r} says which poles are split off; give unstable="split" with it'
        )
    return whole(sys)


def _margin(sys: System, alpha: float | None) -> float:
    """How far inside the stability boundary the poles that are kept begin."""
    if alpha is None:
        return 0.0
    lowest, highest = (0.0, 1.0) if sys.is_discrete else (-np.inf, 0.0)
    if not (isinstance(alpha, (int, float, np.number)) and lowest < alpha <= highest):
        where = "a radius in (0, 1]" if sys.is_discrete else "a finite number <= 0"
        time = "discrete" if sys.is_discrete else "continuous"
        raise OptionError(f"alpha must be {where} in {time} time, got {alpha!r}")
    return float(highest - alpha)


def split(sys: System, alpha: float | None = None) -> Split:
    """[U_1; U_2] A [V_1, V_2] = diag(A_rest, A_stable) by an ordered Schur form, U V = I.

    Stable poles that rounding cannot tell from poles on the boundary, as of a double integrator,
    stay with the unstable part. A real system has real parts. A diagonal system is only
    sorted, and its stable part stays diagonal.

    Parameters
    ----------
    sys : StateSpace or DiagonalStateSpace
        In a batch, every system must have the same number of unstable poles.
    alpha : float, optional
        Another boundary inside the stable region: the poles on or beyond it are kept.

    Returns
    -------
    Split

    Raises
    ------
    DimensionError
        If the systems of a batch have different numbers of stable poles.
    DefectiveError
        If stable poles and others are too close to be separated.

    References
    ----------
    Safonov, Jonckheere, Verma, Limebeer, "Synthesis of positive real multivariable feedback
    systems", Int. J. Control 45 (1987).
    """
    dense = sys.to_dense()
    xp, poles = namespace(dense.A), to_numpy(sys.poles)
    is_sorted = isinstance(sys, DiagonalStateSpace)
    outside: Any = None
    margin = _margin(sys, alpha)
    if is_sorted:
        outside = np.abs(poles) >= 1 - margin if sys.is_discrete else poles.real >= -margin
        k = _common(outside.sum(axis=-1))
    else:
        A, d = _own_units(dense)
        size = np.linalg.norm(A, axis=(-2, -1))[..., None]
        # Poles closer to the boundary than their own rounding are on it, whatever their sign; that
        # of poles which coincide there, as in a double integrator, is a root of it
        size = np.maximum(size, 1.0) if sys.is_discrete else size
        excess = np.abs(poles) - 1 if sys.is_discrete else poles.real
        slack, wide = 10 * sys.order * EPS * size, 10 * EPS**0.5 * size
        double = ((excess >= -slack) & (excess <= wide)).any(axis=-1, keepdims=True)
        slack = np.maximum(np.where(double, wide, slack), margin)
        k = int((excess >= -2 * slack).any())
    if k == 0:
        return whole(sys)
    if is_sorted:
        order = np.argsort(~outside, axis=-1, kind="stable")
        stable = _take(sys, order[..., k:])
        if sys.conjugate:  # the dense state is [Re x, Im x]
            n = poles.shape[-1]
            order = np.concatenate(
                [order[..., :k], order[..., :k] + n, order[..., k:], order[..., k:] + n], axis=-1
            )
            k = 2 * k
        W = np.take_along_axis(
            np.broadcast_to(np.eye(dense.order), dense.A.shape), order[..., :, None], axis=-2
        )
        T = np.swapaxes(W, -1, -2)
    else:
        T, W, k = _bases(A, dense.is_discrete, slack)
        T, W = T * d[..., :, None], W / d[..., None, :]
        if k == 0:
            return whole(sys)
    T, W = (xp.astype(from_numpy(x, like=dense.A), dense.A.dtype) for x in (T, W))
    turned = StateSpace(W @ dense.A @ T, W @ dense.B, dense.C @ T, dense.D, dense.dt)
    rest = _part(turned, slice(0, k), D=False)
    return Split(stable if is_sorted else _part(turned, slice(k, None), D=True), rest, T, W)


def whole(sys: System) -> Split:
    """The split of a system that is stable."""
    dense = sys.to_dense()
    identity = namespace(dense.A).broadcast_to(eye(sys.order, like=dense.A), dense.A.shape)
    return Split(sys, _part(dense, slice(0, 0), D=False), identity, identity, is_whole=True)


def _common(counts: np.ndarray) -> int:
    """The number of unstable poles, which all systems of a batch share."""
    if np.unique(counts).size > 1:
        raise DimensionError(
            f"the systems of the batch have from {counts.min()} to {counts.max()} unstable "
            "poles; split each of them"
        )
    return int(counts.max(initial=0))


def _own_units(sys: StateSpace) -> tuple[np.ndarray, np.ndarray]:
    """A / d_i * d_j and d of each system of a batch."""
    A, B, C = (to_numpy(x) for x in (sys.A, sys.B, sys.C))
    A, d = A.copy(), np.empty(A.shape[:-1])
    for i in np.ndindex(A.shape[:-2]):
        d[i] = state_scaling(StateSpace(A[i], B[i], C[i], None, sys.dt))
        A[i] = A[i] / d[i][:, None] * d[i]
    return A, d


def _bases(A: np.ndarray, discrete: bool, slack: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """T, W of a batch of dense matrices, and how many states belong to unstable poles."""
    T, W, k = np.empty_like(A), np.empty_like(A), np.zeros(A.shape[:-2], dtype=int)
    for i in np.ndindex(A.shape[:-2]):
        T[i], W[i], k[i] = _basis(A[i], discrete, float(slack[i][0]))
    return T, W, _common(k)


def _basis(A: np.ndarray, discrete: bool, slack: float) -> tuple[np.ndarray, np.ndarray, int]:
    def outside(re: float, im: float | None = None) -> bool:
        size = abs(re) if im is None else np.hypot(re, im)
        return bool(size >= 1 - slack) if discrete else bool(np.real(re) >= -slack)

    kind = "complex" if np.iscomplexobj(A) else "real"
    form: Any = schur(A, output=kind, sort=outside)
    S, Q, k = form
    # [1 Y; 0 1] takes out the coupling: S_11 Y - Y S_22 = -S_12
    with np.errstate(all="ignore"):
        Y = solve_sylvester(S[:k, :k], -S[k:, k:], -S[:k, k:])
    if not EPS * np.abs(Y).max(initial=0.0) < APART:  # as in a triple integrator
        if slack > WIDEST * np.linalg.norm(A):
            raise DefectiveError(
                "a stable and an unstable pole are too close to be split: the parts would have "
                f"{-np.log10(APART):.0f} digits or fewer; move the poles apart, or remove one"
            )
        return _basis(A, discrete, 10 * max(slack, EPS**0.5 * np.linalg.norm(A)))
    above, below = Q[:, :k], Q[:, k:]
    T = np.concatenate([above, above @ Y + below], axis=1)
    W = np.concatenate([above.conj().T - Y @ below.conj().T, below.conj().T])
    return T, W, k


def _part(sys: StateSpace, rows: slice, *, D: bool) -> StateSpace:
    A, B, C = sys.A[..., rows, rows], sys.B[..., rows, :], sys.C[..., :, rows]
    return StateSpace(A, B, C, sys.D if D else None, sys.dt)


def _take(sys: DiagonalStateSpace, index: np.ndarray) -> DiagonalStateSpace:
    """The modes `index` (..., k) of each system of the batch."""
    xp, at = namespace(sys.poles), from_numpy(index, like=sys.poles)
    return replace(
        sys,
        poles=xp.take_along_axis(sys.poles, at, axis=-1),
        B=xp.take_along_axis(sys.B, at[..., :, None], axis=-2),
        C=xp.take_along_axis(sys.C, at[..., None, :], axis=-1),
        labels=Labels(),
    )
