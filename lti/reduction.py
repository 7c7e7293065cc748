"""A reduced system and its certificate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lti._array import Array, from_numpy, to_numpy
from lti.errors import CertificateError
from lti.norms import peak_gain
from lti.system import StateSpace

__all__ = ["Reduction"]


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
        Number of states r that were kept.
    hsv : array (..., n)
        Hankel singular values of the original.
    error_bound : array (...)
        Upper bound of the H-infinity error, including what rounding to single precision adds;
        infinite where theory has none (an unstable reduced system, factors other than the
        Gramians').
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


def _span(x: np.ndarray) -> str:
    """One number, or the range over a stack, to three digits."""
    return f"{float(x):.3g}" if x.ndim == 0 else f"[{x.min():.3g} .. {x.max():.3g}]"
