"""What a selective layer computes, one step at a time: its coefficients and its output."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from compressm.systems.selective.form import require_form

__all__ = ["coefficients", "layer_output"]


@torch.no_grad()
def coefficients(module: nn.Module, u: Tensor) -> Any:
    """The coefficients of the recurrence of a selective layer for the input `u`.

    Parameters
    ----------
    module : nn.Module
        A selective layer.
    u : Tensor (batch, length, d_model)
        Input of the layer. All time steps count: padding is not masked.

    Returns
    -------
    Coefficients or DeltaCoefficients
        In the precision of the layer, at least single.
    """
    form = require_form(module)
    parts = form.coefficients(u)
    return form.recurrence.coefficients(
        *(x.to(torch.promote_types(x.dtype, torch.float32)) for x in parts)
    )


def layer_output(module: nn.Module, u: Tensor) -> Tensor:
    """The output of a selective layer for the input `u`, in the precision of `coefficients`.

    Parameters
    ----------
    module : nn.Module
        A selective layer.
    u : Tensor (batch, length, d_model)

    Returns
    -------
    Tensor (batch, length, d_model)
    """
    form, c = require_form(module), coefficients(module, u)
    return form.tail(form.recurrence.run(c)[1], c.x, c.z)
