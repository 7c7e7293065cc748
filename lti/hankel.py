"""Hankel singular values sigma = svd(R^H S), and what they say of every order."""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from lti._backend.arrays import (
    Array,
    H,
    detach,
    device,
    frobenius,
    is_array,
    matmul,
    namespace,
    narrow,
    tail_sums,
    to_numpy,
    tracing,
    tracked,
)
from lti._backend.checks import finite_number, in_range
from lti.errors import OptionError, OrderError
from lti.gramians.diagonal import closed_forms
from lti.gramians.exact import exact_factors, squares
from lti.gramians.lyapunov import scaled
from lti.systems.convert import as_statespace
from lti.systems.protocol import System, SystemLike
from lti.systems.sparse import SparseStateSpace
from lti.systems.statespace import DiagonalStateSpace

__all__ = ["error_bound", "hankel_singular_values", "order_for"]

EPS = 2.0**-52
EQUAL = 1e-13  # relative; values this close count as one, as equal up to rounding


def hankel_singular_values(sys: SystemLike) -> Array:
    """sigma = svd(R^H S) = sqrt(eig(P Q)), without forming P, Q or their product.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        A stable system of n states.

    Returns
    -------
    array (..., n)
        Real, non-negative, descending. Of a `SparseStateSpace` the leading ones, (k,).

    Raises
    ------
    UnstableError
        If a pole is unstable.

    References
    ----------
    Laub, Heath, Paige, Ward, "Computation of system balancing transformations and other
    applications of simultaneous diagonalization algorithms", IEEE TAC 32 (1987).

    Examples
    --------
    >>> import lti
    >>> lti.hankel_singular_values(([[-1.0]], [[4.0]], [[1.0]]))
    array([2.])
    """
    sys = as_statespace(sys)
    if isinstance(sys, SparseStateSpace):
        found = exact_factors(sys)
        times_E = cast(Any, found.system).times_E
        return namespace(sys.B).linalg.svdvals(_cross(found.R, times_E(found.S)))
    # The modes of a conjugate system keep the relative accuracy that real coordinates would lose
    modes = (sys.closed() if isinstance(sys, DiagonalStateSpace) else sys).double()
    found = exact_factors(modes)
    S, R = found.S, found.R
    if tracked(*modes.matrices):
        sigma, _, _ = balanced(modes, S, R)
    else:
        sigma = pad(namespace(S).linalg.svdvals(_cross(R, S)), sys.order)
    return narrow(sigma, like=sys.B)


def balanced(
    sys: System,
    S: Array,
    R: Array,
    of_system: tuple[bool, bool] = (True, True),
    scale: Array = None,
) -> tuple[Array, Array, Array]:
    """sigma (..., n), right (..., n, k), left (..., k, n) of factors S, R of a stable system.

    In torch with the derivatives of the Gramians of `sys` where a factor is `of_system`, and else
    with those of the factor itself.
    """
    if isinstance(sys, SparseStateSpace):
        return square_root(S, R, scale, sys.times_E(S))
    if not tracked(*sys.matrices, S, R):
        return square_root(S, R, scale)
    xp = namespace(S)
    # In units of B and C in which no square overflows or vanishes
    b, c = scaled(detach(S))[1], scaled(detach(R))[1]
    S, R, sys = S / b, R / c, replace(sys, B=sys.B / b, C=sys.C / c)
    # The rule takes the derivatives of P and Q only, not their values
    P, Q = closed_forms(sys) if isinstance(sys, DiagonalStateSpace) else squares(sys, S, R)
    P = P if of_system[0] else S @ H(S)
    Q = Q if of_system[1] else R @ H(R)
    from lti._backend import autograd  # imports torch, which is optional

    sigma, right, left = autograd.Balance.apply(P, Q, *square_root(detach(S), detach(R)))
    ratio = xp.sqrt(b) / xp.sqrt(c)
    return (b * c)[..., 0] * sigma, ratio * right, left / ratio


def square_root(
    S: Array, R: Array, scale: Array = None, ES: Array = None
) -> tuple[Array, Array, Array]:
    """U diag(sigma) V^H = R^H S, right = S V sigma^-1/2, left = sigma^-1/2 U^H R^H.

    `scale` is the `product_scale` of both, if it is known. With an E, ``R^H E S`` takes the place
    of ``R^H S``: `ES` is the product.
    """
    xp, n = namespace(S), S.shape[-2]
    U, sigma, Vh = xp.linalg.svd(_cross(R, S if ES is None else ES), full_matrices=False)
    rank, sigma = sigma.shape[-1], pad(sigma, n)
    floor = 4 * EPS * (product_scale(S, R) if scale is None else scale)[..., None]
    top = n * EPS * (sigma[..., :1] if n else 1.0)
    alive = sigma > xp.where(top > floor, top, floor)
    if not tracing(S):
        rank = int(to_numpy(alive).sum(axis=-1).max(initial=0))
    # A system of the batch that needs fewer states than the others gets zero columns and rows
    root = xp.where(alive, 1 / xp.sqrt(xp.where(alive, sigma, 1.0)), 0.0)[..., :rank]
    right = (S @ H(Vh)[..., :, :rank]) * root[..., None, :]
    left = (H(U)[..., :rank, :] @ H(R)) * root[..., :, None]
    return sigma, right, left


def _cross(R: Array, S: Array) -> Array:
    """R^H S, or `NonFiniteError` if its entries are beyond the range of numbers."""
    return in_range("the Hankel singular values are", matmul(H(R), S))


def product_scale(S: Array, R: Array) -> Array:
    """| |R|^H |S| |_F (...), with absolute values of the entries: what R^H S is rounded to.

    The units of the states do not matter to it.
    """
    xp = namespace(S)
    return frobenius(_cross(xp.abs(R), xp.abs(S)))


def error_bound(hsv: Array, order: int | None = None) -> Array:
    """2 * sum of the distinct values of sigma[order:]: no less than ||G - G_r||_inf.

    Parameters
    ----------
    hsv : array (..., n)
        Hankel singular values, descending.
    order : int, optional
        Number of states kept, 0 to n. If left out: the bounds of all orders.

    Returns
    -------
    array (...) or (..., n + 1)
        Values equal to 1e-13 relative are taken for equal ones and count once. The theorem asks for
        equal values: where poles are of very different size, values this close may be distinct, and
        the error up to twice as large. The values do not show it; the poles do, and bounds of a
        `Balancing` count each value if a pole is close to the stability boundary.

    Raises
    ------
    OrderError
        If `order` is not an integer from 0 to n.
    OptionError
        If `hsv` has NaN or negative values, or is not descending.

    References
    ----------
    Enns, "Model reduction with balanced realizations", CDC (1984); Glover, Int. J. Control 39
    (1984), theorem 9.6; discrete time: Hinrichsen, Pritchard, "An improved error estimate for
    reduced-order models of discrete-time systems", IEEE TAC 35 (1990).

    Examples
    --------
    >>> import lti, numpy as np
    >>> float(lti.error_bound(np.array([4.0, 1.0, 1.0]), 1))
    2.0
    """
    hsv = hsv if is_array(hsv) else np.asarray(hsv, dtype=float)
    require_values(hsv)
    xp = namespace(hsv)
    n = hsv.shape[-1]
    zero = xp.zeros((*hsv.shape[:-1], 1), dtype=hsv.dtype, device=device(hsv))
    # The bound of order r counts sigma_r itself, and of the rest each that is not its forerunner
    after = xp.concat([hsv, zero], axis=-1)[..., 1:]
    rest = tail_sums(xp.where(after < (1 - EQUAL) * hsv, after, 0.0))
    bounds = xp.concat([2 * (hsv + rest), zero], axis=-1)
    return bounds if order is None else bounds[..., check_order(order, n)]


def each_counted(hsv: Array) -> Array:
    """2 * sum(sigma[order:]) of all orders: `error_bound` of values that are distinct."""
    xp = namespace(hsv)
    zero = xp.zeros((*hsv.shape[:-1], 1), dtype=hsv.dtype, device=device(hsv))
    return xp.concat([2 * tail_sums(hsv), zero], axis=-1)


def require_values(hsv: Array) -> None:
    """`OptionError` unless these can be singular values: not negative, not NaN, descending."""
    if tracing(hsv):
        return
    values = np.atleast_1d(to_numpy(hsv))
    falls = values[..., :-1] >= values[..., 1:]
    if to_numpy(hsv).ndim == 0 or not (falls.all() and (values >= 0).all()):
        raise OptionError(
            f"Hankel singular values must be non-negative and descending along the last axis, got "
            f"{values!s:.80}"
        )


def no_bounds(hsv: Array) -> Array:
    """Infinite bounds (..., n + 1) of all orders but n, whose error is zero."""
    xp = namespace(hsv)
    infinite = xp.full_like(hsv, float("inf"))
    zero = xp.zeros((*hsv.shape[:-1], 1), dtype=hsv.dtype, device=device(hsv))
    return xp.concat([infinite, zero], axis=-1)


def order_for(
    hsv: Array, tol: float | None = None, relative: bool = False, energy: float | None = None
) -> int:
    """min r: error_bound(hsv, r) <= tol, or sum(hsv[:r]) >= energy sum(hsv), for a whole batch.

    Parameters
    ----------
    hsv : array (..., n)
        Hankel singular values, descending; infinite ones always count as kept.
    tol : float, optional
        Largest error allowed, in the units of the transfer function.
    relative : bool, optional
        Count `tol` in units of the largest finite value, which is at most ``||G||_inf``.
    energy : float, optional
        In place of `tol`: the fraction of the sum of the values (not of their squares) to keep, in
        (0, 1].

    Returns
    -------
    int
        From 0 to n. Never an order whose bound exceeds `tol`, except n, whose error is zero.

    Raises
    ------
    OrderError
        If `tol` is negative or not finite, `energy` lies outside (0, 1], or not just one is given.

    Examples
    --------
    >>> import lti, numpy as np
    >>> hsv = np.array([4.0, 1.0, 0.1])
    >>> lti.order_for(hsv, 0.5), lti.order_for(hsv, energy=0.75)
    (2, 1)
    """
    if (tol is None) == (energy is None):
        raise OrderError(f"give either tol or energy, got tol={tol!r} and energy={energy!r}")
    hsv = to_numpy(hsv) if is_array(hsv) else np.asarray(hsv, dtype=float)
    require_values(hsv)
    if tol is not None:
        return first_within(error_bound(hsv), OrderChoice(tol=tol, relative=relative).limit(hsv))
    return energy_order(hsv, energy)


def energy_order(hsv: np.ndarray, energy: Any) -> int:
    """min r: sum(hsv[:r]) >= energy sum(hsv), for a whole batch and values in any order."""
    if not (isinstance(energy, (int, float, np.number)) and 0 < energy <= 1):
        raise OrderError(
            f"energy is the fraction that is kept and must lie in (0, 1], got {energy!r}"
        )
    finite = np.where(np.isfinite(hsv), hsv, 0.0)
    tails = tail_sums(finite)  # so that keeping everything keeps the last state as well
    needed = (tails > tails[..., :1] - energy * tails[..., :1]) | ~np.isfinite(hsv)
    return int(np.count_nonzero(needed, axis=-1).max(initial=0))


@dataclass(frozen=True)
class OrderChoice:
    """The order asked for, in one of three ways: itself, an error bound, an energy fraction.

    Parameters
    ----------
    order : int, optional
        States to keep, 0 to n.
    tol : float, optional
        The smallest order whose error bound is within `tol`.
    relative : bool, optional
        Count `tol` in units of the largest finite Hankel singular value.
    energy : float, optional
        The smallest order that keeps this fraction of the sum of the values, in (0, 1].
    """

    order: int | None = None
    tol: float | None = None
    relative: bool = False
    energy: float | None = None

    def select(self, hsv: Array, bounds: Array, kept: int = 0) -> int:
        """The order, from `kept` to n, given the values (..., n) and the bounds (..., n + 1)."""
        if sum(x is not None for x in (self.order, self.tol, self.energy)) != 1:
            raise OrderError(
                f"give one of order, tol and energy, got order={self.order!r}, tol={self.tol!r} "
                f"and energy={self.energy!r}"
            )
        if self.tol is not None:
            return first_within(to_numpy(bounds), self.limit(to_numpy(hsv)))
        if self.order is None:
            order = energy_order(to_numpy(hsv), self.energy)
        else:
            order = check_order(self.order, hsv.shape[-1])
        if order < kept:
            raise OrderError(
                f"order {order} is less than the {kept} states of unstable poles, or of those "
                "beyond alpha, which are kept as they are; ask for at least that many"
            )
        return order

    def limit(self, hsv: np.ndarray) -> np.ndarray:
        """`tol`, checked, in the units of the transfer function (..., 1)."""
        tol = self.tol.item() if isinstance(self.tol, np.number) else self.tol
        if tol is None or not (finite_number(tol) and tol >= 0):
            raise OrderError(f"tol must be a finite number >= 0, got {tol!r}")
        top = np.where(np.isfinite(hsv), hsv, 0.0).max(axis=-1, keepdims=True, initial=0.0)
        return tol * top if self.relative else np.full_like(top, tol)


def first_within(bounds: np.ndarray, limit: np.ndarray) -> int:
    """The first order whose bound (..., n + 1) is within the limit (..., 1), for all of a batch."""
    met = np.asarray(bounds <= limit).reshape(-1, bounds.shape[-1])
    met[:, -1] = True
    return int(np.argmax(met.all(axis=0)))


def check_order(order: Any, n: int) -> int:
    """`order` as an int from 0 to n, or `OrderError`."""
    try:
        if isinstance(order, (bool, np.bool_)):
            raise TypeError
        value = operator.index(order)
    except TypeError:
        raise OrderError(f"order must be an integer, got {order!r}; round it yourself") from None
    if not 0 <= value <= n:
        raise OrderError(f"order must be from 0 to {n}, the order of the system, got {value}")
    return value


def pad(sigma: Array, n: int) -> Array:
    """sigma (..., k) with zeros up to n values: a factor of k <= n columns has rank k."""
    if sigma.shape[-1] == n:
        return sigma
    xp = namespace(sigma)
    missing = (*sigma.shape[:-1], n - sigma.shape[-1])
    zeros = xp.zeros(missing, dtype=sigma.dtype, device=device(sigma))
    return xp.concat([sigma, zeros], axis=-1)
