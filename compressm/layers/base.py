"""The interface of a linear layer: run it, read it as a system, write a system back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

import lti
from compressm.layers.frozen import Frozen
from compressm.layers.modes import COMPLEX
from compressm.ops.checks import require_state
from compressm.ops.exporting import to_onnx
from compressm.ops.precision import HALF, KeepsPrecision
from compressm.ops.resize import resize_

__all__ = ["SSMLayer"]

Layout = Mapping[str, tuple[int | str, ...]]


class SSMLayer(KeepsPrecision, ABC):
    """A linear state-space layer whose number of states may change in training.

    A state dict with another number of states loads too: the parameters are resized first.

    A cast of the model to half precision leaves the parameters in the precision that they have, and
    saved parameters in half precision are loaded in single, as rounding errors add up along the
    recurrence; the output then has the dtype of the input.
    """

    state_axes: dict[str, int]
    """Name of each parameter that has a state axis, and which axis that is."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        dtype = torch.get_default_dtype()
        if dtype in HALF:
            raise lti.OptionError(
                f"the recurrence of {type(self).__name__} needs parameters in float32 or float64, "
                f"got the default dtype {dtype}; build it under torch.set_default_dtype("
                "torch.float32), in Lightning in __init__ and not in configure_model"
            )

    @property
    def d_state(self) -> int:
        """Number of stored states n."""
        name, axis = next(iter(self.state_axes.items()))
        return getattr(self, name).shape[axis]  # in `functional_call` it is no parameter

    @property
    @abstractmethod
    def d_model(self) -> int:
        """Number of inputs, which is the number of outputs."""

    @abstractmethod
    def forward(self, u: Tensor, state: Tensor | None = None) -> Tensor:
        """`u` (batch, length, d_model) -> output of that shape; `state` is the initial state."""

    @abstractmethod
    def step(self, u: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One time step of `forward`: `u` (batch, d_model), `state` -> output, next state."""

    def initial_state(self, batch: int) -> Tensor:
        """The state before the first step, zeros as `step` takes and returns them.

        Parameters
        ----------
        batch : int
        """
        like = next(self.parameters())
        return like.new_zeros(batch, self.d_state, dtype=COMPLEX[like.dtype])

    def observability_factor(self, system: lti.StateSpace) -> Tensor | None:
        """R with Q = R R^H of the system that `to_lti` returned, if the structure gives it quickly.

        None if it does not; then `lti` computes it from the system alone.

        Parameters
        ----------
        system : lti.StateSpace
        """
        return None

    def _require_state(self, state: Any, u: Tensor) -> None:
        """`lti.DimensionError` unless it is None, or a state as `step` takes it for this input."""
        if state is not None:
            like = self.initial_state(0)
            axes = dict(zip(("d_state", "d_model"), reversed(like.shape[1:]), strict=False))
            require_state(state, like, batch=u.shape[0], **dict(reversed(axes.items())))

    @abstractmethod
    def to_lti(self, conjugate: bool = True) -> lti.DiagonalStateSpace | lti.StateSpace:
        """The layer as a discrete system in double precision, with derivatives for its parameters.

        If each channel is a separate system, it is a batch of systems.

        With `conjugate` it is the real system that the layer computes; without, the complex system
        of whose output the layer takes the real part.
        """

    @abstractmethod
    def load_lti_(self, system: lti.DiagonalStateSpace, optimizer: Any = None) -> None:
        """Write `system`, of any order, into the layer; parameters keep their identity.

        The state that `optimizer` has of these parameters is reset; see `resize_`.
        """

    def _exported(self, u: Tensor, state: Tensor | None) -> Tensor:
        """`forward` as exporters take it; the constants are computed in what is exported."""
        self._require_exportable()
        layer = Frozen(self.to_lti(), self.get_parameter("D"))
        return layer(u, None if state is None else layer.real(state))

    def _require_exportable(self) -> None:
        """`lti.OptionError` where an export is under way that cannot take the parameters."""
        if torch.compiler.is_exporting() and (to_onnx() or hasattr(self, "l_max")):
            raise lti.OptionError(
                f"the parameters of {type(self).__name__} cannot be exported, as they need complex "
                "numbers or solves; export compressm.frozen(model), which holds the constants"
            )

    def _layouts(self) -> list[Layout]:
        """Each set of shapes that the parameters may have, with "n" for the number of states."""
        shapes = {name: self.get_parameter(name).shape for name in self.state_axes}
        return [
            {name: (*shapes[name][:axis], "n", *shapes[name][axis + 1 :])
             for name, axis in self.state_axes.items()}
        ]  # fmt: skip

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        saved = {name: state_dict.get(prefix + name) for name in self.state_axes}
        shapes = {name: x.shape for name, x in saved.items() if x is not None}
        fitting = [n for layout in self._layouts() if (n := _states(layout, shapes)) is not None]
        if fitting:  # any other mismatch is torch's to report
            if not any(len(set(sizes.values())) <= 1 for sizes in fitting):
                raise lti.DimensionError(
                    f"the saved parameters of {prefix.rstrip('.') or 'this layer'} disagree on the "
                    f"number of states, {fitting[0]}; load what was saved from one layer"
                )
            for name, shape in shapes.items():
                parameter = self.get_parameter(name)
                if parameter.shape != shape:
                    resize_(parameter, parameter.new_empty(shape))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _states(layout: Layout, shapes: dict[str, torch.Size]) -> dict[str, int] | None:
    """n of every parameter with a state axis; None if the shapes do not fit this layout."""
    if layout.keys() != shapes.keys():
        return None
    states = {}
    for name, axes in layout.items():
        n = next((n for axis, n in zip(axes, shapes[name], strict=False) if axis == "n"), 0)
        if shapes[name] != tuple(n if axis == "n" else axis for axis in axes):
            return None
        if "n" in axes:
            states[name] = n
    return states
