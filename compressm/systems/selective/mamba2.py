"""Mamba2, as `mamba_ssm` and `transformers` write it, FalconH1 and other hybrids included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn.functional import silu, softplus

from compressm.systems.selective.form import (
    COUNTS,
    SelectiveForm,
    causal_convolution,
    first_attribute,
    register_form,
)

__all__ = ["Mamba2"]


@register_form
class Mamba2(SelectiveForm):
    """A (heads,).  z, (x, B, C), dt = in_proj(u); one convolution for all of (x, B, C)."""

    axes = {"A_log": 1}
    needed = frozenset(
        {"A_log", "D", "dt_bias", "in_proj.weight", "conv1d.weight", "out_proj.weight"}
    )
    optional = frozenset(
        {"in_proj.bias", "conv1d.bias", "out_proj.bias", "norm.weight", "mup_vector"}
    )

    def __init__(self, module: Any) -> None:
        self.module = module
        self.heads, self.channels = len(module.A_log), module.out_proj.weight.shape[1]
        self.groups: int = first_attribute(module, ("n_groups", "ngroups"), 0)
        self.n_states = (len(module.conv1d.weight) - self.channels) // max(2 * self.groups, 1)
        self.convolved = self.channels + 2 * self.groups * self.n_states
        self.has_norm = hasattr(getattr(module, "norm", None), "weight")
        self.factors = getattr(module, "mup_vector", None)  # of in_proj, as FalconH1 has them

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        h, e, conv = self.heads, self.channels, self.convolved
        d = self.module.out_proj.weight.shape[0]
        shapes = {name: (h,) for name in ("A_log", "D", "dt_bias")}
        shapes |= {"in_proj.weight": (e + conv + h, d)}
        if self.has_norm:
            shapes |= {"norm.weight": (e,)}
        if self.factors is not None:
            shapes |= {"mup_vector": (1, 1, e + conv + h)}
        return shapes | {"conv1d.weight": (conv, 1, self.module.conv1d.weight.shape[-1])}

    def coefficients(self, u: Tensor) -> tuple[Tensor, ...]:
        m, e, groups = self.module, self.channels, self.groups
        projected = m.in_proj(u.to(m.in_proj.weight) * getattr(m, "ssm_in_multiplier", 1.0))
        if self.factors is not None:
            projected = projected * self.factors
        z, xBC, dt = projected.split([e, self.convolved, self.heads], -1)
        x, B, C = causal_convolution(m.conv1d, xBC, getattr(m, "act", silu)).split(
            [e, *[groups * self.n_states] * 2], -1
        )
        limits = first_attribute(m, ("time_step_limit", "dt_limit"), (0.0, None))
        dt = softplus(dt + m.dt_bias).clamp(*limits)
        B, C = (part.unflatten(-1, (groups, -1)) for part in (B, C))
        return x, self._spread(dt), self._spread(-m.A_log.exp()).unsqueeze(1), B, C, z

    def tail(self, y: Tensor, x: Tensor, z: Tensor) -> Tensor:
        m = self.module
        y = y + self._spread(m.D) * x
        y = m.norm(y, z) if self.has_norm else y * silu(z)
        return m.out_proj(y.to(m.out_proj.weight))

    def places(self, kept: list[int]) -> dict[str, tuple[int, list[int]]]:
        e = self.channels
        C = e + self.groups * self.n_states
        rows = [*range(e), *(e + i for i in kept), *(C + i for i in kept)]
        dt = range(e + self.convolved, e + self.convolved + self.heads)
        in_proj = [*range(e), *(e + i for i in rows), *dt]
        return {
            "in_proj.weight": (0, in_proj),
            "in_proj.bias": (0, in_proj),
            "conv1d.weight": (0, rows),
            "conv1d.bias": (0, rows),
            "mup_vector": (2, in_proj),
        }

    def counts(self, n: int) -> dict[str, int]:
        conv = self.channels + 2 * self.groups * n
        names = ("conv_dim", "conv1d.in_channels", "conv1d.out_channels", "conv1d.groups")
        return (
            dict.fromkeys(COUNTS, n)
            | {name: conv for name in names}
            | {
                "groups_time_state_size": self.groups * n,
                "in_proj.out_features": self.channels + conv + self.heads,
            }
        )

    def _spread(self, x: Tensor) -> Tensor:
        """A value for each head, repeated for each of its channels."""
        return x.repeat_interleave(self.channels // self.heads, -1)
