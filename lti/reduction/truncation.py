"""Balanced truncation: (W A T, W B, C T, D), the leading states of balanced coordinates."""

from __future__ import annotations

from operator import attrgetter
from typing import Unpack

from lti._backend.arrays import Array
from lti.reduction.balancing import Balancing, balance
from lti.reduction.certificate import Reduction
from lti.reduction.method import ReductionMethod
from lti.reduction.methods import register_method
from lti.reduction.options import BalanceOptions, with_options_of
from lti.systems.protocol import SystemLike
from lti.systems.statespace import StateSpace

__all__ = ["balanced_truncation"]


@with_options_of(balance)
def balanced_truncation(
    sys: SystemLike,
    order: int | None = None,
    tol: float | None = None,
    *,
    relative: bool = False,
    energy: float | None = None,
    **options: Unpack[BalanceOptions],
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
        In place of `order`: the smallest order that keeps this fraction of the sum of the values.
    **options
        Those of `balance`.

    Returns
    -------
    Reduction

    Raises
    ------
    UnstableError
        If `sys` has an unstable pole and ``unstable="split"`` was not given.
    OrderError
        If not just one of `order`, `tol` and `energy` is given, if it is out of range, or if it
        is less than the number of unstable poles.

    Warns
    -----
    ReductionWarning
        If the cut divides equal values, if `order` exceeds the minimal order (it is lowered to it:
        the states beyond are rounding), if the reduced system is unstable, if a pole lies within
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
    return balance(sys, **options).reduce(
        TRUNCATION, order, tol=tol, relative=relative, energy=energy
    )


def _truncated(balancing: Balancing, order: int) -> tuple[StateSpace, Array, Array]:
    """The leading states."""
    sys, T, W = balancing.coordinates(order)
    A, B, C = sys.A[..., :order, :order], sys.B[..., :order, :], sys.C[..., :order]
    return StateSpace(A, B, C, sys.D, sys.dt), T[..., :order], W[..., :order, :]


TRUNCATION = register_method(
    ReductionMethod("balanced-truncation", _truncated, attrgetter("error_bounds"))
)
