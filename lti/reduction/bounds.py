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
from lti.systems.protocol import System
from lti.systems.stability import is_stable
from lti.systems.statespace import StateSpace

__all__ = [
    "as_it_is",
    "cancelling",
    "cast_gain",
    "certified",
    "close_to_boundary",
    "divided",
    "near_unstable",
    "rounded",
    "stable_part",
]

EPS = 2.0**-52
NEAR = 1e-8  # a pole this close to the stability boundary is flagged
LOST = 1e-12  # and one that only the reduced system has
CANCEL = 1e6  # and Gramians whose product is this much smaller than their sizes


def near_unstable(balancing: Balancing) -> list[str]:
    """The flag that a pole is close to the stability boundary, if one is."""
    if "near_unstable" not in vars(balancing):  # it is asked for several times
        flags = close_to_boundary(balancing.parts.stable, _size(balancing))
        vars(balancing)["near_unstable"] = flags
    return list(vars(balancing)["near_unstable"])


def _size(balancing: Balancing) -> np.ndarray:
    """The largest entry of A in balanced coordinates (...)."""
    k = balancing.smallest_order
    return np.abs(to_numpy(balancing.balanced.A)[..., k:, k:]).max(axis=(-2, -1), initial=0.0)


def close_to_boundary(
    sys: System, size: np.ndarray, what: str = "a pole", near: float = NEAR
) -> list[str]:
    """The flag of one pole, where `size` (...) is that of A: rounding moves poles in proportion."""
    poles = to_numpy(sys.poles)
    gap = 1 - np.abs(poles) if sys.is_discrete else -poles.real
    if not sys.is_discrete:
        gap = gap / np.where(size > 0, size, 1.0)[..., None]
    smallest = gap.min(initial=1.0)
    if not 0 < smallest < near:  # beyond the boundary it is another flag
        return []
    return [
        f"{what}, {poles.ravel()[gap.argmin()]:.9g}, is within {smallest:.1g} of the stability "
        "boundary, relative to the size of A: rounding this pole changes the system by about "
        f"{EPS / smallest:.0e}, relatively"
    ]


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
    n, scale = balancing.system.order, to_numpy(balancing.roundoff_scale)
    pair, cost = balancing.factors, ROUNDING * n * EPS * scale
    usual = ROUNDING * n * EPS * to_numpy(pair.product_scale)
    lost = pair.roundoff + (pair.roundoff_gain - 1) * usual
    bad = (to_numpy(bound) < cost) & (lost > usual)
    if order >= n or not bad.any() or near_unstable(balancing):  # that flag says it
        return []
    return [
        f"the error may exceed its bound: rounding may have moved the system by about "
        f"{cost[bad].max():.1g}, as its poles are of very different size or sensitive; choose an "
        "order or a tolerance with a larger bound"
    ]


def divided(balancing: Balancing, order: int) -> list[str]:
    """The flag that the cut at `order` divides equal Hankel singular values, if it does."""
    last, first = _values_around_cuts(balancing, balancing.minimal_order)
    gap = np.maximum(EQUAL * last, 4 * EPS * to_numpy(balancing.cancellation_scale)[..., None])
    equal = _of_any_member((last - first <= gap) & (first > 0))
    if not equal[order]:
        return []
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
    if balancing.method == "balancing-free" or not balancing.exact or near_unstable(balancing):
        return True
    last, first = _values_around_cuts(balancing, balancing.system.order)
    small = 1e-4 * to_numpy(balancing.roundoff_scale)[..., None]
    return bool(_of_any_member((last - first <= 1e-4 * last) | (last <= small))[order])


def _values_around_cuts(balancing: Balancing, rank: int) -> tuple[Any, Any]:
    """The values on both sides of the cuts at orders 1 to n; zero beyond `rank`."""
    sigma = to_numpy(balancing.sigma)
    sigma = np.where(np.isfinite(sigma), sigma, np.finfo(float).max)
    sigma[..., rank:] = 0.0
    return sigma, np.concatenate([sigma[..., 1:], np.zeros_like(sigma[..., :1])], axis=-1)


def _of_any_member(at: Any) -> Any:
    """`at` (..., n) for orders 1 to n, over all systems of a batch, with order 0 in front."""
    return np.concatenate([[False], at.any(axis=tuple(range(at.ndim - 1)))])


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
    if not near_unstable(balancing):
        what, exact = "a pole of the reduced system", stable_part(system, kept)
        flags = [*flags, *close_to_boundary(exact, _size(balancing), what, LOST)]
    inside = is_stable(stable) if cast or _may_be_unstable(balancing, order) else np.asarray(True)
    if not inside.all():
        bound = xp.where(from_numpy(inside, like=bound), bound, float("inf"))
        advice = "" if balancing.exact else ', or balance with weighting="wang"'
        flags = [
            *flags,
            f"the reduced system of order {order} is unstable: try a neighbouring order{advice}",
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
