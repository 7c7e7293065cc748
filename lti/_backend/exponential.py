"""The matrix exponential of any library, which `torch.compile` calls as one operation."""

from __future__ import annotations

from lti._backend.arrays import Array, tracing
from lti._backend.squaring import exponential

__all__ = ["expm"]


def expm(X: Array) -> Array:
    """e^X (..., n, n) in double precision, with derivatives in torch."""
    if tracing(X):  # the number of squarings is not known yet
        from lti._backend import exponential_op  # imports torch, which is optional

        return exponential_op.exponential(X)
    return exponential(X)
