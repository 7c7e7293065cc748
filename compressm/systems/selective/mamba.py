"""Mamba, as `mamba_ssm` and `transformers` write it, FalconMamba and Jamba included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn.functional import silu, softplus

from compressm.systems.selective.form import (
    COUNTS,
    SelectiveForm,
    causal_convolution,
    register_form,
)

__all__ = ["Mamba"]


@register_form
class Mamba(SelectiveForm):
    """A (channels, N), one group.  dt, B, C = x_proj(x); FalconMamba and Jamba normalise each."""

    axes = {"A_log": 2}
    needed = frozenset(
        {"A_log", "D"}
        | {f"{part}.weight" for part in ("in_proj", "conv1d", "x_proj", "dt_proj", "out_proj")}
    )
    optional = frozenset(
        {f"{part}.bias" for part in ("in_proj", "conv1d", "dt_proj", "out_proj")}
        | {f"{part}_layernorm.weight" for part in ("dt", "b", "c")}
    )

    def __init__(self, module: Any) -> None:
        self.module = module
        self.channels, self.n_states = module.A_log.shape
        self.rank = module.dt_proj.weight.shape[1]

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        e, n, r = self.channels, self.n_states, self.rank
        d = self.module.out_proj.weight.shape[0]
        shapes = {"in_proj": (2 * e, d), "x_proj": (r + 2 * n, e), "dt_proj": (e, r)}
        shapes |= {"conv1d": (e, 1, self.module.conv1d.weight.shape[-1]), "out_proj": (d, e)}
        return {f"{name}.weight": shape for name, shape in shapes.items()} | {"D": (e,)}

    def coefficients(self, u: Tensor) -> tuple[Tensor, ...]:
        m = self.module
        x, z = m.in_proj(u.to(m.in_proj.weight)).chunk(2, -1)
        x = causal_convolution(m.conv1d, x, getattr(m, "act", silu))
        parts = m.x_proj(x).split([self.rank, self.n_states, self.n_states], -1)
        norms = (getattr(m, f"{part}_layernorm", None) for part in ("dt", "b", "c"))
        dt, B, C = (
            part if norm is None else norm(part) for part, norm in zip(parts, norms, strict=True)
        )
        return x, softplus(m.dt_proj(dt)), -m.A_log.exp(), B.unsqueeze(2), C.unsqueeze(2), z

    def tail(self, y: Tensor, x: Tensor, z: Tensor) -> Tensor:
        m = self.module
        return m.out_proj(((y + m.D * x) * silu(z)).to(m.out_proj.weight))

    def places(self, kept: list[int]) -> dict[str, tuple[int, list[int]]]:
        r, n = self.rank, self.n_states
        rows = [*range(r), *(r + i for i in kept), *(r + n + i for i in kept)]
        norms = {f"{part}_layernorm.weight": (0, kept) for part in ("b", "c")}
        return {"A_log": (1, kept), "x_proj.weight": (0, rows), **norms}

    def readout(self) -> tuple[str, list[int]] | None:
        first = self.rank + self.n_states
        rows = list(range(first, first + self.n_states))
        return None if getattr(self.module, "c_layernorm", None) else ("x_proj.weight", rows)

    def counts(self, n: int) -> dict[str, int]:
        return dict.fromkeys(COUNTS, n) | {"x_proj.out_features": self.rank + 2 * n}
