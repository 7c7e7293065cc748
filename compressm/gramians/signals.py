"""The observed signals of a layer."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    mask : Tensor (batch, length), optional
        False where a sequence is padding.
    """

    u: Tensor
    g: Tensor | None = None
    given: Tensor | None = None
    mask: Tensor | None = None

    def without_padding(self) -> list[Signal]:
        """The same sequences without their padding, those of one length together."""
        if self.mask is None or bool(self.mask.all()):
            return [replace(self, mask=None)]
        lengths = self.mask.sum(1)
        parts = []
        for n in lengths[lengths > 0].unique().tolist():
            rows = lengths == n
            at = self.mask[rows]
            u, g = (None if x is None else x[rows][at].reshape(-1, n, x.shape[-1])
                    for x in (self.u, self.g))  # fmt: skip
            parts.append(Signal(u, g, self.given))
        return parts

    @property
    def example(self) -> Tensor:
        """One sequence that the layer can be called with."""
        return self.u[:1] if self.given is None else self.given
