"""What a reduction promises: its error bound as stored, and the flags its user should know of."""

from __future__ import annotations

from typing import Any

import numpy as np

from lti._backend.arrays import Array, eye, from_numpy, namespace, narrow, to_numpy
from lti.gramians.exact import ROUNDING
from lti.hankel import EQUAL, OrderChoice
from lti.norms import hinf_norm
from lti.peak import peak_gain
from lti.reduction.balancing import Balancing
from lti.reduction.certificate import Claim, Reduction
from lti.systems.stability import close_to_boundary, is_stable
from lti.systems.statespace import StateSpace

__all__ = [
    "as_it_is",
    "cancelling",
    "cast_gain",
    "certified",
    "divided",
    "may_exceed",
    "rounded",
    "stable_part",
]

EPS = 2.0**-52
LOST = 1e-12  # a pole of the reduced system this close to the stability boundary is flagged
MUCH = 1e2  # times what is usual
SURE = 10.0  # times what was lost, as that is an estimate
CANCEL = 1e6  # and Gramians whose product is this much smaller than their sizes


def cancelling(balancing: Balancing) -> list[str]:
    """The flag that P Q is far smaller than P and Q, if it is."""
    n, k = balancing.system.order, balancing.smallest_order
    scale = to_numpy(balancing.cancellation_scale)
    if n == k:
        return []
    top = to_numpy(balancing.sigma)[..., k]
    bad = scale > CANCEL * top
    if not bad.any():
        return []
    return [
        f"the Gramians nearly cancel: values below {n * EPS * scale[bad].max():.1g} are rounding, "
        f"and the largest is {top[bad].min():.3g}"
    ]


def rounded(balancing: Balancing, order: int, bound: Array) -> list[str]:
    """The flag that rounding may have cost more than `bound` (...), where much was lost to it."""
    n, pair = balancing.system.order, balancing.factors
    usual = n * EPS * to_numpy(pair.product_scale)
    lost = to_numpy(pair.roundoff) + (pair.roundoff_gain - 1) * ROUNDING * usual
    if order >= n or balancing.near_unstable:  # that flag says it
        return []
    return may_exceed(to_numpy(bound), lost, usual)


def may_exceed(bound: Any, lost: Any, usual: Any) -> list[str]:
    """The flag that an error bound is not above what rounding has moved the system by, `lost`.

    Where that is no more than a hundred times `usual`, n eps |R| |S|, there is none.
    """
    bad = np.asarray((bound < SURE * lost) & (lost > MUCH * usual))
    if not bad.any():
        return []
    return [
        f"the error may exceed its bound: rounding may have moved the system by about "
        f"{np.asarray(lost)[bad].max():.1g}, as its poles are of very different size or sensitive; "
        "choose an order or a tolerance with a larger bound"
    ]


def divided(balancing: Balancing, order: int) -> list[str]:
    """The flag that the cut at `order` divides equal Hankel singular values, if it does."""
    last, first = _values_around_cuts(balancing, balancing.minimal_order)
    gap = np.maximum(EQUAL * last, 4 * EPS * to_numpy(balancing.cancellation_scale)[..., None])
    at = (last - first <= gap) & (first > 0)
    if not _at(at, order):
        return []
    equal = [_at(at, r) for r in range(at.shape[-1] + 1)]
    below = max(r for r in range(order) if not equal[r])
    above = min(r for r in range(order + 1, len(equal)) if not equal[r])
    value = to_numpy(balancing.sigma)[..., order].min()
    return [
        f"the cut at order {order} divides equal Hankel singular values ({value:.6g}): which of "
        "their states are kept is arbitrary, and the reduced system may be unstable; orders "
        f"{below} and {above} divide none"
    ]


def _may_be_unstable(balancing: Balancing, order: int) -> bool:
    """Whether the theorem that keeps a reduced system stable may fail at this order.

    It does for values that hardly differ, values close to rounding, and modified Gramians.
    """
    if balancing.method == "balancing-free" or not balancing.exact or balancing.near_unstable:
        return True
    last, first = _values_around_cuts(balancing, balancing.system.order)
    small = 1e-4 * to_numpy(balancing.roundoff_scale)[..., None]
    return _at((last - first <= 1e-4 * last) | (last <= small), order)


def _values_around_cuts(balancing: Balancing, rank: int) -> tuple[Any, Any]:
    """The values on both sides of the cuts at orders 1 to n; zero beyond `rank`."""
    sigma = to_numpy(balancing.sigma)
    values = np.zeros((*sigma.shape[:-1], sigma.shape[-1] + 1))
    values[..., :rank] = np.minimum(sigma[..., :rank], np.finfo(float).max)
    return values[..., :-1], values[..., 1:]


def _at(cuts: np.ndarray, order: int) -> bool:
    """Whether the cut at `order` is one of `cuts` (..., n), of orders 1 to n, for any system."""
    return order > 0 and bool(cuts[..., order - 1].any())


def certified(
    balancing: Balancing,
    system: StateSpace,
    order: int,
    bound: Array,
    flags: list[str],
    name: str,
    choice: OrderChoice,
    T: Array | None = None,
    W: Array | None = None,
) -> Reduction:
    """A reduced system in the dtype of the original, with a certificate of what was stored."""
    original, kept, weights = balancing.system, balancing.smallest_order, balancing.factors.weights
    like, xp = original.B, namespace(bound)
    A, B, C, D = (narrow(x, like) for x in system.matrices)
    stored = StateSpace(A, B, C, D, system.dt, original.labels.without_states())
    stable, cast = stable_part(stored, kept), B.dtype != system.B.dtype
    if not balancing.near_unstable:
        what, exact = "a pole of the reduced system", stable_part(system, kept) if cast else stable
        flags = [*flags, *close_to_boundary(exact, balancing.size, what, LOST)]
    inside = is_stable(stable) if cast or _may_be_unstable(balancing, order) else np.asarray(True)
    if not inside.all():
        bound = xp.where(from_numpy(inside, like=bound), bound, float("inf"))
        flags = [
            *flags,
            f"the reduced system of order {order} is unstable: try a neighbouring "
            f"order{balancing.factors.remedy}",
        ]
    elif cast and bool(xp.all(xp.isfinite(bound))):
        gain = cast_gain(stable_part(system, kept), stable)
        for weight in weights:
            gain = gain * hinf_norm(weight) if weight else gain
        bound = bound + gain
    if choice.tol is not None:
        limit = choice.limit(to_numpy(balancing.sigma))[..., 0]
        if (to_numpy(bound) > limit * (1 + 1e-9)).any():
            advice = "convert the system to float64" if cast else "try a higher order"
            flags = [*flags, f"the bound is above {choice.tol:g}, as stored in {B.dtype}: {advice}"]
    claimed = balancing.exact and order < original.order
    lower = balancing.sigma[..., order] if claimed else xp.zeros_like(bound)
    return Reduction(
        original=original,
        system=stored,
        order=order,
        hsv=balancing.hsv,
        claim=Claim(
            error_bound=narrow(bound, like),
            lower_bound=narrow(lower, like),
            pair=(balancing.parts.stable, stable) if balancing.is_part else None,
            weights=weights,
            roundoff_scale=balancing.roundoff_scale,
            form=balancing.parts.stable if not balancing.parts.in_place else None,
            minimal=stable_part(balancing.balanced, kept) if balancing.exact else None,
        ),
        T=None if T is None else narrow(T, like),
        W=None if W is None else narrow(W, like),
        method=name,
        flags=tuple(flags),
    )


def stable_part(sys: StateSpace, kept: int) -> StateSpace:
    """The states from `kept` on, those of the stable poles."""
    A, B, C = sys.A[..., kept:, kept:], sys.B[..., kept:, :], sys.C[..., kept:]
    return StateSpace(A, B, C, sys.D, sys.dt) if kept else sys


def cast_gain(exact: StateSpace, rounded: StateSpace) -> Array:
    """No less than ||exact - rounded||_inf: what a cast to single precision costs."""
    return peak_gain(exact, rounded, rtol=1e-3) * (1 + 1e-2)


def as_it_is(balancing: Balancing, tol: float, name: str) -> Reduction:
    """No smaller order is within the tolerance: the system itself, whose error is zero."""
    system, n = balancing.system.to_dense(), balancing.system.order
    flag = f"no order above rounding has a bound within {tol:g}: the system is returned as it is"
    identity = namespace(system.A).broadcast_to(eye(n, like=system.A), system.A.shape)
    zero = 0 * narrow(balancing.roundoff_scale, like=system.B)
    stable = balancing.parts.stable
    return Reduction(
        original=balancing.system,
        system=system,
        order=n,
        hsv=balancing.hsv,
        claim=Claim(
            error_bound=zero,
            lower_bound=zero,
            pair=(stable, stable),
            weights=balancing.factors.weights,
            roundoff_scale=balancing.roundoff_scale,
        ),
        T=identity,
        W=identity,
        method=name,
        flags=(flag,),
    )
