"""Balancing by square roots: T = S V sigma^-1/2, W = sigma^-1/2 U^H R^H, and its slices."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lti._array import Array, H, diag, eye, from_numpy, namespace, narrow, to_numpy, widen
from lti._checks import require_finite
from lti.errors import OrderError, ReductionWarning
from lti.gramians import double_factors
from lti.hankel import EQUAL, check_order, error_bound, order_for, pad
from lti.interop import as_statespace
from lti.norms import peak_gain
from lti.reduction import Reduction
from lti.system import StateSpace, System, require_stable

__all__ = ["Balancing", "balance", "balanced_truncation"]

EPS = 2.0**-52


@dataclass(frozen=True, eq=False, repr=False)
class Balancing:
    """W P W^H = T^H Q T = diag(sigma), W T = I: one factorisation, every order a slice of it.

    Made by `balance`; not to be built by hand.

    Parameters
    ----------
    system : StateSpace or DiagonalStateSpace
        The system that was balanced, of n states.
    sigma : array (..., n)
        Hankel singular values in double precision.
    right : array (..., n, k)
        ``S V diag(sigma)^-1/2``: columns of T, in double precision.
    left : array (..., k, n)
        ``diag(sigma)^-1/2 U^H R^H``: rows of W, in double precision.
    exact : bool
        Whether P and Q are the Gramians of the system, so that its error bounds hold.

    Attributes
    ----------
    hsv, T, W : array
        The same in the dtype of the system. T and W have as many columns and rows as the system
        has states to working precision, `minimal_order`. A column of T and the row of W belong to
        each other up to a common phase; only what does not depend on it (values, transfer
        functions, ``T @ W``) is determined.
    """

    system: Any
    sigma: Array
    right: Array
    left: Array
    exact: bool = True

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
        """Number of values above ``n eps hsv[0]``, the most of the stack: the rest is rounding."""
        return self.right.shape[-1]

    def error_bound(self, order: int) -> Array:
        """2 * sum of the distinct values beyond `order`, infinite unless `exact`."""
        bound = error_bound(self.sigma, order)
        if self.exact or order == self.system.order:
            return bound
        return namespace(bound).full_like(bound, float("inf"))

    def order_for(self, tol: float, relative: bool = False) -> int:
        """Smallest order whose bound is within `tol` (or, if `relative`, ``tol * hsv[0]``)."""
        if not self.exact:
            raise OrderError(
                f"tol={tol!r} needs an error bound, and none holds for factors other than the "
                "Gramians'; give an order"
            )
        return order_for(self.sigma, tol, relative)

    def truncate(
        self, order: int | None = None, *, tol: float | None = None, relative: bool = False
    ) -> Reduction:
        """W A T, W B, C T: see `balanced_truncation` for `order`, `tol` and `relative`."""
        return _truncate(self, order, tol, relative)

    def __repr__(self) -> str:
        return f"Balancing({self.system!r}, minimal_order={self.minimal_order})"


def balance(sys: System, factors: tuple[Array, Array] | None = None) -> Balancing:
    """T = S V sigma^-1/2, W = sigma^-1/2 U^H R^H with U diag(sigma) V^H = R^H S (square root).

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        A stable system of n states.
    factors : (S, R), optional
        Square roots (..., n, k) and (..., n, l) of any two positive semidefinite matrices to
        balance in place of the Gramians: weighted ones, or a second moment of observed states. No
        error bound is claimed then. With one of them exact, reduced systems stay stable.

    Returns
    -------
    Balancing
        Values and projections, from which every order is a slice.

    Raises
    ------
    UnstableError
        If a pole is not stable.
    NonFiniteError
        If a given factor has an entry that is not finite.

    References
    ----------
    Moore, "Principal component analysis in linear systems", IEEE TAC 26 (1981); Tombs,
    Postlethwaite, "Truncated balanced realization of a stable non-minimal state-space system", Int.
    J. Control 46 (1987).

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
    if factors is None:
        S, R = double_factors(sys)
    else:
        require_stable(sys.double())
        for name, factor in zip("SR", factors, strict=True):
            require_finite(name, factor)
        S, R = (widen(x) for x in factors)
    xp = namespace(S)
    U, sigma, Vh = xp.linalg.svd(H(R) @ S, full_matrices=False)
    n, sigma = sys.order, pad(sigma, sys.order)
    alive = sigma > n * EPS * (sigma[..., :1] if n else 1.0)
    rank = int(to_numpy(xp.sum(xp.astype(alive, xp.int64), axis=-1)).max(initial=0))
    # A system of the stack that needs fewer states than the others gets zero columns and rows
    root = xp.where(alive, 1 / xp.sqrt(xp.where(alive, sigma, 1.0)), 0.0)[..., :rank]
    right = (S @ H(Vh)[..., :, :rank]) * root[..., None, :]
    left = (H(U)[..., :rank, :] @ H(R)) * root[..., :, None]
    return Balancing(sys, sigma, right, left, factors is None)


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
    return _truncate(balance(sys), order, tol, relative)


def _truncate(
    balancing: Balancing, order: int | None, tol: float | None, relative: bool
) -> Reduction:
    """The body of `balanced_truncation`, from the balancing on."""
    if (order is None) == (tol is None):
        raise OrderError(f"give either order or tol, got order={order!r} and tol={tol!r}")
    n, rank = balancing.system.order, balancing.minimal_order
    if tol is not None:
        order = balancing.order_for(tol, relative)
        if order > rank or order == n > 0:
            reduction = _as_it_is(balancing, tol)
            _warn(reduction.flags)
            return reduction
    order = check_order(order, n)
    flags = []
    if order > rank:
        flags.append(f"order lowered from {order} to {rank}: the other states are below rounding")
        order = rank
    flags += _divided(balancing, order)
    right, left = balancing.right[..., :order], balancing.left[..., :order, :]
    system = _project(balancing.system.double(), right, left)
    like, bound = balancing.system.B, balancing.error_bound(order)
    xp = namespace(bound)
    A, B, C, D = (narrow(x, like) for x in (system.A, system.B, system.C, system.D))
    narrowed = StateSpace(A, B, C, D, system.dt)
    stable = _is_stable(narrowed)
    if not stable.all():
        bound = xp.where(from_numpy(stable, like=bound), bound, float("inf"))
        flags.append(f"the reduced system of order {order} is not stable: try a neighbouring order")
    elif balancing.exact and B.dtype != system.B.dtype:
        bound = bound + peak_gain(system, narrowed, tol=1e-3)  # what the cast costs
        limit = tol and (tol * balancing.sigma[..., 0] if relative else tol)
        if limit is not None and bool(xp.any(bound > limit)):
            flags.append(f"in {B.dtype} the bound is above {tol:g}: convert the system to float64")
    _warn(flags)
    lower = balancing.sigma[..., order] if order < n and balancing.exact else xp.zeros_like(bound)
    return Reduction(
        balancing.system,
        narrowed,
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
    flag = f"no order above rounding has a bound within {tol:g}: the system is returned as it is"
    identity = namespace(system.A).broadcast_to(eye(n, like=system.A), system.A.shape)
    zero = error_bound(balancing.hsv, n)
    return Reduction(
        balancing.system, system, n, balancing.hsv, zero, zero, identity, identity, (flag,)
    )


def _warn(flags: Iterable[str]) -> None:
    for flag in flags:
        warnings.warn(flag, ReductionWarning, stacklevel=4)  # at the caller of the public function


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
