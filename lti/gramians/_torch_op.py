"""Factors of a diagonal system as one torch operation, with all that is checked on the way."""

from __future__ import annotations

from lti._backend.arrays import Array
from lti._backend.custom_op import factors_operation
from lti.gramians.diagonal import diagonal_factors
from lti.systems.statespace import DiagonalStateSpace

__all__ = ["factors"]


def _factors(
    poles: Array, B: Array, C: Array, discrete: bool, conjugate: bool
) -> tuple[Array, Array]:
    sys = DiagonalStateSpace(poles, B, C, None, discrete or 0, conjugate)
    return diagonal_factors(sys.double())


factors = factors_operation(_factors)
