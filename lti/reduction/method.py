"""A reduction method from a function: (balancing, order) -> (G_r, T, W), with its error bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from lti._backend.arrays import Array
from lti.errors import OptionError, OrderError, ReductionWarning, warn
from lti.hankel import OrderChoice, no_bounds
from lti.reduction.balancing import Balancing
from lti.reduction.bounds import (
    as_it_is,
    cancelling,
    certified,
    divided,
    rounded,
    stable_part,
)
from lti.reduction.certificate import Reduction
from lti.systems.sparse import SparseStateSpace
from lti.systems.statespace import StateSpace

__all__ = ["ReductionMethod"]


@dataclass(frozen=True)
class ReductionMethod:
    """G_r, T, W = form(balancing, order), and what theory says of the error at every order.

    Parameters
    ----------
    name : str
        Lower case with hyphens, as in ``lti reduce --method``; `Reduction.method` has spaces.
    form : callable
        ``form(balancing, order)`` returns G_r, a `StateSpace` of `order` states in double
        precision, and the projections T, W or None for them. `Balancing.coordinates` is what most
        forms begin with. The states of unstable poles, `Balancing.smallest_order` of them, come
        first and stay as they are.
    error_bounds : callable, optional
        ``error_bounds(balancing)`` returns the bounds (..., n + 1) of the orders 0 to n. Without
        it no bound is claimed.

    See Also
    --------
    register_method

    Examples
    --------
    >>> import lti, numpy as np
    >>> def leading_states(balancing, order):
    ...     system, T, W = balancing.coordinates(order)
    ...     A, B, C = system.A[:order, :order], system.B[:order], system.C[:, :order]
    ...     return lti.StateSpace(A, B, C, system.D, system.dt), T[:, :order], W[:order]
    >>> method = lti.ReductionMethod("leading-states", leading_states)
    >>> sys = lti.StateSpace(np.diag([-1.0, -2.0]), np.ones((2, 1)), np.ones((1, 2)))
    >>> lti.balance(sys).reduce(method, order=1).system.order
    1
    """

    name: str
    form: Callable[[Balancing, int], tuple[StateSpace, Array | None, Array | None]]
    error_bounds: Callable[[Balancing], Array] | None = None

    def reduce(self, balancing: Balancing, choice: OrderChoice) -> Reduction:
        """The reduction of `balancing` to the order of `choice`, certified and with flags."""
        n, rank, kept = (
            balancing.system.order, balancing.minimal_order, balancing.smallest_order
        )  # fmt: skip
        name = self.name.replace("-", " ")
        name += "" if balancing.exact else f", Gramians {balancing.factors.name}"
        order, hidden = self._order(balancing, choice), balancing.factors.hidden
        if choice.tol is not None and order > rank and hidden is not None:
            raise OrderError(
                f"no order has a bound within tol={choice.tol!r}: the low-rank factors of the "
                f"sparse system give {rank} values above rounding, and the bound of order {rank} "
                f"is {float(self._bounds(balancing)[rank]):.3g}; allow a larger tol, or give order="
            )
        if choice.tol is not None and (order > rank or order == n > 0):
            reduction = as_it_is(balancing, choice.tol, name)
        else:
            flags = [*balancing.near_unstable, *balancing.factors.flags]
            flags += cancelling(balancing) if order > kept else []
            if order > rank:
                rest = "the others are below rounding" if balancing.exact else "the Gramians' rank"
                flags.append(f"order lowered from {order} to {rank}: {rest}")
                order = rank
            flags += divided(balancing, order)
            system, T, W = self._formed(balancing, order)
            bound = self._bounds(balancing)[..., order]
            flags += rounded(balancing, order, bound)
            reduction = certified(balancing, system, order, bound, flags, name, choice, T, W)
        for flag in reduction.flags:
            warn(flag, ReductionWarning)
        if isinstance(balancing.system, SparseStateSpace):
            form = stable_part(balancing.balanced, balancing.smallest_order)
            claim = replace(reduction.claim, form=form)
            reduction = replace(reduction, claim=claim)
        if hidden is not None:  # true of every sparse system, so it is no warning
            note = (
                f"the bound is an estimate: {2 * hidden:.1g} of it stand for what the low-rank "
                "factors leave out"
            )
            reduction = replace(reduction, flags=(*reduction.flags, note))
        return reduction

    def _formed(self, balancing: Balancing, order: int) -> tuple[StateSpace, Any, Any]:
        made: Any = self.form(balancing, order)
        if not (isinstance(made, tuple) and len(made) == 3 and isinstance(made[0], StateSpace)):
            raise OptionError(
                f"the form of {self.name} returned {type(made).__name__}; it must return a "
                "StateSpace, T and W (None, None if it is no projection)"
            )
        if made[0].order != order:
            raise OrderError(
                f"the form of {self.name} returned {made[0].order} states for the order {order}"
            )
        return made

    def _order(self, balancing: Balancing, choice: OrderChoice) -> int:
        if choice.tol is not None and self.error_bounds is None:
            raise OrderError(
                f"tol={choice.tol!r} needs an error bound, and {self.name} states none; give an "
                "order or energy="
            )
        return balancing.select_order(choice, self._bounds(balancing))

    def _bounds(self, balancing: Balancing) -> Array:
        if self.error_bounds is not None:
            bounds, n = self.error_bounds(balancing), balancing.system.order
            if bounds.shape[-1] != n + 1:
                raise OptionError(
                    f"error_bounds of {self.name} returned {bounds.shape[-1]} bounds; it must "
                    f"return {n + 1}, for the orders 0 to {n}"
                )
            return bounds
        return no_bounds(balancing.sigma)
