"""Linear attention as `fla` writes it: DeltaNet, GatedDeltaNet, KDA, GatedLinearAttention."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from compressm.systems.selective.form import causal_convolution, register_form
from compressm.systems.selective.gated_deltanet import SPLIT, SplitForm

__all__ = ["DeltaNet", "GatedLinearAttention", "KimiDeltaAttention", "SeparateDeltaNet"]

CONVOLUTIONS = frozenset(f"{x}_conv1d.weight" for x in "qkv")
BIASES = frozenset(f"{x}_conv1d.bias" for x in "qkv")


class SeparateForm(SplitForm):
    """Keys, queries and values each have a projection and a convolution."""

    def convolutions(self, u: Tensor) -> tuple[Tensor, ...]:
        """q, k, v."""
        m = self.module
        return tuple(
            causal_convolution(getattr(m, f"{x}_conv1d"), getattr(m, f"{x}_proj")(u)) for x in "qkv"
        )

    def places(self, kept: list[int]) -> dict[str, tuple[int, list[int]]]:
        both = {f"{x}_conv1d.{of}": (0, kept) for x in "qk" for of in ("weight", "bias")}
        return super().places(kept) | both

    def counts(self, n: int) -> dict[str, int]:
        attributes = ("in_channels", "out_channels", "groups", "hidden_size")
        own = {f"{x}_conv1d.{of}": self.groups * n for x in "qk" for of in attributes}
        return super().counts(n) | own


@register_form
class DeltaNet(SeparateForm):
    """S = (I - b k k^T) S + b k v^T, without a decay."""

    needed = SPLIT | CONVOLUTIONS
    optional = BIASES | {"g_proj.weight"}

    def refusal(self) -> str | None:
        for name, usual in (("qk_activation", "silu"), ("qk_norm", "l2")):
            if (value := getattr(self.module, name, usual)) != usual:
                return f"its {name} is {value!r}, not {usual!r}"
        return super().refusal()

    def projected(self, u: Tensor) -> tuple[Tensor | None, ...]:
        b = self.gain(u)
        return *self.convolutions(u), torch.ones_like(b).unsqueeze(-1), b, self.gate(u)


@register_form
class SeparateDeltaNet(SeparateForm):
    """The gated delta rule, with a decay for each value head."""

    needed = SPLIT | CONVOLUTIONS | {"A_log", "dt_bias", "a_proj.weight"}
    optional = BIASES | {"g_proj.weight"}

    def projected(self, u: Tensor) -> tuple[Tensor | None, ...]:
        decay = self.decay(self.module.a_proj(u))
        return *self.convolutions(u), decay, self.gain(u), self.gate(u)


@register_form
class KimiDeltaAttention(SeparateForm):
    """The delta rule with a decay for each key channel of each value head."""

    needed = SPLIT | CONVOLUTIONS | {"A_log", "dt_bias"}
    needed |= {f"{x}_proj.{i}.weight" for x in "fg" for i in (0, 1)}
    optional = BIASES | {"g_proj.1.bias"}

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        gates = self.value_heads * self.n_states
        return {**super().shapes(), "dt_bias": (gates,), "A_log": (self.value_heads,)}

    def decay(self, a: Tensor) -> Tensor:
        """exp(-exp(A_log) softplus(a + dt_bias)), or with a lower bound of the exponent."""
        m = self.module
        shape = (self.value_heads, -1)
        a = (_wide(a) + m.dt_bias).unflatten(-1, shape)
        rate = _wide(m.A_log).exp().unsqueeze(-1)
        if getattr(m, "safe_gate", False):
            return (m.lower_bound * (rate * a).sigmoid()).exp()
        return (-rate * softplus(a)).exp()

    def projected(self, u: Tensor) -> tuple[Tensor | None, ...]:
        return *self.convolutions(u), self.decay(self.module.f_proj(u)), self.gain(u), self.gate(u)

    def places(self, kept: list[int]) -> dict[str, tuple[int, list[int]]]:
        n, ratio, each = self.n_states, self.value_heads // self.groups, len(kept) // self.groups
        gates = [
            head * n + i % n
            for head in range(self.value_heads)
            for i in kept[head // ratio * each : (head // ratio + 1) * each]
        ]
        return super().places(kept) | {"f_proj.1.weight": (0, gates), "dt_bias": (0, gates)}

    def counts(self, n: int) -> dict[str, int]:
        gates = self.value_heads * n
        return super().counts(n) | {"gate_dim": gates, "f_proj.1.out_features": gates}


@register_form
class GatedLinearAttention(SplitForm):
    """S = a S + k v^T with a decay for each key channel; keys and queries are not normalised."""

    erases = False
    norm = "g_norm_swish_gate"
    needed = frozenset(f"{x}_proj.weight" for x in "qkvgo")
    needed |= {"gk_proj.0.weight", "gk_proj.1.weight", "gk_proj.1.bias", f"{norm}.weight"}

    def refusal(self) -> str | None:
        mapped = getattr(self.module, "feature_map_fn", None) is not None
        return "its keys and queries go through a feature map" if mapped else None

    def normalised(self, x: Tensor) -> Tensor:
        """As they are."""
        return x

    def projected(self, u: Tensor) -> tuple[Tensor | None, ...]:
        m = self.module
        a = logsigmoid(_wide(m.gk_proj(u))) / m.gate_logit_normalizer
        if (least := getattr(m, "clamp_min", None)) is not None:
            a = a.clamp_min(least)
        a = a.exp().unflatten(-1, (self.groups, -1))
        return m.q_proj(u), m.k_proj(u), m.v_proj(u), a, torch.ones_like(a[..., 0]), m.g_proj(u)

    def places(self, kept: list[int]) -> dict[str, tuple[int, list[int]]]:
        names = ("q_proj.weight", "k_proj.weight", "gk_proj.1.weight", "gk_proj.1.bias")
        return {name: (0, kept) for name in names}

    def counts(self, n: int) -> dict[str, int]:
        keys = self.groups * n
        names = ("key_dim_per_group", "gk_proj.1.out_features")
        return super().counts(n) | dict.fromkeys(names, keys)


def _wide(x: Tensor) -> Tensor:
    """In at least single precision: a decay close to one would be rounded to one."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
