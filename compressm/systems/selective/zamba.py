"""Mamba in heads, each with projections of its own, as Zamba has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from compressm.systems.selective.form import (
    COUNTS,
    SelectiveForm,
    causal_convolution,
    register_form,
)

__all__ = ["MambaInHeads"]


@register_form
class MambaInHeads(SelectiveForm):
    """A (heads, channels, N).  dt, B, C = x_proj_weight x for each head; all keep the same states.

    In in_proj, the rows of x and of the gate take turns.
    """

    axes = {"A_log": 3}
    needed = frozenset(
        {"A_log", "D", "x_proj_weight", "dt_proj_weight", "dt_proj_bias"}
        | {f"{part}.weight" for part in ("in_proj", "conv1d", "out_proj")}
    )
    optional = frozenset({f"{part}.bias" for part in ("in_proj", "conv1d", "out_proj")})

    def __init__(self, module: Any) -> None:
        self.module = module
        self.heads, self.width, self.n_states = module.A_log.shape
        self.rank = module.dt_proj_weight.shape[-1]

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        h, w, n, r = self.heads, self.width, self.n_states, self.rank
        d = self.module.out_proj.weight.shape[0]
        return {
            "x_proj_weight": (h, r + 2 * n, w),
            "dt_proj_weight": (h, w, r),
            "dt_proj_bias": (h, w),
            "D": (h, w),
            "in_proj.weight": (2 * h * w, d),
            "out_proj.weight": (d, h * w),
        }

    def coefficients(self, u: Tensor) -> tuple[Tensor, ...]:
        m = self.module
        x, z = m.in_proj(u.to(m.in_proj.weight)).unflatten(-1, (-1, 2)).unbind(-1)
        x = causal_convolution(m.conv1d, x, getattr(m, "act", silu))
        heads = x.unflatten(-1, (self.heads, -1))
        dt, B, C = torch.einsum("bthw,hrw->bthr", heads, m.x_proj_weight).split(
            [self.rank, self.n_states, self.n_states], -1
        )
        dt = softplus(torch.einsum("bthr,hwr->bthw", dt, m.dt_proj_weight) + m.dt_proj_bias)
        return x, dt.flatten(2), -m.A_log.exp().flatten(0, 1), B, C, z

    def tail(self, y: Tensor, x: Tensor, z: Tensor) -> Tensor:
        m = self.module
        return m.out_proj(((y + m.D.flatten() * x) * silu(z)).to(m.out_proj.weight))

    def places(self, kept: list[int]) -> dict[str, tuple[int, list[int]]]:
        r, n = self.rank, self.n_states
        rows = [*range(r), *(r + i for i in kept), *(r + n + i for i in kept)]
        return {"A_log": (2, kept), "x_proj_weight": (1, rows)}

    def counts(self, n: int) -> dict[str, int]:
        return dict.fromkeys(COUNTS, n)
