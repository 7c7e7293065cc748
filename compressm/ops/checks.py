"""What every layer and scan asks of its input."""

from __future__ import annotations

from torch import Tensor

import lti

__all__ = ["require_sequence"]


def require_sequence(u: Tensor, width: int) -> None:
    """`lti.DimensionError` unless `u` is (batch, length, width), of at least one step."""
    if u.ndim != 3 or u.shape[1] == 0 or u.shape[2] != width:
        raise lti.DimensionError(
            f"u must be (batch, length, {width}) with a length of at least 1, got shape "
            f"{tuple(u.shape)}"
        )
