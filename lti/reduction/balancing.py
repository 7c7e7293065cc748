"""Balancing by square roots: T = S V sigma^-1/2, W = sigma^-1/2 U^H R^H, and its slices."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from lti._backend.arrays import (
    Array,
    H,
    block_diag,
    device,
    diag,
    eye,
    from_numpy,
    namespace,
    narrow,
    to_numpy,
)
from lti._backend.checks import one_of
from lti.errors import OptionError, OrderError, ReductionWarning
from lti.gramians.supplied import GramianFactor, named
from lti.hankel import (
    EQUAL,
    balanced,
    check_order,
    error_bound,
    order_asked,
    product_scale,
    tolerance,
)
from lti.norms import hinf_norm, peak_gain
from lti.reduction.certificate import Reduction
from lti.reduction.gramian_pair import Factors, choose_factors
from lti.systems.convert import as_statespace
from lti.systems.split import Split, parts_of
from lti.systems.stability import boundary_gap, is_stable
from lti.systems.statespace import StateSpace, System

__all__ = ["Balancing", "balance", "balanced_truncation", "singular_perturbation"]

EPS = 2.0**-52
NEAR = 1e-8  # a pole this close to the stability boundary is flagged
SOUND = 1e-8  # of |R| |S|: what is above keeps half of its digits
CANCEL = 1e6  # and Gramians whose product is this much smaller than their sizes


@dataclass(frozen=True, eq=False, repr=False)
class Balancing:
    """W P W^H = T^H Q T = diag(sigma), W T = I: one factorisation, every order a slice of it.

    Made by `balance`; not to be built by hand.

    Parameters
    ----------
    system : StateSpace or DiagonalStateSpace
        The system that was balanced, of n states.
    parts : Split
        Its stable part, which was balanced, and the part that is kept as it is.
    factors : Factors
        S and R, and what theory says of them.
    sigma : array (..., n)
        Hankel singular values in double precision; infinite for the states that are kept.
    right : array (..., n, k)
        ``S V diag(sigma)^-1/2``: columns of T, in double precision.
    left : array (..., k, n)
        ``diag(sigma)^-1/2 U^H R^H``: rows of W, in double precision.
    method : str
        "square-root" or "balancing-free".

    Attributes
    ----------
    hsv, T, W : array
        The same in the dtype of the system. T and W have as many columns and rows as the system
        has states to working precision, `minimal_order`. A column of T and the row of W belong to
        each other up to a common phase; only what does not depend on it (values, transfer
        functions, ``T @ W``) is determined.
    """

    system: Any
    parts: Split
    factors: Factors
    sigma: Array
    right: Array
    left: Array
    method: str = "square-root"

    @property
    def hsv(self) -> Array:
        """Hankel singular values (..., n)."""
        return narrow(self.sigma, like=self.system.B)

    @property
    def T(self) -> Array:
        """Right projection (..., n, minimal_order), ``T[..., :r]`` for order r."""
        return narrow(self.right, like=self.system.B)

    @property
    def W(self) -> Array:
        """Left projection (..., minimal_order, n), ``W[..., :r, :]`` for order r."""
        return narrow(self.left, like=self.system.B)

    @property
    def minimal_order(self) -> int:
        """Number of values above ``n eps hsv[0]``, the most of the stack: the rest is rounding.

        Also above ``4 eps |R| |S|``, where the factors nearly cancel.
        """
        return self.right.shape[-1]

    @property
    def smallest_order(self) -> int:
        """Number of states that every reduction keeps: those of poles that are not stable."""
        return self.parts.rest.order

    @cached_property
    def scale(self) -> Array:
        """What the rounding of the values is relative to (...), ``|R| |S|`` or more.

        More by what the way to the factors, and to the stable part, has cost.
        """
        norm = namespace(self.sigma).linalg.matrix_norm
        scale = self.factors.loss * product_scale(self.factors.S, self.factors.R)
        if self.smallest_order == 0:
            return scale
        gap, dense = boundary_gap(self.parts.stable), self.system.double().to_dense()
        parts = norm(self.parts.T) * norm(self.parts.W) * norm(dense.B) * norm(dense.C)
        return scale + parts / from_numpy(gap, like=scale)

    @property
    def exact(self) -> bool:
        """Whether the Gramians are those of the system, so that its values bound every error."""
        return not self.factors.name

    @cached_property
    def balanced(self) -> StateSpace:
        """(W A T, W B, C T, D) of `minimal_order` states, in double precision."""
        return _project(self.system.double(), self.right, self.left, self.smallest_order)

    @cached_property
    def near_unstable(self) -> list[str]:
        """The flag that a pole is close to the stability boundary, if one is."""
        if self.factors.far:
            return []
        stable, k = self.parts.stable, self.smallest_order
        poles = to_numpy(stable.poles)
        gap = 1 - np.abs(poles) if stable.is_discrete else -poles.real
        if not stable.is_discrete:  # rounding moves a pole in proportion to all of A
            A = np.abs(to_numpy(self.balanced.A)[..., k:, k:])
            size = A.max(axis=(-2, -1), initial=0.0)[..., None]
            gap = gap / np.where(size > 0, size, 1.0)
        if gap.min(initial=1.0) >= NEAR:
            return []
        return [
            f"a pole, {poles.ravel()[gap.argmin()]:.9g}, is within {gap.min():.1g} of the "
            "stability boundary, in the size of the others: rounding it moves the system by a "
            f"share of about {EPS / gap.min():.0e}"
        ]

    @cached_property
    def cancelling(self) -> list[str]:
        """The flag that P Q is far smaller than P and Q, if it is."""
        n, k, scale = self.system.order, self.smallest_order, to_numpy(self.scale)
        if n == k:
            return []
        top = to_numpy(self.sigma)[..., k]
        bad = scale > CANCEL * top
        if not bad.any():
            return []
        return [
            f"the Gramians nearly cancel: values below {n * EPS * scale[bad].max():.1g} are "
            f"rounding, and the largest is {top[bad].min():.3g}"
        ]

    @cached_property
    def equal(self) -> Any:
        """Whether the cut at each order 0 to n divides equal values, of any member of a stack."""
        last, first = self._cut(self.minimal_order)
        gap = np.maximum(EQUAL * last, 4 * EPS * to_numpy(self.scale)[..., None])
        return self._any((last - first <= gap) & (first > 0))

    @cached_property
    def risky(self) -> Any:
        """Whether the theorem that keeps a reduced system stable may fail at each order 0 to n.

        Values that hardly differ, values close to rounding, or Gramians of another kind.
        """
        if self.near_unstable or not self.exact or self.method == "balancing-free":
            return np.ones(self.system.order + 1, dtype=bool)
        last, first = self._cut(self.system.order)
        small = 1e-4 * to_numpy(self.scale)[..., None]
        return self._any((last - first <= 1e-4 * last) | (last <= small))

    def _cut(self, rank: int) -> tuple[Any, Any]:
        """The values on both sides of the cuts at orders 1 to n; zero beyond `rank`."""
        sigma = np.where(np.isfinite(s := to_numpy(self.sigma)), s, np.finfo(float).max)
        sigma[..., rank:] = 0.0
        return sigma, np.concatenate([sigma[..., 1:], np.zeros_like(sigma[..., :1])], axis=-1)

    def _any(self, at: Any) -> Any:
        """`at` (..., n) for orders 1 to n, over the stack, with order 0 in front."""
        return np.concatenate([[False], at.any(axis=tuple(range(at.ndim - 1)))])

    @cached_property
    def error_bounds(self) -> Array:
        """`error_bound` of every order (..., n + 1)."""
        bounds, gain = error_bound(self.sigma), self.factors.gain[..., None]
        xp = namespace(bounds)
        finite = xp.isfinite(gain)
        bounded = xp.where(finite, xp.where(finite, gain, 1.0) * bounds, gain)
        return xp.concat([bounded[..., :-1], bounds[..., -1:]], axis=-1)

    def error_bound(self, order: int) -> Array:
        """2 * sum of the distinct values beyond `order`, times a gain if Gramians were modified.

        Infinite where no bound is known.
        """
        return self.error_bounds[..., check_order(order, self.system.order)]

    def order_for(
        self, tol: float | None = None, relative: bool = False, energy: float | None = None
    ) -> int:
        """Smallest order whose bound is within `tol`, or that keeps `energy`: see `lti.order_for`.

        With `relative`, `tol` counts in units of the largest finite value.
        """
        return self._order(None, tol, relative, energy)

    def _order(
        self, order: int | None, tol: float | None, relative: bool, energy: float | None
    ) -> int:
        if tol is not None and not np.isfinite(to_numpy(self.factors.gain)).all():
            raise OrderError(
                f"tol={tol!r} needs an error bound, and none is known where Gramians are "
                f'{self.factors.name}; give an order or energy=, or balance with weighting="wang"'
            )
        return order_asked(
            order, tol, relative, energy, self.sigma, self.error_bounds, self.smallest_order
        )

    def truncate(
        self,
        order: int | None = None,
        *,
        tol: float | None = None,
        relative: bool = False,
        energy: float | None = None,
    ) -> Reduction:
        """W A T, W B, C T: see `balanced_truncation` for `order`, `tol`, `relative`, `energy`."""
        return _reduce(self, _truncated, order, tol, relative, energy)

    def singular_perturbation(
        self,
        order: int | None = None,
        *,
        tol: float | None = None,
        relative: bool = False,
        energy: float | None = None,
    ) -> Reduction:
        """The states that go are at rest: see `singular_perturbation` for the function.

        Its arguments `order`, `tol`, `relative` and `energy` are those of `truncate`.
        """
        return _reduce(self, _residualized, order, tol, relative, energy)

    def __repr__(self) -> str:
        return f"Balancing({self.system!r}, minimal_order={self.minimal_order})"


def balance(
    sys: System,
    *,
    unstable: str = "raise",
    method: str = "square-root",
    input_weight: System | None = None,
    output_weight: System | None = None,
    weighting: str = "enns",
    frequencies: Any = None,
    times: Any = None,
    controllability: Array | GramianFactor | None = None,
    observability: Array | GramianFactor | None = None,
) -> Balancing:
    """T = S V sigma^-1/2, W = sigma^-1/2 U^H R^H with U diag(sigma) V^H = R^H S (square root).

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        A system of n states.
    unstable : {"raise", "split"}, optional
        What to do about poles on or beyond the stability boundary: refuse the system, or reduce
        its stable part and keep the rest as it is. Those states count, and come first.
    method : {"square-root", "balancing-free"}, optional
        Of the same reduced system: in balanced coordinates, or in orthonormal bases of the same
        spaces (in units in which neither is larger than the other), which are better conditioned
        where the values span many orders of magnitude.
    input_weight, output_weight : StateSpace, optional
        Stable W_i, W_o: the error that counts is ``W_o (G - G_r) W_i``.
    weighting : {"enns", "lin-chiu", "wang"}, optional
        Which Gramian stands for a weighted, limited or given one. Enns: itself; stable if the other
        Gramian is that of the system, no promise if neither is, as in limits. Lin and Chiu: without
        the part that the weight's states explain; stable, unless limited as well. Wang: that of the
        system with a larger input or output; stable, with an error bound.
    frequencies : (w1, w2) or sequence of such pairs, optional
        Only these frequencies count, in rad per unit of time. The bands of a real system are
        mirrored to negative ones.
    times : (t1, t2) or sequence of such pairs, optional
        Only these times of the impulse response count.
    controllability, observability : array (..., n, k) or GramianFactor, optional
        Factors S, R of any P = S S^H, Q = R R^H in place of the Gramians, for example states
        observed in data. A `GramianFactor` also says what it is.

    Returns
    -------
    Balancing
        Values and projections, from which every order is a slice.

    Raises
    ------
    UnstableError
        If a pole is not stable (unless it is to be split off), or a pole of a weight.
    DefectiveError
        If the poles to be split off are too close to the others.
    OptionError
        If an option does not exist, or two contradict each other.
    NonFiniteError
        If a given factor has an entry that is not finite.
    DimensionError
        If a weight or a factor does not fit.

    References
    ----------
    Moore, "Principal component analysis in linear systems", IEEE TAC 26 (1981); Tombs,
    Postlethwaite, "Truncated balanced realization of a stable non-minimal state-space system", Int.
    J. Control 46 (1987); balancing-free: Varga, "Balancing free square-root algorithm for computing
    singular perturbation approximations", CDC (1991). Weights: Enns, CDC (1984); Lin, Chiu, Control
    Theory and Advanced Technology 8 (1992); Wang, Sreeram, Liu, IEEE TAC 44 (1999). Limits:
    Gawronski, Juang, Int. J. Systems Science 21 (1990); Gugercin, Antoulas, Int. J. Control 77
    (2004).

    Examples
    --------
    >>> import lti, numpy as np
    >>> balancing = lti.balance((np.diag([-1.0, -2.0]), np.ones((2, 1)), np.ones((1, 2))))
    >>> balancing.order_for(tol=0.1)
    1
    >>> balancing.truncate(order=1).system
    StateSpace(order=1, inputs=1, outputs=1, continuous, float64)
    """
    sys = as_statespace(sys)
    one_of("method", method, ("square-root", "balancing-free"))
    double = sys.double()
    parts = parts_of(double, unstable)
    k = parts.rest.order
    given_S, given_R = named(controllability), named(observability)
    factors = choose_factors(
        parts,
        controllability=given_S,
        observability=given_R,
        input_weight=input_weight,
        output_weight=output_weight,
        weighting=weighting,
        frequencies=frequencies,
        times=times,
    )
    S, R = factors.S, factors.R
    xp = namespace(S)
    sigma, right, left = balanced(
        parts.stable, S, R, (given_S and given_S.factor, given_R and given_R.factor)
    )
    if k:
        T, W = parts.T, parts.W
        right = xp.concat([T[..., :k], T[..., k:] @ right], axis=-1)
        left = xp.concat([W[..., :k, :], left @ W[..., k:, :]], axis=-2)
        kept = xp.full((*sigma.shape[:-1], k), float("inf"), dtype=sigma.dtype, device=device(S))
        sigma = xp.concat([kept, sigma], axis=-1)
    return Balancing(sys, parts, factors, sigma, right, left, method)


def _balance(sys: System, options: dict[str, Any]) -> Balancing:
    known = balance.__kwdefaults__ or {}
    for name in options.keys() - known.keys():
        raise OptionError(f"there is no option {name!r}; there are {', '.join(known)}")
    return balance(sys, **options)


def balanced_truncation(
    sys: System,
    order: int | None = None,
    tol: float | None = None,
    *,
    relative: bool = False,
    energy: float | None = None,
    **options: Any,
) -> Reduction:
    """G_r = (W A T, W B, C T, D): the `order` states with the largest Hankel singular values.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        A system of n states.
    order : int, optional
        States to keep, 0 to n.
    tol : float, optional
        In place of `order`: the smallest order whose error bound is within `tol`, and the system as
        it is if none is.
    relative : bool, optional
        Count `tol` in units of ``hsv[0]``.
    energy : float, optional
        In place of `order`: the smallest order that keeps this share of the sum of the values.
    **options
        Those of `balance`.

    Returns
    -------
    Reduction

    Raises
    ------
    UnstableError
        If a pole of `sys` is not stable and ``unstable="split"`` was not given.
    OrderError
        If not just one of `order`, `tol` and `energy` is given, it makes no sense, or a pole that
        is not stable would have to go.

    Warns
    -----
    ReductionWarning
        If the cut divides equal values, if `order` exceeds the minimal order (it is lowered to it:
        the states beyond are rounding), if the reduced system is not stable, if a pole lies within
        1e-8 of the stability boundary, or if the Gramians nearly cancel.

    Notes
    -----
    The reduced system of a ``conjugate=True`` system is real. In discrete time it is not balanced.

    References
    ----------
    Moore (1981); Pernebo, Silverman, "Model reduction via balanced state space representations",
    IEEE TAC 27 (1982), for stability; see `error_bound` for the bound.

    Examples
    --------
    >>> import lti, numpy as np
    >>> A, B, C = -np.diag(np.arange(1.0, 21.0)), np.ones((20, 1)), np.ones((1, 20))
    >>> reduction = lti.balanced_truncation((A, B, C), tol=1e-3)
    >>> reduction
    Reduction: order 20 -> 4, 0.000304 <= H-infinity error <= 0.000657
    >>> bool(reduction.lower_bound <= reduction.verify() <= 1e-3)
    True
    """
    return _reduce(_balance(sys, options), _truncated, order, tol, relative, energy)


def singular_perturbation(
    sys: System,
    order: int | None = None,
    tol: float | None = None,
    *,
    relative: bool = False,
    energy: float | None = None,
    **options: Any,
) -> Reduction:
    """A_r = A_11 - A_12 A_22^-1 A_21 in balanced coordinates: G_r(0) = G(0), or G_r(1) = G(1).

    The states with the smallest Hankel singular values are taken to be at rest, ``x' = 0`` or
    ``x[k+1] = x[k]``, in place of being left out. In discrete time ``A_22 - I`` stands for A_22.

    Parameters
    ----------
    sys, order, tol, relative, energy, **options
        As in `balanced_truncation`, whose error bound holds as well.

    Returns
    -------
    Reduction
        Its D differs from that of `sys`. At rest it is equal to the system of `minimal_order`
        states: to `sys`, unless Gramians of lower rank were given.

    Raises
    ------
    UnstableError, OrderError
        As `balanced_truncation`.

    References
    ----------
    Liu, Anderson, "Singular perturbation approximation of balanced systems", Int. J. Control 50
    (1989).

    Examples
    --------
    >>> import lti, numpy as np
    >>> sys = lti.StateSpace(np.diag([-1.0, -2.0]), np.ones((2, 1)), np.ones((1, 2)))
    >>> reduction = lti.singular_perturbation(sys, order=1)
    >>> bool(np.isclose(lti.frequency_response(reduction.system, [0.0])[0, 0, 0], 1.5))
    True
    """
    return _reduce(_balance(sys, options), _residualized, order, tol, relative, energy)


# ------------------------------------------------------------------ from a balancing to a reduction


def _truncated(balancing: Balancing, order: int) -> tuple[StateSpace, Array, Array]:
    """The leading states."""
    sys, T, W = _coordinates(balancing, order)
    A, B, C = sys.A[..., :order, :order], sys.B[..., :order, :], sys.C[..., :order]
    return StateSpace(A, B, C, sys.D, sys.dt), T[..., :order], W[..., :order, :]


def _residualized(balancing: Balancing, order: int) -> tuple[StateSpace, Array, Array]:
    """The leading states, with the others at rest: x_2 = -E^-1 (A_21 x_1 + B_2 u)."""
    sys, T, W = _coordinates(balancing, order)
    xp, (A, B, C) = namespace(sys.A), (sys.A, sys.B, sys.C)
    lead, rest = slice(0, order), slice(order, None)
    E = A[..., rest, rest]
    if sys.is_discrete:
        E = E - eye(E.shape[-1], like=E)
    solved = -xp.linalg.solve(E, xp.concat([A[..., rest, lead], B[..., rest, :]], axis=-1))
    X, U = solved[..., :order], solved[..., order:]  # x_2 = X x_1 + U u
    reduced = StateSpace(
        A[..., lead, lead] + A[..., lead, rest] @ X,
        B[..., lead, :] + A[..., lead, rest] @ U,
        C[..., lead] + C[..., rest] @ X,
        sys.D + C[..., rest] @ U,
        sys.dt,
    )
    return reduced, T[..., lead] + T[..., rest] @ X, W[..., lead, :]


Form = Callable[..., tuple[StateSpace, Array, Array]]
NAMES: dict[Form, str] = {
    _truncated: "balanced truncation",
    _residualized: "singular perturbation",
}


def _coordinates(balancing: Balancing, order: int) -> tuple[StateSpace, Array, Array]:
    """The system in coordinates whose first `order` states span the leading ones; T and W."""
    T, W = balancing.right, balancing.left
    if balancing.method == "square-root":
        return balancing.balanced, T, W
    k, rank, xp = balancing.smallest_order, balancing.minimal_order, namespace(T)
    if rank == 0:
        return balancing.balanced, T, W
    d = _own_units(T, W)
    T, W = T / d, W * H(d)
    # Apart are also the states whose directions in T and W are nearly orthogonal: they would carry
    # their rounding into the others
    sound = balancing.sigma > SOUND * balancing.scale[..., None]
    sound = int(to_numpy(xp.sum(xp.astype(sound, xp.int64), axis=-1)).max(initial=0))
    cuts = sorted({0, k, max(k, order), min(max(k, sound), rank), rank})
    blocks = [slice(*ends) for ends in pairwise(cuts)]
    bases = [_orthonormal(T[..., block], W[..., block, :]) for block in blocks]
    T = d * xp.concat([T for T, _ in bases], axis=-1)
    W = xp.concat([W for _, W in bases], axis=-2) / H(d)
    return _project(balancing.system.double(), T, W, k), T, W


def _own_units(T: Array, W: Array) -> Array:
    """d (..., n, 1): the units of the states in which each is as large in T as in W."""
    xp = namespace(T)
    t, w = (xp.max(xp.abs(x), axis=axis) for x, axis in ((T, -1), (W, -2)))
    top = xp.max(xp.sqrt(t) * xp.sqrt(w), axis=-1, keepdims=True)
    top = xp.where(top > 0, top, 1.0)
    # A state that is in one of the two only is made as large there as the largest is in both
    known = xp.where(t > 0, t, top), xp.where(w > 0, w, top)
    t, w = xp.where(t > 0, t, top / known[1] * top), xp.where(w > 0, w, top / known[0] * top)
    return (xp.sqrt(t) / xp.sqrt(w))[..., None]


def _orthonormal(T: Array, W: Array) -> tuple[Array, Array]:
    """An orthonormal basis of the columns of T, and the W of the same rows with W T = I."""
    xp = namespace(T)
    idle = xp.all(T == 0, axis=-2)[..., None, :]  # states that a member of a stack does not have
    right = xp.where(idle, 0.0, xp.linalg.qr(T, mode="reduced")[0])
    left = H(xp.where(idle, 0.0, xp.linalg.qr(H(W), mode="reduced")[0]))
    pairing = left @ right + diag(xp.astype(idle[..., 0, :], T.dtype))
    return right, xp.linalg.solve(pairing, left)


def _project(system: System, T: Array, W: Array, kept: int) -> StateSpace:
    """(W A T, W B, C T), with the `kept` first states apart from the others.

    A zero row of W, in a stack of unequal ranks, gives a stable pole.
    """
    dense = system.to_dense()
    A, xp = W @ dense.A @ T, namespace(T)
    if kept:
        A = block_diag(A[..., :kept, :kept], A[..., kept:, kept:])
    if not dense.is_discrete:
        A = A - diag(xp.astype(xp.all(W == 0, axis=-1), A.dtype))
    return StateSpace(A, W @ dense.B, dense.C @ T, dense.D, dense.dt)


def _reduce(
    balancing: Balancing,
    form: Form,
    order: int | None,
    tol: float | None,
    relative: bool,
    energy: float | None,
) -> Reduction:
    """The body of `balanced_truncation` and `singular_perturbation`, from the balancing on."""
    n, rank, kept = balancing.system.order, balancing.minimal_order, balancing.smallest_order
    name = NAMES[form] + ("" if balancing.exact else f", Gramians {balancing.factors.name}")
    order = balancing._order(order, tol, relative, energy)
    if tol is not None and (order > rank or order == n > 0):
        reduction = as_it_is(balancing, tol, name)
    else:
        flags = balancing.near_unstable + (balancing.cancelling if order > kept else [])
        if order > rank:
            rest = "the others are below rounding" if balancing.exact else "the Gramians' rank"
            flags.append(f"order lowered from {order} to {rank}: {rest}")
            order = rank
        flags += _divided(balancing, order)
        system, T, W = form(balancing, order)
        bound = balancing.error_bound(order)
        reduction = certified(balancing, system, order, bound, flags, name, (tol, relative), T, W)
    warn_of(reduction.flags)
    return reduction


def certified(
    balancing: Balancing,
    system: StateSpace,
    order: int,
    bound: Array,
    flags: list[str],
    name: str,
    wanted: tuple[float | None, bool],
    T: Array | None = None,
    W: Array | None = None,
) -> Reduction:
    """A reduced system in the dtype of the original, with a certificate of what was stored."""
    original, kept, weights = balancing.system, balancing.smallest_order, balancing.factors.weights
    like, xp = original.B, namespace(bound)
    A, B, C, D = (narrow(x, like) for x in system.matrices)
    stored = StateSpace(A, B, C, D, system.dt, original.labels.without_states())
    stable, cast = stable_part(stored, kept), B.dtype != system.B.dtype
    inside = is_stable(stable) if cast or balancing.risky[order] else np.asarray(True)
    if not inside.all():
        bound = xp.where(from_numpy(inside, like=bound), bound, float("inf"))
        advice = "" if balancing.exact else ', or balance with weighting="wang"'
        flags = [
            *flags,
            f"the reduced system of order {order} is not stable: try a neighbouring order{advice}",
        ]
    elif cast and bool(xp.all(xp.isfinite(bound))):
        gain = cast_gain(stable_part(system, kept), stable)
        for weight in weights:
            gain = gain * hinf_norm(weight) if weight else gain
        bound = bound + gain
    tol, relative = wanted
    if tol is not None:
        limit = tolerance(to_numpy(balancing.sigma), tol, relative)[..., 0]
        if (to_numpy(bound) > limit * (1 + 1e-9)).any():
            advice = "convert the system to float64" if cast else "try a higher order"
            flags = [*flags, f"the bound is above {tol:g}, as stored in {B.dtype}: {advice}"]
    claimed = balancing.exact and order < original.order
    lower = balancing.sigma[..., order] if claimed else xp.zeros_like(bound)
    return Reduction(
        original,
        stored,
        order,
        balancing.hsv,
        narrow(bound, like),
        narrow(lower, like),
        None if T is None else narrow(T, like),
        None if W is None else narrow(W, like),
        name,
        tuple(flags),
        (balancing.parts.stable, stable) if kept else None,
        weights,
        balancing.scale,
    )


def stable_part(sys: StateSpace, kept: int) -> StateSpace:
    """The states from `kept` on, those of stable poles."""
    A, B, C = sys.A[..., kept:, kept:], sys.B[..., kept:, :], sys.C[..., kept:]
    return StateSpace(A, B, C, sys.D, sys.dt) if kept else sys


def cast_gain(exact: StateSpace, rounded: StateSpace) -> Array:
    """No less than ||exact - rounded||_inf: what a cast to single precision costs."""
    return peak_gain(exact, rounded, tol=1e-3) * (1 + 1e-2)


def as_it_is(balancing: Balancing, tol: float, name: str) -> Reduction:
    """No smaller order is within the tolerance: the system itself, whose error is zero."""
    system, n = balancing.system.to_dense(), balancing.system.order
    flag = f"no order above rounding has a bound within {tol:g}: the system is returned as it is"
    identity = namespace(system.A).broadcast_to(eye(n, like=system.A), system.A.shape)
    zero = 0 * narrow(balancing.scale, like=system.B)
    stable = balancing.parts.stable
    return Reduction(
        balancing.system, system, n, balancing.hsv, zero, zero, identity, identity, name, (flag,),
        (stable, stable), balancing.factors.weights, balancing.scale,
    )  # fmt: skip


def warn_of(flags: Iterable[str]) -> None:
    for flag in flags:
        warnings.warn(flag, ReductionWarning, stacklevel=4)  # at the caller of the public function


def _divided(balancing: Balancing, order: int) -> list[str]:
    """The flag that the cut divides equal values, if it does."""
    equal = balancing.equal
    if not equal[order]:
        return []
    below = max(r for r in range(order) if not equal[r])
    above = min(r for r in range(order + 1, len(equal)) if not equal[r])
    value = to_numpy(balancing.sigma)[..., order].min()
    return [
        f"the cut at order {order} divides equal Hankel singular values ({value:.6g}): which of "
        "their states are kept is arbitrary, and the reduced system may not be stable; "
        f"orders {below} and {above} divide none"
    ]
