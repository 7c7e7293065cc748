"""What a layer was given, and what came back through it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Signal"]


@dataclass(eq=False)
class Signal:
    """What one forward pass sent through a layer.

    Parameters
    ----------
    u : Tensor (batch, length, d_model)
        Its input.
    g : Tensor (batch, length, d_model), optional
        The gradient at its output.
    """

    u: Tensor
    g: Tensor | None = None
