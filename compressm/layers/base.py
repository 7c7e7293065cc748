"""What the library asks of a layer: run it, read it as a system, write a system back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

import lti
from compressm.surgery import resize_

__all__ = ["SSMLayer"]


class SSMLayer(nn.Module, ABC):
    """A linear state-space layer whose number of states may change while it lives.

    A state dict of another number of states loads like any other: the parameters are resized first.
    """

    state_axes: ClassVar[dict[str, int]]
    """Name of each parameter that has a state axis, and which axis that is."""

    @property
    def d_state(self) -> int:
        """Number of stored states n."""
        name, axis = next(iter(self.state_axes.items()))
        return self.get_parameter(name).shape[axis]

    @property
    @abstractmethod
    def d_model(self) -> int:
        """Number of inputs, which is the number of outputs."""

    @abstractmethod
    def forward(self, u: Tensor, state: Tensor | None = None) -> Tensor:
        """`u` (batch, length, d_model) -> the same shape, from `state` (zero when absent)."""

    @abstractmethod
    def step(self, u: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One time step of `forward`: `u` (batch, d_model), `state` -> output, next state."""

    @abstractmethod
    def to_lti(self, conjugate: bool = True) -> lti.DiagonalStateSpace:
        """The layer as a discrete system in double precision, with derivatives for its parameters.

        `conjugate` asks for the real system that the layer computes, rather than a complex one of
        whose output it takes the real part.
        """

    @abstractmethod
    def load_lti_(self, system: lti.DiagonalStateSpace, optimizer: Any = None) -> None:
        """Make `system`, of any order, the layer's own; parameters keep their identity.

        `optimizer` holds state of the parameters' shapes, which is resized along.
        """

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        sizes = {}
        for name, axis in self.state_axes.items():
            saved, parameter = state_dict.get(prefix + name), self.get_parameter(name)
            if saved is not None and _equal_but_for(axis, saved.shape, parameter.shape):
                sizes[name] = saved.shape[axis]
        if len(sizes) == len(self.state_axes):  # any other mismatch is torch's to report
            if len(set(sizes.values())) > 1:
                raise lti.DimensionError(
                    f"the saved parameters of {prefix.rstrip('.') or 'this layer'} disagree on the "
                    f"number of states, {sizes}; load what was saved from one layer"
                )
            for name in self.state_axes:
                parameter, shape = self.get_parameter(name), state_dict[prefix + name].shape
                if parameter.shape != shape:
                    resize_(parameter, parameter.new_empty(shape))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _equal_but_for(axis: int, one: torch.Size, other: torch.Size) -> bool:
    return one[:axis] == other[:axis] and one[axis + 1 :] == other[axis + 1 :]
