"""What a selective layer computes, one step at a time: its coefficients, states and output."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compressm.systems.selective.form import Coefficients, require_form

__all__ = ["coefficients", "driven", "layer_output"]


@torch.no_grad()
def coefficients(module: nn.Module, u: Tensor) -> Coefficients:
    """The coefficients of the scan of a selective layer for the input `u`.

    Parameters
    ----------
    module : nn.Module
        A selective layer.
    u : Tensor (batch, length, d_model)
        Input of the layer. All time steps count: padding is not masked.

    Returns
    -------
    Coefficients
        In the precision of the layer, at least single.
    """
    parts = require_form(module).coefficients(u)
    return Coefficients(*(x.to(torch.promote_types(x.dtype, torch.float32)) for x in parts))


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
    x, dt, A, B, C, z = coefficients(module, u)
    return require_form(module).tail(driven(dt * x, dt, A, B, C)[1], x, z)


def driven(v: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """h[t] = exp(dt[t] A) * h[t-1] + v[t] B[t]^T,  y[t] = h[t] C[t]: sum of h^2, and y."""
    batch, length, groups, n = B.shape
    v, dt = (part.unflatten(2, (groups, -1)).unsqueeze(-1) for part in (v, dt))
    A = A.unflatten(0, (groups, -1))
    h = v.new_zeros(batch, *v.shape[2:4], n)
    moment, y = h.new_zeros(h.shape[1:], dtype=torch.float64), []
    for t in range(length):
        h.mul_((dt[:, t] * A).exp()).addcmul_(v[:, t], B[:, t].unsqueeze(2))
        moment += h.square().sum(0, dtype=torch.float64)
        y.append((h @ C[:, t].unsqueeze(-1)).flatten(1))
    return moment.flatten(0, 1), torch.stack(y, 1)
