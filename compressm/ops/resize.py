"""Parameters that change shape under a live optimizer: the only file that does it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["resize_"]


@torch.no_grad()
def resize_(parameter: nn.Parameter, data: Tensor, optimizer: Any = None) -> nn.Parameter:
    """parameter <- data, in place: the same object in a new shape, anew to its optimizer.

    Parameters
    ----------
    parameter : nn.Parameter
        Keeps its identity, hence its place in the model and in the optimizer's groups.
    data : Tensor
        Its new value, of any shape.
    optimizer : torch.optim.Optimizer, optional
        Forgets what it knows of `parameter` and starts it afresh at its next step: averages of
        single entries mean nothing in another basis of the state space. Groups, their learning
        rates and all other parameters stay as they are.

    Returns
    -------
    nn.Parameter
        `parameter`.
    """
    if optimizer is not None:
        optimizer.state.pop(parameter, None)  # first, so that what is no optimizer fails here
    # An assignment alone leaves autograd's gradient accumulator of the old shape behind while a
    # graph is alive (the loop's `loss`), and the next backward fails; a change of dtype drops it.
    other = torch.float32 if parameter.dtype == torch.float64 else torch.float64
    parameter.data = torch.empty(0, dtype=other, device=parameter.device)
    parameter.data = data.to(device=parameter.device)
    parameter.grad = None
    return parameter
