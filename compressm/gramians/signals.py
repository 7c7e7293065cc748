"""The observed signals of a layer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Signal"]


@dataclass(eq=False)
class Signal:
    """Input of a layer in one forward pass, and the gradient at its output.

    Parameters
    ----------
    u : Tensor (batch, length, d_model)
        Its input.
    g : Tensor (batch, length, d_model), optional
        The gradient at its output.
    """

    u: Tensor
    g: Tensor | None = None
