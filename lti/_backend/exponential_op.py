"""The torch operation `lti::exponential`: what `torch.compile` calls and does not follow."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from lti._backend import squaring

__all__ = ["exponential"]


@custom_op("lti::exponential", mutates_args=())
def exponential(X: Tensor) -> Tensor:
    """e^X."""
    return squaring.exponential(X).clone(memory_format=torch.contiguous_format)


@exponential.register_fake
def _(X: Tensor) -> Tensor:
    return X.new_empty(X.shape)


def _remember(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, cotangent: Tensor) -> Tensor:
    """The upper right block of the exponential of [X^H, G; 0, X^H], G the cotangent of e^X."""
    (X,) = ctx.saved_tensors
    X, n = X.mH, X.shape[-1]
    top, bottom = torch.cat([X, cotangent], -1), torch.cat([torch.zeros_like(X), X], -1)
    return exponential(torch.cat([top, bottom], -2))[..., :n, n:]


exponential.register_autograd(_backward, setup_context=_remember)
