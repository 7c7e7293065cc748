"""A model to export and to stream: its linear layers as constants, its step as a module."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from compressm.layers import Frozen, SSMLayer

__all__ = ["Step", "frozen"]


def frozen(model: nn.Module) -> nn.Module:
    """A copy whose linear layers are the constants of their systems: to stream, and to export.

    Each `SSMLayer` becomes a `compressm.layers.Frozen`, which computes the same in plain operations
    on real numbers. ONNX has neither complex numbers nor the solves that parameters are turned into
    a system with; a stream would do that work again at every step. `model` stays as it is. All
    other modules are copied, `Mamba` too, which needs no constants.

    Parameters
    ----------
    model : nn.Module
        A `SequenceModel`, a layer, or any module that has layers in it.

    Returns
    -------
    nn.Module
        On the same device, in the same dtype and mode. It cannot be cut any more.

    Examples
    --------
    >>> import torch
    >>> from compressm import SequenceModel, frozen
    >>> model = SequenceModel(1, 2, d_model=4, d_state=8, n_layers=1, pool="none").eval()
    >>> u = torch.randn(3, 20, 1)
    >>> torch.allclose(frozen(model)(u), model(u), atol=1e-5)
    True
    """
    if isinstance(model, SSMLayer):
        with torch.no_grad():
            return Frozen(model.to_lti(), model.get_parameter("D")).train(model.training)
    layers = {x: frozen(x) for x in model.modules() if isinstance(x, SSMLayer)}
    return copy.deepcopy(model, {id(x): layer for x, layer in layers.items()})


class Step(nn.Module):
    """`model.step` as the forward of a module, for exporters.

    Parameters
    ----------
    model : nn.Module
        A `SequenceModel` or a layer, best `frozen`.

    Examples
    --------
    >>> import torch
    >>> from compressm import SequenceModel, Step, frozen
    >>> model = frozen(SequenceModel(1, 2, d_model=4, d_state=8, n_layers=1, pool="none").eval())
    >>> arguments = torch.zeros(1, 1), model.initial_state(1)
    >>> program = torch.export.export(Step(model), arguments)
    >>> y, state = program.module()(*arguments)
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, u: Tensor, state: Any) -> tuple[Tensor, Any]:
        """`u` (batch, inputs) and the state before the step -> output, next state."""
        return self.model.step(u, state)  # pyright: ignore
