"""Hankel singular values sigma = svd(R^H S), and the balancing that they come from."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lti._array import Array, H, device, is_array, namespace, narrow, to_numpy, widen
from lti.errors import OrderError
from lti.gramians import double_factors
from lti.interop import as_statespace
from lti.system import System

if TYPE_CHECKING:
    from lti.reduction import Reduction

__all__ = ["Balancing", "balance", "error_bound", "hankel_singular_values", "order_for"]

EPS = 2.0**-52
EQUAL = 1e-10  # relative; values this close count as one: farther apart they count twice, safely


def hankel_singular_values(sys: System) -> Array:
    """sigma = svd(R^H S) = sqrt(eig(P Q)), without forming P, Q or their product.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        A stable system of n states.

    Returns
    -------
    array (..., n)
        Real, non-negative, descending.

    Raises
    ------
    UnstableError
        If a pole is not stable.

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
    S, R = double_factors(sys)
    sigma = namespace(S).linalg.svdvals(H(R) @ S)
    return narrow(_pad(sigma, sys.order), like=sys.B)


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
        Values equal to 1e-10 relative count once.

    Raises
    ------
    OrderError
        If `order` is not an integer from 0 to n.

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
    xp = namespace(hsv)
    n = hsv.shape[-1]
    zero = xp.zeros((*hsv.shape[:-1], 1), dtype=hsv.dtype, device=device(hsv))
    # The bound of order r counts sigma_r itself, and of the rest each that is not its forerunner
    after = xp.concat([hsv, zero], axis=-1)[..., 1:]
    rest = xp.where(after < (1 - EQUAL) * hsv, after, 0.0)
    rest = xp.flip(xp.cumulative_sum(xp.flip(rest, axis=-1), axis=-1), axis=-1)
    bounds = xp.concat([2 * (hsv + rest), zero], axis=-1)
    return bounds if order is None else bounds[..., check_order(order, n)]


def order_for(hsv: Array, tol: float, relative: bool = False) -> int:
    """min r: error_bound(hsv, r) <= tol, for every system of the stack; n if no smaller r does.

    Parameters
    ----------
    hsv : array (..., n)
        Hankel singular values, descending.
    tol : float
        Largest error allowed, in the units of the transfer function.
    relative : bool, optional
        Count `tol` in units of ``hsv[0]``, which is at most ``||G||_inf``.

    Returns
    -------
    int
        From 0 to n. Never an order whose bound exceeds `tol`, except n, whose error is zero.

    Raises
    ------
    OrderError
        If `tol` is negative or not finite.

    Examples
    --------
    >>> import lti, numpy as np
    >>> lti.order_for(np.array([4.0, 1.0, 0.1]), 0.5)
    2
    """
    if not (isinstance(tol, (int, float, np.number)) and 0 <= tol < float("inf")):
        raise OrderError(f"tol must be a finite number >= 0, got {tol!r}")
    hsv = to_numpy(hsv) if is_array(hsv) else np.asarray(hsv, dtype=float)
    limit = tol * hsv[..., :1] if relative and hsv.shape[-1] else tol
    bounds = error_bound(hsv)
    met = (bounds <= limit).reshape(-1, bounds.shape[-1]).all(axis=0)
    met[-1] = True
    return int(np.argmax(met))


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
        return narrow(self.sigma, like=self.system.B)

    @property
    def T(self) -> Array:
        return narrow(self.right, like=self.system.B)

    @property
    def W(self) -> Array:
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
        """Smallest order whose bound is within `tol`; see `lti.order_for`."""
        return order_for(self.sigma, tol, relative)

    def truncate(
        self, order: int | None = None, *, tol: float | None = None, relative: bool = False
    ) -> Reduction:
        """W A T, W B, C T: the leading `order` states; see `lti.balanced_truncation`."""
        from lti.reduction import truncate

        return truncate(self, order, tol, relative)

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
    S, R = double_factors(sys) if factors is None else (widen(x) for x in factors)
    xp = namespace(S)
    U, sigma, Vh = xp.linalg.svd(H(R) @ S, full_matrices=False)
    n, sigma = sys.order, _pad(sigma, sys.order)
    alive = sigma > n * EPS * (sigma[..., :1] if n else 1.0)
    rank = int(to_numpy(xp.sum(xp.astype(alive, xp.int64), axis=-1)).max(initial=0))
    # A system of the stack that needs fewer states than the others gets zero columns and rows
    root = xp.where(alive, 1 / xp.sqrt(xp.where(alive, sigma, 1.0)), 0.0)[..., :rank]
    right = (S @ H(Vh)[..., :, :rank]) * root[..., None, :]
    left = (H(U)[..., :rank, :] @ H(R)) * root[..., :, None]
    return Balancing(sys, _pad(sigma, n), right, left, factors is None)


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


def _pad(sigma: Array, n: int) -> Array:
    """sigma (..., k) with zeros up to n values: a factor of k <= n columns has rank k."""
    xp = namespace(sigma)
    missing = (*sigma.shape[:-1], n - sigma.shape[-1])
    zeros = xp.zeros(missing, dtype=sigma.dtype, device=device(sigma))
    return xp.concat([sigma, zeros], axis=-1)
