"""Copies of modules: as they are, and in single precision."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from compressm.ops.precision import HALF

__all__ = ["copied", "in_single"]


def copied(module: nn.Module) -> nn.Module:
    """A deep copy, also of modules with non-leaf tensors as attributes, which torch refuses."""
    held = (x for m in module.modules() for x in vars(m).values() if isinstance(x, Tensor))
    return copy.deepcopy(module, {id(x): x.detach() for x in held if not x.is_leaf})


def in_single(module: nn.Module) -> nn.Module:
    """The module, or a copy in float32 if it has parameters in half precision.

    Rounding of what it computes would be as large as what a cut changes.
    """
    return copied(module).float() if any(p.dtype in HALF for p in module.parameters()) else module
