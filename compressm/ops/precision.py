"""The precision of the parameters, whatever autocast asks for."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

__all__ = ["without_autocast"]


def without_autocast(u: Tensor) -> AbstractContextManager[object]:
    """Operations on the device of `u` keep the dtype of their inputs; nothing while exporting.

    An exported program that enters autocast cannot be saved, and has none around it.
    """
    if torch.compiler.is_exporting():
        return nullcontext()
    return torch.autocast(u.device.type, enabled=False)
