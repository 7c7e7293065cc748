"""The torch operation `lti::factors`: what `torch.compile` calls as it is and does not follow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

__all__ = ["factors_operation"]


def factors_operation(diagonal_factors: Callable[..., tuple[Tensor, Tensor]]) -> Any:
    """Register `diagonal_factors`, of (poles, B, C, discrete, conjugate), as `lti::factors`."""

    @custom_op("lti::factors", mutates_args=())
    def factors(
        poles: Tensor, B: Tensor, C: Tensor, discrete: bool, conjugate: bool
    ) -> tuple[Tensor, Tensor]:
        found = diagonal_factors(poles, B, C, discrete, conjugate)
        S, R = (x.clone(memory_format=torch.contiguous_format) for x in found)
        return S, R

    @factors.register_fake
    def _(poles: Tensor, B: Tensor, C: Tensor, discrete: bool, conjugate: bool) -> Any:
        n = poles.shape[-1] * (2 if conjugate else 1)
        k = n if B.shape[-1] or C.shape[-2] else 0
        like = B.real if conjugate and B.is_complex() else B
        return like.new_empty((*B.shape[:-2], n, k)), like.new_empty((*B.shape[:-2], n, k))

    return factors
