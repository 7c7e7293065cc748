"""Balancing by square roots: T = S V sigma^-1/2, W = sigma^-1/2 U^H R^H, and its slices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from lti._backend.arrays import Array, H, conj, device, from_numpy, namespace, narrow, to_numpy
from lti._backend.checks import one_of
from lti.errors import OrderError
from lti.gramians.exact import ROUNDING
from lti.hankel import (
    EPS,
    OrderChoice,
    balanced,
    check_order,
    each_counted,
    error_bound,
    no_bounds,
    pad,
)  # fmt: skip
from lti.reduction.certificate import Reduction
from lti.reduction.gramian_pair import FactorSource, GramianPair, choose_pair
from lti.reduction.methods import Method, find_method
from lti.reduction.projection import basis_scaling, orthonormal, project, turn_of
from lti.systems.convert import as_statespace
from lti.systems.protocol import SystemLike
from lti.systems.sparse import SparseStateSpace
from lti.systems.split import Split, parts_of
from lti.systems.stability import boundary_gap, close_to_boundary
from lti.systems.statespace import DiagonalStateSpace, StateSpace

__all__ = ["Balancing", "balance"]

SOUND = 1e-8  # of |R| |S|: what is above keeps half of its digits


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
    factors : GramianPair
        S and R, and what theory says of them.
    sigma : array (..., n)
        Hankel singular values in double precision; infinite for the states of unstable poles.
    inner : (array (..., n, k), array (..., k, n))
        ``S V diag(sigma)^-1/2`` and ``diag(sigma)^-1/2 U^H R^H`` of the stable part, in the
        coordinates of ``parts.stable``.
    method : str
        "square-root" or "balancing-free".

    Attributes
    ----------
    right, left : array
        Columns of T and rows of W, in double precision.
    hsv, T, W : array
        The same in the dtype of the system. T and W have as many columns and rows as the system
        has states to working precision, `minimal_order`. A column of T and the row of W belong to
        each other up to a common phase, chosen so that the largest entry of a row of ``W B`` is
        positive; where values are equal, only what does not depend on such a choice (values,
        transfer functions, ``T @ W``) is determined.
    """

    system: Any
    parts: Split
    factors: GramianPair
    sigma: Array
    inner: tuple[Array, Array]
    method: str = "square-root"

    @cached_property
    def right(self) -> Array:
        """T (..., n, minimal_order) in double precision."""
        return self.parts.right(self.inner[0])

    @cached_property
    def left(self) -> Array:
        """W (..., minimal_order, n) in double precision."""
        return self.parts.left(self.inner[1])

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
        """Number of values above ``n eps hsv[0]``, the most of a batch: the rest is rounding.

        Also above ``4 eps |R| |S|``, where the factors nearly cancel.
        """
        return self.smallest_order + self.inner[0].shape[-1]

    @property
    def smallest_order(self) -> int:
        """Number of states that every reduction keeps: those of the unstable poles."""
        return self.parts.rest.order

    @property
    def is_part(self) -> bool:
        """Whether only a part of the system is balanced: it has unstable poles."""
        return self.smallest_order > 0 or self.parts.stable.order < self.system.order

    @property
    def scale(self) -> Array:
        """The old name of `roundoff_scale`."""
        return self.roundoff_scale

    @property
    def roundoff_scale(self) -> Array:
        """What the rounding of the values is relative to (...), ``|R| |S|`` or more.

        More by what the computation of the factors, and of the stable part, has cost.
        """
        n = max(self.system.order, 1)
        return self.cancellation_scale + self.factors.roundoff / (ROUNDING * n * EPS)

    @cached_property
    def cancellation_scale(self) -> Array:
        """The same without what the rounding of A has cost: values far below it have cancelled."""
        scale = self.factors.roundoff_gain * self.factors.product_scale
        if not self.is_part or isinstance(self.system, (DiagonalStateSpace, SparseStateSpace)):
            return scale
        # What the split has rounded, state by state, so that their units do not matter
        xp, k, dense = namespace(self.sigma), self.smallest_order, self.system.double().to_dense()
        B = xp.abs(self.parts.W[..., k:, :]) @ xp.abs(dense.B)
        C = xp.abs(dense.C) @ xp.abs(self.parts.T[..., k:])
        rows, columns = xp.linalg.vector_norm(B, axis=-1), xp.linalg.vector_norm(C, axis=-2)
        gap = from_numpy(boundary_gap(self.parts.stable), like=scale)
        return scale + xp.sum(rows * columns, axis=-1) / gap

    @cached_property
    def size(self) -> Any:
        """The largest entry of the balanced A (...), without the part that is kept as it is."""
        k = self.smallest_order
        return abs(to_numpy(self.balanced.A)[..., k:, k:]).max(axis=(-2, -1), initial=0.0)

    @cached_property
    def near_unstable(self) -> tuple[str, ...]:
        """The flag that a pole is close to the stability boundary, if one is."""
        return tuple(close_to_boundary(self.parts.stable, self.size))

    @property
    def exact(self) -> bool:
        """Whether the Gramians are those of the system, so that its values bound every error."""
        return not self.factors.name

    @cached_property
    def balanced(self) -> StateSpace:
        """(W A T, W B, C T, D) of `minimal_order` states, in double precision."""
        return self.parts.with_projected(project(self.parts.stable, *self.inner))

    @cached_property
    def error_bounds(self) -> Array:
        """The error bounds of all orders (..., n + 1), infinite where none is known."""
        of = self.factors.error_bounds or no_bounds
        if of is error_bound and self.near_unstable:  # what is equal to rounding may be distinct
            of = each_counted
        return of(self.sigma)

    @cached_property
    def residual_bounds(self) -> Array:
        """Those of singular perturbation, which are others for some Gramians."""
        of = self.factors.residual_bounds
        return of(self.sigma) if of else self.error_bounds

    def error_bound(self, order: int) -> Array:
        """The error bound of `order`: for exact Gramians twice the sum of the distinct values."""
        return self.error_bounds[..., check_order(order, self.system.order)]

    def order_for(
        self, tol: float | None = None, relative: bool = False, energy: float | None = None
    ) -> int:
        """Smallest order whose bound is within `tol`, or that keeps `energy`: see `lti.order_for`.

        With `relative`, `tol` counts in units of the largest finite value.
        """
        return self.select_order(OrderChoice(tol=tol, relative=relative, energy=energy))

    def select_order(self, choice: OrderChoice, bounds: Array | None = None) -> int:
        """The order of a `choice`, by `bounds` (..., n + 1) or those of balanced truncation."""
        bounds = self.error_bounds if bounds is None else bounds
        of_residual = self.factors.residual_bounds if bounds is self.residual_bounds else None
        if choice.tol is not None and not (self.factors.error_bounds or of_residual):
            raise OrderError(
                f"tol={choice.tol!r} needs an error bound, and none is known where Gramians are "
                f"{self.factors.name}; give an order or energy={self.factors.remedy}"
            )
        return choice.select(self.sigma, bounds, self.smallest_order)

    def coordinates(self, order: int) -> tuple[StateSpace, Array, Array]:
        """The system in coordinates whose first `order` states span the leading ones, with T and W.

        In balanced coordinates, or of the balancing-free method in orthonormal bases; in double
        precision, of `minimal_order` states.
        """
        T, W = self.inner
        if self.method == "square-root" or T.shape[-1] == 0:
            return self.balanced, self.right, self.left
        k, rank, xp = self.smallest_order, T.shape[-1], namespace(T)
        times_E = getattr(self.parts.stable, "times_E", None)
        d = xp.ones((1, 1)) if times_E else basis_scaling(T, W)
        T, W = T / d, W * H(d)
        # Separate blocks for states whose directions in T and W are nearly orthogonal: else their
        # rounding would spread to the others
        sound = self.sigma[..., k:] > SOUND * self.roundoff_scale[..., None]
        sound = int(to_numpy(xp.sum(xp.astype(sound, xp.int64), axis=-1)).max(initial=0))
        cuts = sorted({0, max(0, order - k), min(sound, rank), rank})
        blocks = [slice(*ends) for ends in pairwise(cuts)]
        bases = [orthonormal(T[..., x], W[..., x, :], times_E) for x in blocks]
        T = d * xp.concat([T for T, _ in bases], axis=-1)
        W = xp.concat([W for _, W in bases], axis=-2) / H(d)
        parts = self.parts
        return parts.with_projected(project(parts.stable, T, W)), parts.right(T), parts.left(W)

    def reduce(
        self,
        method: str | Method,
        order: int | None = None,
        *,
        tol: float | None = None,
        relative: bool = False,
        energy: float | None = None,
    ) -> Reduction:
        """The reduction by a registered `method`, or by a `ReductionMethod`.

        Its arguments `order`, `tol`, `relative` and `energy` are those of `balanced_truncation`.
        """
        choice = OrderChoice(order, tol, relative, energy)
        return find_method(method).reduce(self, choice)

    def truncate(
        self,
        order: int | None = None,
        *,
        tol: float | None = None,
        relative: bool = False,
        energy: float | None = None,
    ) -> Reduction:
        """W A T, W B, C T: see `balanced_truncation` for `order`, `tol`, `relative`, `energy`."""
        return self.reduce("balanced-truncation", order, tol=tol, relative=relative, energy=energy)

    def singular_perturbation(
        self,
        order: int | None = None,
        *,
        tol: float | None = None,
        relative: bool = False,
        energy: float | None = None,
    ) -> Reduction:
        """The truncated states are residualized: see `singular_perturbation` for the function.

        Its arguments `order`, `tol`, `relative` and `energy` are those of `truncate`.
        """
        choice: Any = dict(tol=tol, relative=relative, energy=energy)
        return self.reduce("singular-perturbation", order, **choice)

    def __repr__(self) -> str:
        return f"Balancing({self.system!r}, minimal_order={self.minimal_order})"


def balance(
    sys: SystemLike,
    *,
    unstable: str = "raise",
    alpha: float | None = None,
    method: str = "square-root",
    input_weight: SystemLike | None = None,
    output_weight: SystemLike | None = None,
    weighting: str = "enns",
    frequencies: Any = None,
    times: Any = None,
    controllability: FactorSource | None = None,
    observability: FactorSource | None = None,
    gramians: Callable[[StateSpace], GramianPair] | None = None,
) -> Balancing:
    """T = S V sigma^-1/2, W = sigma^-1/2 U^H R^H with U diag(sigma) V^H = R^H S (square root).

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        A system of n states.
    unstable : {"raise", "split"}, optional
        What to do about unstable poles, on or beyond the stability boundary: refuse the system, or
        reduce its stable part and keep the rest as it is. The states kept count, and come first.
    alpha : float, optional
        With ``unstable="split"``: the boundary of the poles that are kept, a real part <= 0, or in
        discrete time a radius <= 1, so that slow poles of a stable system can be kept as well.
    method : {"square-root", "balancing-free"}, optional
        The coordinates of the reduced system: balanced, or orthonormal bases of the same spaces,
        which are better conditioned where the values span many orders of magnitude.
    input_weight, output_weight : StateSpace, optional
        Stable W_i, W_o: the error that counts is ``W_o (G - G_r) W_i``.
    weighting : {"enns", "lin-chiu", "wang"}, optional
        How a weighted, limited or user-supplied Gramian is used. "enns": as it is; the reduced
        system is stable if the other Gramian is that of the system, and nothing is promised if
        neither is, as with limits. "lin-chiu": without the part that the states of the weight
        explain; stable, unless limits are given as well. "wang": replaced by the Gramian of the
        system with a larger input or output; stable, with an error bound.
    frequencies : (w1, w2) or sequence of such pairs, optional
        Only these frequencies count, in rad per unit of time. The bands of a real system are
        mirrored to negative ones.
    times : (t1, t2) or sequence of such pairs, optional
        Only these times of the impulse response count.
    controllability, observability : array (..., n, k), GramianFactor or callable, optional
        Factors S, R of any P = S S^H, Q = R R^H in place of the Gramians, for example states
        observed in data. A `GramianFactor` also has a name. A function is called with the stable
        part, a dense `StateSpace` in double precision (for the observability with its dual), or
        for both with the stable part of a sparse system, and returns one of the two.
    gramians : callable, optional
        ``gramians(G)`` returns a `GramianPair` of the stable part, which says what bound holds.

    Returns
    -------
    Balancing
        Values and projections, from which every order is a slice.

    Raises
    ------
    UnstableError
        If the system has an unstable pole (and ``unstable="raise"``), or a weight has one.
    DefectiveError
        If the unstable poles are too close to the stable ones to be split off.
    OptionError
        If an option does not exist, or two contradict each other.
    NonFiniteError
        If a user-supplied factor has an entry that is not finite.
    DimensionError
        If a weight or a factor does not fit.
    DerivativeError
        If torch records derivatives, and none is known of these Gramians or of the split.

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
    if sparse := isinstance(sys, SparseStateSpace):
        sys = sys.finite_part
    parts = parts_of(sys if sparse else sys.double(), unstable, alpha)
    k = parts.rest.order
    parts, factors = choose_pair(
        parts,
        gramians=gramians,
        controllability=controllability,
        observability=observability,
        input_weight=input_weight,
        output_weight=output_weight,
        weighting=weighting,
        frequencies=frequencies,
        times=times,
    )
    S, R = factors.S, factors.R
    xp = namespace(S)
    sigma, right, left = balanced(parts.stable, S, R, factors.of_system, factors.product_scale)
    WB = left @ (parts.stable if sparse else parts.stable.to_dense()).B
    turn = from_numpy(turn_of(to_numpy(WB)), like=S)
    right, left = right * conj(turn)[..., None, :], left * turn[..., :, None]
    if k:
        kept = xp.full((*sigma.shape[:-1], k), float("inf"), dtype=sigma.dtype, device=device(S))
        sigma = xp.concat([kept, sigma], axis=-1)
    sigma = pad(sigma[..., : sys.order], sys.order)  # unstable states that do nothing
    return Balancing(sys, parts, factors, sigma, (right, left), method)
