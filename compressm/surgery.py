"""Parameters that change shape under a live optimizer: the only file that does it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["resize_"]

SIGNED = {"exp_avg", "momentum_buffer", "grad_avg", "prev"}  # one may be positive by luck


@torch.no_grad()
def resize_(
    parameter: nn.Parameter, data: Tensor, optimizer: Any = None, axis: int = 0
) -> nn.Parameter:
    """parameter <- data, in place: same object, new shape, optimizer state to match.

    Parameters
    ----------
    parameter : nn.Parameter
        Keeps its identity, hence its place in the model and in the optimizer's groups.
    data : Tensor
        Its new value; differs from the old one in shape along `axis` only.
    optimizer : torch.optim.Optimizer, optional
        Its state of `parameter` is carried over. The basis of the state space has changed, so what
        it knows of single entries is void: signed averages (momentum) start at zero, non-negative
        ones (mean squares, which set the step size) at their mean along `axis`. Step counters stay.
        State of any other shape (factored averages) is dropped, and the optimizer starts afresh.
    axis : int, optional
        The axis that is resized.

    Returns
    -------
    nn.Parameter
        `parameter`.
    """
    old = parameter.shape
    # An assignment alone leaves autograd's gradient accumulator of the old shape behind while a
    # graph is alive (the loop's `loss`), and the next backward fails; a change of dtype drops it.
    other = torch.float32 if parameter.dtype == torch.float64 else torch.float64
    parameter.data = torch.empty(0, dtype=other, device=parameter.device)
    parameter.data = data.to(device=parameter.device)
    parameter.grad = None
    if optimizer is not None and parameter in optimizer.state:
        state = optimizer.state[parameter]
        tensors = {k: v for k, v in state.items() if isinstance(v, Tensor) and v.ndim > 0}
        if any(v.shape != old for v in tensors.values()):
            del optimizer.state[parameter]
        else:
            state.update({k: _carried(k, v, data, axis) for k, v in tensors.items()})
    return parameter


def _carried(name: str, average: Tensor, data: Tensor, axis: int) -> Tensor:
    """`average` in the shape of `data`: zero if it is signed, else its mean along `axis`."""
    if name in SIGNED or average.numel() == 0 or average.min() < 0:
        return torch.zeros_like(data, dtype=average.dtype)
    return average.mean(axis, keepdim=True).expand(data.shape).clone()
