"""A system as the sum of its stable part and its unstable part: G = G_stable + G_rest."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lti._backend.arrays import Array, block_diag, eye, from_numpy, namespace, to_numpy
from lti._backend.checks import no_derivative, one_of
from lti.errors import DefectiveError, DimensionError, OptionError
from lti.systems.decouple import block_sizes, decouple, sensitivity
from lti.systems.labels import Labels
from lti.systems.moved import MovedPencil
from lti.systems.pencil import MappedPencil, ScaledPencil
from lti.systems.protocol import System
from lti.systems.rightmost import unstable_subspaces
from lti.systems.schur import SchurForm
from lti.systems.separate import minimal_basis
from lti.systems.sparse import SMALL, SparseStateSpace
from lti.systems.stability import require_stable
from lti.systems.statespace import DiagonalStateSpace, StateSpace
from lti.systems.units import form_with_ports

__all__ = ["Split", "parts_of", "split", "whole"]

EPS = 2.0**-52
WIDEST = 1e-2  # of |A|: poles that far from the boundary are never kept with others
APART = 1e-6  # the largest rounding of a split, relative
MOST = 100  # unstable poles of a sparse system that are split off


@dataclass(frozen=True, eq=False)
class Split:
    """W A T = diag(A_rest, A_stable), W T = I: the unstable part comes first, then the stable one.

    Parameters
    ----------
    stable : StateSpace or DiagonalStateSpace
        The part with the stable poles, and with D.
    rest : StateSpace
        The part with the poles on or beyond the stability boundary, with D = 0.
    T, W : array (..., n, k), array (..., k, n)
        ``x = T [x_rest, x_stable]``, but for states of the rest that do nothing.
    in_place : bool, optional
        Whether the stable part has the states of the system: T and W of it are then the identity,
        and those of a sparse system hold the rest only.
    scaling : (array (n,), array (n,)), optional
        Of a sparse system: l and r, the units of equations and states of the stable part.
    as_given : SparseStateSpace, optional
        Of a sparse system: the stable part in the units of the user.
    """

    stable: System
    rest: StateSpace
    T: Array
    W: Array
    in_place: bool = False
    scaling: tuple[Array, Array] | None = None
    as_given: SparseStateSpace | None = None

    def with_stable(self, stable: System, X: Array, inverse: Array) -> Split:
        """The same with the stable part in other coordinates, ``x_stable = X z``."""
        k = self.rest.order
        if not self.in_place:
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
        T = T if self.scaling is None else self.scaling[1][:, None] * T
        moved = T if self.in_place else self.T[..., k:] @ T
        return namespace(T).concat([self.T[..., :k], moved], axis=-1) if k else moved

    def left(self, W: Array) -> Array:
        """[W_rest; W W_stable], rows in the coordinates of the system."""
        k = self.rest.order
        W = W if self.scaling is None else W * self.scaling[0]
        moved = W if self.in_place else W @ self.W[..., k:, :]
        return namespace(W).concat([self.W[..., :k, :], moved], axis=-2) if k else moved


def parts_of(sys: System, unstable: str, alpha: float | None = None) -> Split:
    """The parts of `sys`: all of it in the stable part ("raise"), or `split` by stability."""
    one_of("unstable", unstable, ("raise", "split"))
    if unstable == "split":
        return _split_sparse(sys, alpha) if isinstance(sys, SparseStateSpace) else split(sys, alpha)
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
    stay with the unstable part. Of that part, states that do nothing are left out. A real system
    has real parts. A diagonal system is only sorted, and its stable part stays diagonal.

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
    margin = _margin(sys, alpha)
    if isinstance(sys, DiagonalStateSpace):
        return _sorted(sys, margin)
    A, B, C, discrete = *(to_numpy(x) for x in (sys.A, sys.B, sys.C)), sys.is_discrete
    T, W, k = np.empty_like(A), np.empty_like(A), np.zeros(A.shape[:-2], dtype=int)
    for i in np.ndindex(A.shape[:-2]):
        rate = 1.0 if discrete else _rate(A[i], B[i], C[i])
        form = form_with_ports(A[i], B[i], C[i], discrete)
        T[i], W[i], k[i] = _bases(form, discrete, margin, rate)
    if _common(k):  # with A, states pass from one part to the other
        no_derivative("a split of unstable poles, but of a diagonal system, has", sys.A)
    return _parts(sys.to_dense(), T, W, _common(k))


def _parts(sys: StateSpace, T: np.ndarray, W: np.ndarray, k: int) -> Split:
    """The two parts of a dense system; of its rest only what inputs reach and outputs see.

    In a batch, if as many states do nothing in each of its systems.
    """
    if k == 0:
        return whole(sys)
    xp = namespace(sys.A)
    T, W = (xp.astype(from_numpy(x, like=sys.A), sys.A.dtype) for x in (T, W))
    turned = StateSpace(W @ sys.A @ T, W @ sys.B, sys.C @ T, sys.D, sys.dt)
    rest = _part(turned, slice(0, k), D=False)
    A, B, C, D = (to_numpy(x) for x in rest.matrices)
    batch = tuple(sys.batch_shape)
    bases = [minimal_basis(StateSpace(A[i], B[i], C[i], D[i], sys.dt)) for i in np.ndindex(batch)]
    kept = {len(Y) for _, Y in bases}
    if len(kept) == 1 and k not in kept:  # systems of a batch have one order
        X, Y = (
            from_numpy(np.reshape(x, (*batch, *x[0].shape)), like=sys.A)
            for x in map(np.stack, zip(*bases, strict=True))
        )
        rest = StateSpace(Y @ rest.A @ X, Y @ rest.B, rest.C @ X, rest.D, sys.dt)
        T = xp.concat([T[..., :k] @ X, T[..., k:]], axis=-1)
        W = xp.concat([Y @ W[..., :k, :], W[..., k:, :]], axis=-2)
    return Split(_part(turned, slice(k, None), D=True), rest, T, W)


def _sorted(sys: DiagonalStateSpace, margin: float) -> Split:
    """The split of a diagonal system, whose states are only sorted."""
    poles, dense = to_numpy(sys.poles), sys.to_dense()
    outside = np.abs(poles) >= 1 - margin if sys.is_discrete else poles.real >= -margin
    k = _common(outside.sum(axis=-1))
    if k == 0:
        return whole(sys)
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
    return replace(_parts(dense, np.swapaxes(W, -1, -2), W, k), stable=stable)


def _split_sparse(sys: SparseStateSpace, alpha: float | None) -> Split:
    """The split of a sparse system: its few unstable poles are moved, and their states projected.

    Of a small system by its dense form.
    """
    given, (sys, left, right) = sys, sys.equilibrated
    margin = _margin(sys, alpha)
    if sys.order > SMALL:
        X, W = np.zeros((sys.order, 0)), np.zeros((0, sys.order))
    else:
        dense = sys.small_dense()
        rate = 1.0 if sys.is_discrete else _rate(*dense.matrices[:3])
        form = form_with_ports(*dense.matrices[:3], sys.is_discrete)
        X, W, k = _bases(form, sys.is_discrete, margin, rate)
        X, W = X[:, :k], sys.pencil.factor(0.0, 1.0).adjoint(W[:k].conj().T).conj().T
    place = 0.0 if sys.is_discrete else -float(
        max(abs(sys.poles).max(initial=0.0), 2 * margin) or 1.0
    )  # fmt: skip
    part = _without(sys, X, W, place)
    while sys.order > SMALL and (worst := _worst(inside := _inside(part, margin))) is not None:
        more = unstable_subspaces(inside.pencil, worst, sys.is_discrete)
        X, W = np.hstack([X, more[0]]), np.vstack([W, more[1]])
        if X.shape[1] > MOST or not more[0].size:
            require_stable(part, f"after {X.shape[1]} unstable poles are split off, ")
            raise _too_many(alpha)
        part = _without(sys, X, W, place)
    if sys.order > SMALL and margin and _worst(part, margin) is not None:
        raise _too_many(alpha)
    if part is sys:
        return whole(given)
    rest = StateSpace(W @ sys.pencil.product(1.0, 0.0, X), W @ sys.B, sys.C @ X, None, sys.dt)
    V, U = minimal_basis(rest)
    rest = StateSpace(U @ rest.A @ V, U @ rest.B, rest.C @ V, None, sys.dt)
    X, W = right[:, None] * (X @ V), (U @ W) * left
    as_given = SparseStateSpace(
        ScaledPencil(part.pencil, left, right), part.B / left[:, None], part.C / right, part.D,
        dt=sys.dt,
    )  # fmt: skip
    return Split(part, rest, X, W, in_place=True, scaling=(left, right), as_given=as_given)


def _without(sys: SparseStateSpace, X: Array, W: Array, place: float) -> SparseStateSpace:
    """The same system without the part of some poles, which are moved to a stable place."""
    if not X.shape[1]:
        return sys
    pencil = MovedPencil(sys.pencil, X, W, place)
    B, C = pencil.without_input(sys.B), pencil.without_output(sys.C)
    return SparseStateSpace(pencil, B, C, sys.D, dt=sys.dt)


def _inside(sys: SparseStateSpace, margin: float) -> SparseStateSpace:
    """The system whose poles are unstable where those of `sys` are on or beyond the boundary."""
    if not margin:
        return sys
    moved = (1 / (1 - margin), 0.0) if sys.is_discrete else (1.0, margin)
    return SparseStateSpace(MappedPencil(sys.pencil, *moved), sys.B, sys.C, sys.D, dt=sys.dt)


def _worst(sys: SparseStateSpace, margin: float = 0.0) -> complex | None:
    """The pole farthest outside of the stable region less a margin, of those that are known."""
    poles = sys.poles + 0j
    excess = (abs(poles) - 1 if sys.is_discrete else poles.real) + margin
    return complex(poles[np.argmax(excess)]) if (excess >= 0).any() else None


def _too_many(alpha: float | None) -> DefectiveError:
    return DefectiveError(
        f"there are too many poles beyond alpha={alpha!r}: of a large sparse system {MOST} at most "
        "are split off; choose an alpha closer to the boundary"
    )


def whole(sys: System) -> Split:
    """The split of a system that is stable."""
    if isinstance(sys, SparseStateSpace):
        none = np.zeros((0, 0))
        rest = StateSpace(none, sys.B[:0], sys.C[:, :0], None, sys.dt)
        even, left, right = sys.equilibrated
        return Split(even, rest, none, none, in_place=True, scaling=(left, right), as_given=sys)
    dense = sys.to_dense()
    identity = eye(sys.order, like=dense.A)
    if dense.batch_shape:
        identity = namespace(dense.A).broadcast_to(identity, dense.A.shape)
    return Split(sys, _part(dense, slice(0, 0), D=False), identity, identity, in_place=True)


def _common(counts: np.ndarray) -> int:
    """The number of unstable poles, which all systems of a batch share."""
    if np.unique(counts).size > 1:
        raise DimensionError(
            f"the systems of the batch have from {counts.min()} to {counts.max()} unstable "
            "poles; split each of them"
        )
    return int(counts.max(initial=0))


def _rate(A: np.ndarray, B: np.ndarray, C: np.ndarray) -> float:
    """|C| |A|^k+1 |B| / |C| |A|^k |B|, the first that is not 0 / 0: how fast A is to its ports.

    The units of the states do not matter to it.
    """
    A, v, c = abs(A), abs(B).sum(axis=1), abs(C).sum(axis=0)
    for _ in range(len(A)):
        v /= v.max() or 1.0
        following = A @ v
        if c @ v:
            return float(c @ following / (c @ v))
        v = following
    return 0.0


def _bases(
    form: SchurForm, discrete: bool, margin: float, rate: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """T, W of one dense system, and how many states belong to unstable poles."""
    n, sizes = len(form.T), block_sizes(form)
    excess = abs(form.poles) - 1 if discrete else np.real(form.poles)
    # Poles closer to the boundary than their own rounding are on it, whatever their sign; that of
    # poles which coincide there, as of two or three integrators in a row, is about a root of it
    sizes = np.maximum(sizes, 1.0) if discrete else sizes
    size = max(rate, sizes.max(initial=0.0))
    slack, wide = 10 * n * EPS * sizes, 10 * EPS ** (1 / 3) * sizes
    if ((excess >= -slack) & (excess <= 10 * EPS**0.5 * size)).any():
        slack = np.minimum(slack * sensitivity(form), wide)
        slack = np.maximum(slack, 10 * n * EPS * rate)
    slack = np.maximum(slack, margin)
    while True:
        outside = excess >= -slack
        T, W, lost = decouple(form, outside)
        if lost < APART:
            return T, W, int(np.count_nonzero(outside))
        if np.max(slack) > WIDEST * size:  # not even a triple integrator needs so much
            raise DefectiveError(
                "a stable and an unstable pole are too close to be split: the parts would have "
                f"{-np.log10(APART):.0f} digits or fewer; move the poles apart, or remove one"
            )
        slack = 10 * np.maximum(slack, EPS**0.5 * size)


def _part(sys: StateSpace, rows: slice, *, D: bool) -> StateSpace:
    A, B, C = sys.A[..., rows, rows], sys.B[..., rows, :], sys.C[..., :, rows]
    return StateSpace(A, B, C, sys.D if D else 0 * sys.D, sys.dt)


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
