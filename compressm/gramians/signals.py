"""The observed signals of a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
    given : Tensor, optional
        The first sequence as the layer was given it, where that is of another form than `u`.
    padding : mapping, optional
        What the model was told of padding in `u`; see `without_padding`.
    """

    u: Tensor
    g: Tensor | None = None
    given: Tensor | None = None
    padding: Any = None

    @property
    def example(self) -> Tensor:
        """One sequence that the layer can be called with."""
        return self.u[:1] if self.given is None else self.given
