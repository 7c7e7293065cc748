"""What torch does with the operations of a layer, where they must suit it."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad

__all__ = ["plainly", "to_onnx", "transformed"]


@torch.compiler.assume_constant_result
def to_onnx() -> bool:
    """`torch.onnx.is_in_onnx_export`, for which the compiler of torch puts False."""
    return torch.onnx.is_in_onnx_export()


def transformed() -> bool:
    """Whether derivatives are taken forwards, or by a transformation of `torch.func`."""
    return forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()


def plainly() -> bool:
    """Whether only operations of torch itself will do: in an export, a trace, a transformation."""
    if torch.compiler.is_compiling():
        return torch.compiler.is_exporting() or transformed()
    return torch._C._get_tracing_state() is not None or transformed()
