"""The precision of the parameters, whatever autocast or a cast of the whole model asks for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["HALF", "KeepsPrecision", "as_given", "in_autocast", "without_autocast"]

HALF = (torch.bfloat16, torch.float16)
"""Dtypes in which rounding errors add up along a recurrence."""


def in_autocast(u: Tensor) -> bool:
    """Whether autocast is on for the device of `u`; there is none for meta.

    Parameters
    ----------
    u : Tensor
    """
    return not u.is_meta and torch.is_autocast_enabled(u.device.type)


def without_autocast(u: Tensor) -> AbstractContextManager[object]:
    """Operations on the device of `u` keep the dtype of their inputs; nothing while exporting.

    An exported program that enters autocast cannot be saved, and has none around it; nor has meta.
    """
    if torch.compiler.is_exporting() or u.is_meta:
        return nullcontext()
    return torch.autocast(u.device.type, enabled=False)


class KeepsPrecision(nn.Module):
    """Its parameters and buffers do not become half precision in a cast, nor when they are loaded.

    A module that refused a cast would leave the model half cast: other modules come first.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        def moved(x: Tensor) -> Tensor:
            y = fn(x)
            return x.to(y.device) if y.dtype in HALF and x.dtype not in HALF else y

        return super()._apply(moved, recurse)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """With `assign`, torch would put the saved tensors in place of those that are there."""
        for name in (*self._parameters, *self._buffers):
            x = state_dict.get(prefix + name)
            if isinstance(x, Tensor) and x.dtype in HALF:
                state_dict[prefix + name] = x.float()  # a copy that `load_state_dict` has made
        super()._load_from_state_dict(state_dict, prefix, *args)


def as_given(y: Tensor, u: Tensor) -> Tensor:
    """The output `y` for the input `u`, in its dtype where `u` comes from a half-precision model.

    Autocast chooses the dtypes by itself, so inside of it `y` keeps its own.
    """
    if u.dtype in HALF and not in_autocast(u):
        return y.to(u.dtype)
    return y
