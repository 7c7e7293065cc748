"""Change the shape of parameters that an optimizer is training; only this file does so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compressm.ops.optimizers import built_state, optimizers_of

__all__ = ["resize_", "tensors_of", "write_"]


@torch.inference_mode(False)
@torch.no_grad()
def resize_(parameter: nn.Parameter, data: Tensor, optimizer: Any = None) -> nn.Parameter:
    """parameter <- data, in place: the same object in a new shape, its optimizer state reset.

    Parameters
    ----------
    parameter : nn.Parameter
        Keeps its identity, hence its place in the model and in the optimizer's groups.
    data : Tensor
        Its new value, of any shape.
    optimizer : torch.optim.Optimizer or sequence of these, optional
        Its state of `parameter` is reset to that of a new parameter: running averages of single
        entries mean nothing in another basis of the state space. Parameter groups, learning rates
        and the state of all other parameters stay as they are.

    Returns
    -------
    nn.Parameter
        `parameter`.
    """
    optimizers = optimizers_of(optimizer)  # first: fails if it is no optimizer
    had_state = any(parameter in one.state for one in optimizers)
    for one in optimizers:
        _reset(one, parameter, data)
        if had_state and (state := built_state(one, parameter, data.to(parameter.device))):
            one.state[parameter] = state
    # An assignment alone leaves autograd's gradient accumulator of the old shape behind while a
    # graph is alive (the loop's `loss`), and the next backward fails; a change of dtype drops it.
    other = torch.float32 if parameter.dtype == torch.float64 else torch.float64
    parameter.data = torch.empty(0, dtype=other, device=parameter.device)
    parameter.data = _trainable(data.to(device=parameter.device))
    parameter.grad = None
    return parameter


def _reset(optimizer: Any, parameter: nn.Parameter, data: Tensor) -> None:
    state = optimizer.state.pop(parameter, {})
    only = isinstance(state, Mapping) and len(state) == 1
    momentum = state.get("momentum_buffer") if only else None
    groups = optimizer.param_groups
    fused = any(x.get("fused") and any(p is parameter for p in x["params"]) for x in groups)
    if fused and momentum is not None:  # fused SGD takes the momenta of all parameters, or none
        zeros = torch.zeros_like(data, dtype=momentum.dtype, device=momentum.device)
        optimizer.state[parameter] = {"momentum_buffer": zeros}


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by their dotted names; a fixed value of a layer may be a buffer."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _trainable(x: Tensor) -> Tensor:
    """`x`, or a copy if it was computed in inference mode, as autograd refuses those."""
    return x.clone() if x.is_inference() else x


@torch.inference_mode(False)
def write_(module: nn.Module, name: str, value: Any, optimizer: Any = None) -> None:
    """module.name <- value, for a dotted name: a parameter is resized, anything else replaced.

    Parameters
    ----------
    module : nn.Module
    name : str
        Name of a parameter, a buffer or a plain attribute of `module` or of a submodule.
    value : Tensor or object
        A tensor is converted to the dtype and the device of the tensor that it replaces.
    optimizer : torch.optim.Optimizer, optional
        As in `resize_`.
    """
    path, _, own = name.rpartition(".")
    owner = module.get_submodule(path)
    old = getattr(owner, own, None)
    if isinstance(old, Tensor):
        value = _trainable(value.to(old))
    if isinstance(old, nn.Parameter):
        resize_(old, value, optimizer)
    else:
        setattr(owner, own, value)
