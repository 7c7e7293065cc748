"""Reduced systems and their certificates."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from lti._array import Array, diag, eye, from_numpy, namespace, narrow, to_numpy
from lti.errors import CertificateError, OrderError, ReductionWarning
from lti.hankel import EPS, EQUAL, Balancing, balance, check_order, error_bound
from lti.norms import peak_gain
from lti.system import StateSpace, System

__all__ = ["Reduction", "balanced_truncation"]


@dataclass(frozen=True, eq=False, repr=False)
class Reduction:
    """hsv[r] <= ||G - G_r||_inf <= 2 * sum of distinct hsv[r:]: a system with its certificate.

    Parameters
    ----------
    original : StateSpace or DiagonalStateSpace
        The system G that was reduced, of n states.
    system : StateSpace
        The reduced system G_r, of r states, in the dtype of the original.
    order : int
        r.
    hsv : array (..., n)
        Hankel singular values of the original.
    error_bound : array (...)
        Upper bound of the H-infinity error; infinite where theory has none (an unstable reduced
        system, factors that are not the Gramians').
    lower_bound : array (...)
        ``hsv[r]``, which no system of order r can beat; zero where theory has none.
    T, W : array (..., n, r), array (..., r, n)
        Projections with ``W T = I``: ``G_r = (W A T, W B, C T, D)``.
    flags : tuple of str
        What a user of the reduction should know; empty for a plain one.
    """

    original: Any
    system: StateSpace
    order: int
    hsv: Array
    error_bound: Array
    lower_bound: Array
    T: Array
    W: Array
    flags: tuple[str, ...] = ()

    def verify(self, tol: float = 1e-8) -> Array:
        """||G - G_r||_inf, measured, and checked against both bounds.

        Parameters
        ----------
        tol : float, optional
            Relative accuracy of the measured norm.

        Returns
        -------
        array (...)
            The H-infinity norm of the error.

        Raises
        ------
        CertificateError
            If it lies outside the bounds by more than `tol` and the rounding of the arithmetic.
        """
        error = to_numpy(peak_gain(self.original, self.system, tol=tol))
        lower, upper, hsv = (to_numpy(x) for x in (self.lower_bound, self.error_bound, self.hsv))
        top = hsv[..., 0] if hsv.shape[-1] else np.zeros_like(lower)
        rounding = 1e3 * hsv.shape[-1] * np.finfo(hsv.dtype).eps * top
        wrong = (error > upper * (1 + tol) + rounding) | (error < lower * (1 - tol) - rounding)
        if wrong.any():
            at = np.unravel_index(np.argmax(wrong), wrong.shape)
            raise CertificateError(
                f"the measured error {error[at]:.6g} lies outside its bounds, from {lower[at]:.6g} "
                f"to {upper[at]:.6g}; the system is too ill-conditioned for this order in double "
                f"precision: ask for an order below {self.order}"
            )
        return from_numpy(error, like=self.hsv)

    def __repr__(self) -> str:
        flags = "".join(f"\n  note: {flag}" for flag in self.flags)
        upper, lower = (_span(to_numpy(x)) for x in (self.error_bound, self.lower_bound))
        return (
            f"Reduction: order {self.original.order} -> {self.order}, "
            f"{lower} <= H-infinity error <= {upper}{flags}"
        )


def balanced_truncation(
    sys: System, order: int | None = None, tol: float | None = None, *, relative: bool = False
) -> Reduction:
    """G_r = (W A T, W B, C T, D): the `order` states with the largest Hankel singular values.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        A stable system of n states.
    order : int, optional
        States to keep, 0 to n.
    tol : float, optional
        In place of `order`: the smallest order whose error bound is within `tol`, and the system as
        it is if none is.
    relative : bool, optional
        Count `tol` in units of ``hsv[0]``.

    Returns
    -------
    Reduction

    Raises
    ------
    UnstableError
        If a pole of `sys` is not stable.
    OrderError
        If neither or both of `order` and `tol` are given, or one makes no sense.

    Warns
    -----
    ReductionWarning
        If the cut divides equal values, if `order` exceeds the minimal order (it is lowered to it:
        the states beyond are rounding), or if the reduced system is not stable.

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
    return truncate(balance(sys), order, tol, relative)


def truncate(
    balancing: Balancing, order: int | None, tol: float | None, relative: bool
) -> Reduction:
    """The body of `balanced_truncation`, from the balancing on."""
    if (order is None) == (tol is None):
        raise OrderError(f"give either order or tol, got order={order!r} and tol={tol!r}")
    n, rank = balancing.system.order, balancing.minimal_order
    if tol is not None:
        if not balancing.exact:
            raise OrderError(
                f"tol={tol!r} needs an error bound, and none holds for factors other than the "
                "Gramians'; give an order"
            )
        order = balancing.order_for(tol, relative)
        if order > rank:
            return _as_it_is(balancing, tol)
    order = check_order(order, n)
    flags = []
    if order > rank:
        flags.append(f"order lowered from {order} to {rank}: the other states are below rounding")
        order = rank
    flags += _divided(balancing, order)
    right, left = balancing.right[..., :order], balancing.left[..., :order, :]
    system = _project(balancing.system.double(), right, left)
    bound = balancing.error_bound(order)
    stable = _is_stable(system)
    xp = namespace(bound)
    if not stable.all():
        bound = xp.where(from_numpy(stable, like=bound), bound, float("inf"))
        flags.append(f"the reduced system of order {order} is not stable: try a neighbouring order")
    for flag in flags:
        warnings.warn(flag, ReductionWarning, stacklevel=3)
    like = balancing.system.B
    A, B, C, D = (narrow(x, like) for x in (system.A, system.B, system.C, system.D))
    lower = balancing.sigma[..., order] if order < n and balancing.exact else xp.zeros_like(bound)
    return Reduction(
        balancing.system,
        StateSpace(A, B, C, D, system.dt),
        order,
        balancing.hsv,
        narrow(bound, like),
        narrow(lower, like),
        narrow(right, like),
        narrow(left, like),
        tuple(flags),
    )


def _project(system: System, right: Array, left: Array) -> StateSpace:
    """(W A T, W B, C T, D); a zero row of W, in a stack of unequal ranks, gives a stable pole."""
    dense = system.to_dense()
    xp = namespace(left)
    A = left @ dense.A @ right
    if not system.is_discrete:
        idle = xp.all(left == 0, axis=-1)
        A = A - diag(xp.astype(idle, A.dtype))
    return StateSpace(A, left @ dense.B, dense.C @ right, dense.D, dense.dt)


def _as_it_is(balancing: Balancing, tol: float) -> Reduction:
    """No smaller order is within the tolerance: the system itself, whose error is zero."""
    system, n = balancing.system.to_dense(), balancing.system.order
    flag = f"no order below {n} has a bound within {tol:g}: the system is returned as it is"
    warnings.warn(flag, ReductionWarning, stacklevel=4)
    identity = namespace(system.A).broadcast_to(eye(n, like=system.A), system.A.shape)
    zero = error_bound(balancing.hsv, n)
    return Reduction(
        balancing.system, system, n, balancing.hsv, zero, zero, identity, identity, (flag,)
    )


def _divided(balancing: Balancing, order: int) -> list[str]:
    """The flag that the cut divides equal values, if it does."""
    sigma = to_numpy(balancing.sigma)
    if not 0 < order < balancing.minimal_order:
        return []
    last, first = sigma[..., order - 1], sigma[..., order]
    equal = (first > (1 - EQUAL) * last) & (first > sigma.shape[-1] * EPS * sigma[..., 0])
    if not equal.any():
        return []
    value = first[equal].flat[0]
    return [
        f"the cut at order {order} divides equal Hankel singular values ({value:.6g}): which of "
        "their states are kept is arbitrary, and the reduced system may not be stable"
    ]


def _is_stable(system: StateSpace) -> Any:
    poles = to_numpy(system.poles)
    return (np.abs(poles) < 1 if system.is_discrete else poles.real < 0).all(axis=-1)


def _span(x: np.ndarray) -> str:
    """One number, or the range over a stack, to three digits."""
    return f"{float(x):.3g}" if x.ndim == 0 else f"[{x.min():.3g} .. {x.max():.3g}]"
