"""The precision of the parameters, whatever autocast or a cast of the whole model asks for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

__all__ = ["HALF", "as_given", "kept_precision", "without_autocast"]

HALF = (torch.bfloat16, torch.float16)
"""Dtypes in which rounding errors add up along a recurrence."""


def without_autocast(u: Tensor) -> AbstractContextManager[object]:
    """Operations on the device of `u` keep the dtype of their inputs; nothing while exporting.

    An exported program that enters autocast cannot be saved, and has none around it.
    """
    if torch.compiler.is_exporting():
        return nullcontext()
    return torch.autocast(u.device.type, enabled=False)


def kept_precision(fn: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """`fn`, which `nn.Module._apply` is given, without a cast to half precision.

    A layer that refused such a cast would leave the model half cast: other modules come first.
    """

    def moved(x: Tensor) -> Tensor:
        y = fn(x)
        return x.to(y.device) if y.dtype in HALF and x.dtype not in HALF else y

    return moved


def as_given(y: Tensor, u: Tensor) -> Tensor:
    """The output `y` for the input `u`, in its dtype where `u` comes from a half-precision model.

    Autocast chooses the dtypes by itself, so inside of it `y` keeps its own.
    """
    if u.dtype in HALF and not torch.is_autocast_enabled(u.device.type):
        return y.to(u.dtype)
    return y
