"""Whether torch is exporting to ONNX, also where it traces with its compiler."""

from __future__ import annotations

import torch

__all__ = ["to_onnx"]


@torch.compiler.assume_constant_result
def to_onnx() -> bool:
    """`torch.onnx.is_in_onnx_export`, for which the compiler of torch puts False."""
    return torch.onnx.is_in_onnx_export()
