"""Optimal Hankel-norm approximation: no system of r states comes closer in the Hankel norm."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np

from lti._backend.arrays import Array, H, block_diag, from_numpy, namespace, spectral_norm
from lti._backend.checks import no_derivative
from lti.errors import DimensionError, LTIError, OptionError, ReductionWarning, warn
from lti.hankel import EQUAL, OrderChoice, error_bound
from lti.norms import hankel_norm
from lti.reduction.balancing import Balancing, balance
from lti.reduction.bounds import as_it_is, cancelling, certified, rounded
from lti.reduction.certificate import Reduction
from lti.reduction.methods import register_method
from lti.systems.algebra import host_copy, member
from lti.systems.discretize import to_continuous, to_discrete
from lti.systems.protocol import System, SystemLike
from lti.systems.split import split
from lti.systems.statespace import StateSpace

__all__ = ["hankel_norm_approximation"]

NAME = "Hankel-norm approximation"
EPS = 2.0**-52
ROUNDING = 1e3 * EPS  # times n |R| |S|: errors this small say nothing
# How close to hsv[r], relatively, a value counts as equal to it: as in the bounds, and where that
# is lost to rounding so close that it costs no more than OPTIMAL
CLUSTERS = (EQUAL, 1e-10, 1e-8, 1e-6)
OPTIMAL = 1e-6  # an error above hsv[r] by less, relatively, is optimal
USEFUL = 1e-2  # by less: better than balanced truncation, and flagged


def hankel_norm_approximation(
    sys: SystemLike,
    order: int | None = None,
    tol: float | None = None,
    *,
    relative: bool = False,
    energy: float | None = None,
    unstable: str = "raise",
    alpha: float | None = None,
) -> Reduction:
    """||G - G_r||_H = hsv[r], the smallest with r states, and ||G - G_r||_inf <= sum(hsv[r:]).

    The feedthrough is Glover's, with which the H-infinity error is at most the sum of the distinct
    values of ``hsv[r:]``: half the bound of `balanced_truncation`.

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
        In place of `order`: the smallest order that keeps this fraction of the sum of the values.
    unstable : {"raise", "split"}, optional
        Refuse a system with unstable poles, or keep their states.
    alpha : float, optional
        With ``unstable="split"``: the boundary of what is kept, as in `balance`.

    Returns
    -------
    Reduction
        Its system is no projection, so T and W are None, and D differs from that of `sys`.

    Raises
    ------
    UnstableError
        If `sys` has an unstable pole and ``unstable="split"`` was not given.
    OrderError
        If not just one of `order`, `tol` and `energy` is given, if it is out of range, or if it
        is less than the number of unstable poles.
    DimensionError
        If the systems of a batch need different orders.
    DerivativeError
        If torch records derivatives of the system.

    Warns
    -----
    ReductionWarning
        If the order is lowered, to the minimal order or because the cut divides equal values (fewer
        states reach the same error then), if the optimum is lost to rounding, if a pole lies within
        1e-8 of the stability boundary, or if the Gramians nearly cancel.

    Notes
    -----
    The Hankel-norm error of every result is measured. Where it is more than 1e-6 above ``hsv[r]``,
    which takes values that are nearly but not quite equal to it, a flag says so; where it is far
    above, the result is that of `balanced_truncation`.

    Values below rounding, beyond the minimal order, are truncated before and count twice in the
    error bound. Values that repeat beyond the cut may count more than once.

    References
    ----------
    Glover, "All optimal Hankel-norm approximations of linear multivariable systems and their
    L-infinity error bounds", Int. J. Control 39 (1984), theorems 6.3 and 9.7; Safonov, Chiang,
    Limebeer, "Optimal Hankel model reduction for nonminimal systems", IEEE TAC 35 (1990).

    Examples
    --------
    >>> import lti, numpy as np
    >>> A, B, C = -np.diag(np.arange(1.0, 21.0)), np.ones((20, 1)), np.ones((1, 20))
    >>> reduction = lti.hankel_norm_approximation((A, B, C), tol=1e-3)
    >>> reduction
    Reduction: order 20 -> 4, 0.000304 <= H-infinity error <= 0.000329
    >>> bool(reduction.verify() <= reduction.error_bound)
    True
    """
    balancing = balance(sys, unstable=unstable, alpha=alpha)
    return balancing.reduce(HANKEL_NORM, order, tol=tol, relative=relative, energy=energy)


class HankelNormApproximation:
    """The method behind `hankel_norm_approximation`."""

    name = "hankel-norm"

    def reduce(self, balancing: Balancing, choice: OrderChoice) -> Reduction:
        """The reduction of `balancing`, of exact Gramians, to the order of `choice`."""
        if not balancing.exact:
            raise OptionError(
                "a Hankel-norm approximation needs the Gramians of the system itself, got Gramians "
                f"{balancing.factors.name}; leave these options out, or choose balanced truncation"
            )
        reduction = _reduced(balancing, choice)
        for flag in reduction.flags:
            warn(flag, ReductionWarning)
        return reduction


HANKEL_NORM = register_method(HankelNormApproximation())


def _reduced(balancing: Balancing, choice: OrderChoice) -> Reduction:
    no_derivative("hankel_norm_approximation has", *balancing.system.matrices)
    sys, parts = balancing.system, balancing.parts
    n, rank, kept = sys.order, balancing.minimal_order, balancing.smallest_order
    asked = balancing.select_order(choice, balancing.error_bounds / 2)
    if choice.tol is not None and (asked > rank or asked == n > 0):
        return as_it_is(balancing, choice.tol, NAME)
    flags = [*balancing.near_unstable, *cancelling(balancing)]
    stable, bound, notes = _approximations(parts.stable, asked - kept)
    order = kept + stable.order
    known, xp = balancing.error_bound(order) / 2, namespace(bound)
    bound = xp.where(bound > known, bound, known)
    if order < asked:
        reason = (
            "the others are below rounding"
            if asked > rank
            else "the cut divides equal Hankel singular values, and fewer states do as well"
        )
        flags.append(f"order lowered from {asked} to {order}: {reason}")
    A, B = block_diag(parts.rest.A, stable.A), xp.concat([parts.rest.B, stable.B], axis=-2)
    C = xp.concat([parts.rest.C, stable.C], axis=-1)
    system = StateSpace(A, B, C, stable.D, sys.dt)
    flags += rounded(balancing, order, bound) + notes
    reduction = certified(balancing, system, order, bound, flags, NAME, choice)
    roundoff_scale = balancing.roundoff_scale + spectral_norm(stable.D)
    return replace(reduction, claim=replace(reduction.claim, roundoff_scale=roundoff_scale))


def _approximations(sys: System, order: int) -> tuple[System, Array, list[str]]:
    """G_r of a stable system or batch, the bounds, and flags if an optimum was lost."""
    host = host_copy(sys)
    # Both directions of the bilinear map keep the Gramians, and both norms of every difference
    host = to_continuous(host, 1.0) if sys.is_discrete else host
    members = [_approximate(balance(member(host, i)), order) for i in np.ndindex(sys.batch_shape)]
    orders = {system.order for system, _, _ in members} or {order}
    if len(orders) > 1:
        raise DimensionError(
            f"the systems of the batch need different orders, {sorted(orders)}, in place of "
            f"{order}; reduce each of them, or choose another order"
        )
    r, m, p = orders.pop(), sys.n_inputs, sys.n_outputs

    def stacked(values: list, *shape: int) -> Array:
        return from_numpy(np.array(values).reshape((*sys.batch_shape, *shape)), like=sys.B)

    shapes = {"A": (r, r), "B": (r, m), "C": (p, r), "D": (p, m)}
    matrices = (stacked([getattr(x, k) for x, _, _ in members], *shapes[k]) for k in shapes)
    system = StateSpace(*matrices)
    system = to_discrete(system, 1.0, sys.dt) if sys.is_discrete else system
    flags = dict.fromkeys(flag for *_, flags in members for flag in flags)
    return system, stacked([bound for _, bound, _ in members]), list(flags)


def _approximate(balancing: Balancing, order: int) -> tuple[StateSpace, float, list[str]]:
    """The same for one continuous NumPy system."""
    sigma, rank = balancing.sigma, balancing.minimal_order
    below = float(error_bound(sigma, rank))  # what the states below rounding cost
    if order >= rank:
        return balancing.balanced, below, []
    best, dense, found = float(sigma[order]), balancing.system.to_dense(), []
    rounding = ROUNDING * len(sigma) * float(balancing.roundoff_scale)
    for close in CLUSTERS:
        equal = np.flatnonzero(np.abs(sigma[:rank] - best) <= close * best)
        first, end = int(equal[0]), int(equal[-1]) + 1
        try:
            system, values = _optimal(balancing.balanced, sigma[:rank], first, end)
            error = float(hankel_norm(dense - system))
        except (LTIError, np.linalg.LinAlgError):
            continue
        # Theory: as many stable poles, an error of hsv[r], and F no larger than what was cut
        bound = best + float(error_bound(values, 0)) / 2
        excess = max(error, bound - float(sigma[end:].sum())) - best
        # The sum of the distinct values, unless those of F differ where those of G repeat
        bound = max(float(error_bound(sigma, first)) / 2, bound) + below / 2
        if system.order == first and excess <= OPTIMAL * best + rounding:
            return system, bound, []
        if system.order == first and excess <= USEFUL * best:
            found.append((excess, system, bound))
    if found:
        excess, system, bound = min(found, key=lambda x: x[0])
        text = f"the Hankel-norm error is above its optimum by {excess / best:.0e}, relatively"
        return system, bound + excess, [f"{text}, lost to rounding in values that are nearly equal"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReductionWarning)
        truncation = balancing.truncate(order)
    flag = (
        "the optimum is lost to rounding, in values that are nearly equal: this is balanced "
        "truncation, with twice the error bound; try a neighbouring order"
    )
    return truncation.system, float(truncation.error_bound), [flag]


def _optimal(
    sys: StateSpace, sigma: np.ndarray, first: int, end: int
) -> tuple[StateSpace, np.ndarray]:
    """G_r + D_0 with |G - G_r - F| <= s everywhere, F antistable; also the values of F.

    G is balanced and continuous, s the value of sigma[first:end].
    """
    parts = split(_dilate(sys, sigma, first, end))
    stable, F = parts.stable.to_dense(), parts.rest
    # F(-s) is stable. Dilated at its smallest value it keeps the others and stays balanced; what is
    # left in the end is D_0, no further from F than the sum of the distinct values
    mirrored = balance(StateSpace(-F.A, F.B, -F.C))
    F, values = mirrored.balanced, mirrored.sigma[: mirrored.minimal_order]
    left = values
    while len(left):
        last = int(np.searchsorted(-left, -left[-1] / (1 - EQUAL)))
        F, left = _dilate(F, left, last, len(left)), left[:last]
    return StateSpace(stable.A, stable.B, stable.C, stable.D + F.D), values


def _dilate(sys: StateSpace, sigma: np.ndarray, first: int, end: int) -> StateSpace:
    """G_hat with |G - G_hat| <= s everywhere, for a balanced G and s = sigma[first:end].

    Of its poles as many are stable as there are values above s. Glover's formulas are divided by
    Gamma = sigma^2 - s^2 in equal shares from both sides: no entry is larger than the accuracy of
    the data warrants, and with all values above s the result is balanced again.
    """
    s, cut = sigma[first:end].mean(), slice(first, end)
    A = np.delete(np.delete(sys.A, cut, axis=0), cut, axis=1)
    B, C = np.delete(sys.B, cut, axis=0), np.delete(sys.C, cut, axis=1)
    sigma = np.delete(sigma, cut)
    # B_2 = -C_2^H U: a partial isometry, by Procrustes
    X, size, Yh = np.linalg.svd(sys.C[:, cut] @ sys.B[cut], full_matrices=False)
    rank = np.count_nonzero(size > 64 * EPS * size.max(initial=0.0))
    U = -X[:, :rank] @ Yh[:rank]
    gamma = (sigma - s) * (sigma + s)
    root, sign = np.sqrt(np.abs(gamma)), np.sign(gamma)
    Bs = sigma[:, None] * B + s * H(C) @ U
    Cs = C * sigma + s * U @ H(B)
    # s^2 A^H + Sigma A Sigma - s C^H U B^H, by whichever of two Lyapunov equations cancels less
    by_rows = gamma[:, None] * H(A) + Bs @ H(B)
    by_columns = H(A) * gamma + H(C) @ Cs
    As = -np.where(root[:, None] <= root, by_rows, by_columns)
    row = (sign / root)[:, None]
    return StateSpace(row * As / root, row * Bs, Cs / root, sys.D - s * U)
