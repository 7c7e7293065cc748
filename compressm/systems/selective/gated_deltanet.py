"""The gated delta rule in `transformers`: layers of Qwen3-Next, Qwen3.5 and OlmoHybrid."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from compressm.systems.selective.delta_rule import DeltaRule
from compressm.systems.selective.form import (
    SelectiveForm,
    causal_convolution,
    first_attribute,
    register_form,
)

__all__ = ["DeltaForm", "GatedDeltaNet", "InterleavedDeltaNet", "SplitDeltaNet"]

EPS = 1e-6  # in the norms of keys and queries, of these layers and of their kernels


class DeltaForm(SelectiveForm):
    """Key channels are the states; a key head, with its value heads, keeps channels of its own."""

    recurrence = DeltaRule()
    config_names = ("linear_key_head_dim",)
    norm, output = "norm", "out_proj"

    def __init__(self, module: Any) -> None:
        self.module = module
        self.groups = _number(module, ("num_k_heads", "num_heads"), 0)
        self.value_heads = _number(module, ("num_v_heads",), self.groups)
        self.n_states = _number(module, ("head_k_dim",), 0)
        self.d_value = _number(module, ("head_v_dim",), 0)
        self.keys, self.values = self.groups * self.n_states, self.value_heads * self.d_value

    @abstractmethod
    def projected(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        """q, k, v (batch, length, heads * width), the decay a, the gain b, and the gate z."""

    def coefficients(self, u: Tensor) -> tuple[Tensor, ...]:
        u = u.to(getattr(self.module, self.output).weight)
        q, k, v, a, b, z = self.projected(u)
        q, k = (self.normalised(x.unflatten(-1, (self.groups, -1))) for x in (q, k))
        x = v.unflatten(-1, (self.value_heads, -1))
        z = x if z is None else z.unflatten(-1, (self.value_heads, -1))
        return q / self.n_states**0.5, k, x, a, b, b.new_tensor(self.erases), z

    erases = True
    is_gated = True

    def refusal(self) -> str | None:
        act = getattr(self.module, "activation", "silu")
        return None if act in ("silu", "swish") else f"its activation is {act!r}, not 'silu'"

    def normalised(self, x: Tensor) -> Tensor:
        """Keys or queries as the recurrence takes them."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return wide * (wide.square().sum(-1, keepdim=True) + EPS).rsqrt()

    def decay(self, a: Tensor) -> Tensor:
        """exp(-exp(A_log) softplus(a + dt_bias)), one for each value head."""
        m = self.module
        a = a.to(torch.promote_types(a.dtype, torch.float32))
        return (-m.A_log.exp() * softplus(a + m.dt_bias)).exp().unsqueeze(-1)

    def tail(self, y: Tensor, x: Tensor, z: Tensor) -> Tensor:
        m = self.module
        norm, output = getattr(m, self.norm), getattr(m, self.output)
        y = y.unflatten(-1, (self.value_heads, -1))
        gated = norm(y.flatten(0, 2), z.flatten(0, 2)) if self.is_gated else norm(y)
        y = gated.reshape(y.shape)
        return output(y.flatten(2).to(output.weight))

    def counts(self, n: int) -> dict[str, int]:
        counts = {"head_k_dim": n, "key_dim": self.groups * n}
        if hasattr(self.module, "conv1d"):
            names = ("conv_dim", "conv1d.in_channels", "conv1d.out_channels", "conv1d.groups")
            counts |= dict.fromkeys(names, 2 * self.groups * n + self.values)
        return counts

    def of_keys(self, kept: list[int]) -> list[int]:
        """The rows of (q, k, v) for the `kept` states."""
        values = range(2 * self.keys, 2 * self.keys + self.values)
        return [*kept, *(self.keys + i for i in kept), *values]

    def convolved(self, qkv: Tensor) -> tuple[Tensor, ...]:
        """q, k, v after one convolution for all."""
        qkv = causal_convolution(self.module.conv1d, qkv)
        return qkv.split([self.keys, self.keys, self.values], -1)


def _number(module: Any, names: Iterable[str], default: int) -> int:
    value = first_attribute(module, names, default)
    return value if isinstance(value, int) else 0


GATED = frozenset({"A_log", "dt_bias", "conv1d.weight"})


@register_form
class GatedDeltaNet(DeltaForm):
    """(q, k, v) = in_proj_qkv(u), with in_proj_z, in_proj_b and in_proj_a: Qwen3.5."""

    needed = GATED | {
        f"{name}.weight"
        for name in ("in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a", "norm", "out_proj")
    }
    optional = frozenset({"conv1d.bias"})

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        d = self.module.out_proj.weight.shape[0]
        rows = {"in_proj_qkv": 2 * self.keys + self.values, "in_proj_z": self.values}
        rows |= {"in_proj_b": self.value_heads, "in_proj_a": self.value_heads}
        return {f"{name}.weight": (n, d) for name, n in rows.items()}

    def projected(self, u: Tensor) -> tuple[Tensor, ...]:
        m = self.module
        b, a, z = m.in_proj_b(u).sigmoid(), self.decay(m.in_proj_a(u)), m.in_proj_z(u)
        return *self.convolved(m.in_proj_qkv(u)), a, b, z

    def places(self, kept: list[int]) -> dict[str, tuple[int, list[int]]]:
        rows = self.of_keys(kept)
        return {name: (0, rows) for name in ("in_proj_qkv.weight", "conv1d.weight", "conv1d.bias")}

    def counts(self, n: int) -> dict[str, int]:
        counts = super().counts(n)
        return counts | {"in_proj_qkv.out_features": counts["conv_dim"]}


@register_form
class InterleavedDeltaNet(DeltaForm):
    """in_proj_qkvz(u) holds q, k, v and z of a key head side by side: Qwen3-Next."""

    needed = GATED | {
        f"{name}.weight" for name in ("in_proj_qkvz", "in_proj_ba", "norm", "out_proj")
    }
    optional = frozenset({"conv1d.bias"})

    @property
    def parts(self) -> list[int]:
        """The widths of q, k, v and z of a key head."""
        value = self.values // max(self.groups, 1)
        return [self.n_states, self.n_states, value, value]

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        d = self.module.out_proj.weight.shape[0]
        return {
            "in_proj_qkvz.weight": (self.groups * sum(self.parts), d),
            "in_proj_ba.weight": (2 * self.value_heads, d),
        }

    def projected(self, u: Tensor) -> tuple[Tensor, ...]:
        m = self.module
        *qkv, z = m.in_proj_qkvz(u).unflatten(-1, (self.groups, -1)).split(self.parts, -1)
        b, a = m.in_proj_ba(u).unflatten(-1, (self.groups, -1)).chunk(2, -1)
        qkv = self.convolved(torch.cat([x.flatten(2) for x in qkv], -1))
        return *qkv, self.decay(a.flatten(2)), b.flatten(2).sigmoid(), z.flatten(2)

    def places(self, kept: list[int]) -> dict[str, tuple[int, list[int]]]:
        n, width, each = self.n_states, sum(self.parts), len(kept) // self.groups
        rows = []
        for g in range(self.groups):
            own = [i % n for i in kept[g * each : (g + 1) * each]]
            block = [*own, *(n + i for i in own), *range(2 * n, width)]
            rows += [g * width + i for i in block]
        convolved = self.of_keys(kept)
        return {
            "in_proj_qkvz.weight": (0, rows),
            "conv1d.weight": (0, convolved),
            "conv1d.bias": (0, convolved),
        }

    def counts(self, n: int) -> dict[str, int]:
        return super().counts(n) | {
            "in_proj_qkvz.out_features": 2 * self.groups * n + 2 * self.values
        }


SPLIT = frozenset(
    f"{name}.weight" for name in ("q_proj", "k_proj", "v_proj", "b_proj", "o_norm", "o_proj")
)


class SplitForm(DeltaForm):
    """Keys, queries and values each have a projection."""

    norm, output = "o_norm", "o_proj"

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        d = self.module.o_proj.weight.shape[0]
        rows = {"q_proj": self.keys, "k_proj": self.keys, "v_proj": self.values}
        return {f"{name}.weight": (n, d) for name, n in rows.items()}

    @property
    def is_gated(self) -> bool:
        return hasattr(self.module, "g_proj")

    def gain(self, u: Tensor) -> Tensor:
        """b = sigmoid, or twice as much where it may pass one."""
        m = self.module
        return m.b_proj(u).sigmoid() * (2.0 if getattr(m, "allow_neg_eigval", False) else 1.0)

    def gate(self, u: Tensor) -> Tensor | None:
        """z, or None if the output has no gate."""
        return self.module.g_proj(u) if self.is_gated else None

    def places(self, kept: list[int]) -> dict[str, tuple[int, list[int]]]:
        return {"q_proj.weight": (0, kept), "k_proj.weight": (0, kept)}

    def counts(self, n: int) -> dict[str, int]:
        keys = self.groups * n
        return super().counts(n) | {"q_proj.out_features": keys, "k_proj.out_features": keys}


@register_form
class SplitDeltaNet(SplitForm):
    """q_proj, k_proj, v_proj, a_proj, b_proj, g_proj, and one convolution: OlmoHybrid."""

    needed = GATED | SPLIT | {"a_proj.weight", "g_proj.weight"}
    optional = frozenset({"conv1d.bias"})

    def projected(self, u: Tensor) -> tuple[Tensor, ...]:
        m = self.module
        qkv = self.convolved(torch.cat([m.q_proj(u), m.k_proj(u), m.v_proj(u)], -1))
        return *qkv, self.decay(m.a_proj(u)), self.gain(u), m.g_proj(u)

    def places(self, kept: list[int]) -> dict[str, tuple[int, list[int]]]:
        rows = self.of_keys(kept)
        return super().places(kept) | {"conv1d.weight": (0, rows), "conv1d.bias": (0, rows)}
