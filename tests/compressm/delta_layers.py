"""Layers of the delta rule: those of transformers, and stand-ins with the parameters of fla."""

import importlib

import torch
from torch import nn
from torch.nn.functional import logsigmoid, silu, softplus

N, HEADS, VALUE_HEADS, D_V = 6, 2, 4, 5
SIZES = {
    "linear_num_key_heads": HEADS,
    "linear_num_value_heads": VALUE_HEADS,
    "linear_key_head_dim": N,
    "linear_value_head_dim": D_V,
}
# Mixer, module of transformers, configuration
FOREIGN = {
    "Qwen3Next": ("Qwen3NextGatedDeltaNet", "qwen3_next", "Qwen3NextConfig"),
    "Qwen3_5": ("Qwen3_5GatedDeltaNet", "qwen3_5", "Qwen3_5TextConfig"),
    "OlmoHybrid": ("OlmoHybridGatedDeltaNet", "olmo_hybrid", "OlmoHybridConfig"),
}
FLA = ("DeltaNet", "GatedDeltaNet", "KimiDeltaAttention", "GatedLinearAttention")


def foreign(name, d_model=8):
    """A mixer of transformers, with parameters at random and no eps in its norm."""
    mixer, module, config = FOREIGN[name]
    module = f"transformers.models.{module}."
    config = getattr(importlib.import_module(f"{module}configuration_{module[20:-1]}"), config)
    code = importlib.import_module(f"{module}modeling_{module[20:-1]}")
    layer = randomized(getattr(code, mixer)(config(hidden_size=d_model, **SIZES), layer_idx=0))
    norm = layer.norm if hasattr(layer, "norm") else layer.o_norm
    norm.variance_epsilon = 0.0
    return layer.eval()


def randomized(layer, seed=0):
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(0.5 * torch.randn_like(p))
    return layer


class GatedNorm(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, y, z=None):
        y = y / y.square().mean(-1, keepdim=True).sqrt() * self.weight
        return y if z is None else y * silu(z)


class StandIn(nn.Module):
    """The parameters and attributes of a layer of fla, and its published recurrence."""

    def __init__(self, kind, d=8):
        super().__init__()
        self.kind = kind
        key, value = HEADS * N, VALUE_HEADS * D_V
        gla = kind == "GatedLinearAttention"
        value_heads = HEADS if gla else VALUE_HEADS
        value = value_heads * D_V
        self.num_heads, self.num_v_heads = HEADS, value_heads
        self.head_k_dim, self.head_v_dim, self.key_dim, self.value_dim = N, D_V, key, value
        linear = lambda rows, columns=d, bias=False: nn.Linear(columns, rows, bias=bias)  # noqa: E731
        self.q_proj, self.k_proj, self.v_proj = linear(key), linear(key), linear(value)
        self.o_proj = linear(d, value)
        if gla:
            self.g_proj, self.gk_proj = (
                linear(value),
                nn.Sequential(linear(3), linear(key, 3, True)),
            )
            self.gate_logit_normalizer, self.g_norm_swish_gate = 16, GatedNorm(D_V)
            return
        self.b_proj, self.o_norm = linear(value_heads), GatedNorm(D_V)
        for name, rows in {"q": key, "k": key, "v": value}.items():
            conv = nn.Conv1d(rows, rows, 3, groups=rows, bias=False, padding=2)
            setattr(self, f"{name}_conv1d", conv)
        if kind == "GatedDeltaNet":
            self.a_proj, self.g_proj = linear(value_heads), linear(value)
            self.A_log, self.dt_bias = (nn.Parameter(torch.zeros(value_heads)) for _ in "Ad")
        if kind == "KimiDeltaAttention":
            self.f_proj = nn.Sequential(linear(3), linear(value_heads * N, 3))
            self.g_proj = nn.Sequential(linear(3), linear(value, 3, True))
            self.A_log = nn.Parameter(torch.zeros(value_heads))
            self.dt_bias = nn.Parameter(torch.zeros(value_heads * N))

    def forward(self, u):
        q, k, v = (getattr(self, f"{x}_proj")(u) for x in "qkv")
        n, gla = self.head_k_dim, self.kind == "GatedLinearAttention"
        if not gla:
            q, k, v = (
                silu(getattr(self, f"{name}_conv1d")(x.mT)[..., : u.shape[1]]).mT
                for name, x in (("q", q), ("k", k), ("v", v))
            )
        q, k = (
            x.unflatten(-1, (HEADS, n)).repeat_interleave(self.num_v_heads // HEADS, 2)
            for x in (q, k)
        )
        v = v.unflatten(-1, (self.num_v_heads, -1))
        if not gla:
            q, k = (x * (x.square().sum(-1, keepdim=True) + 1e-6).rsqrt() for x in (q, k))
        b = torch.ones_like(v[..., 0]) if gla else self.b_proj(u).sigmoid()
        a = torch.ones_like(k)
        if self.kind == "GatedDeltaNet":
            rate = -self.A_log.exp() * softplus(self.a_proj(u) + self.dt_bias)
            a = rate.exp().unsqueeze(-1).expand_as(k)
        elif self.kind == "KimiDeltaAttention":
            gate = softplus(self.f_proj(u) + self.dt_bias).unflatten(-1, (self.num_v_heads, n))
            a = (-self.A_log.exp().unsqueeze(-1) * gate).exp()
        elif gla:
            a = (logsigmoid(self.gk_proj(u)) / 16).exp().unflatten(-1, (HEADS, n))
        S, y = u.new_zeros(len(u), self.num_v_heads, n, D_V), []
        for t in range(u.shape[1]):
            kk = torch.einsum("bhi,bhj,bh->bhij", k[:, t], k[:, t], b[:, t] * (not gla))
            S = (torch.eye(n) - kk) @ (a[:, t, ..., None] * S)
            S = S + torch.einsum("bhi,bhj,bh->bhij", k[:, t], v[:, t], b[:, t])
            y.append(torch.einsum("bhi,bhij->bhj", q[:, t], S) / n**0.5)
        y = torch.stack(y, 1)
        norm = self.g_norm_swish_gate if gla else self.o_norm
        if hasattr(self, "g_proj"):
            y = norm(y, self.g_proj(u).unflatten(-1, (self.num_v_heads, -1)))
        else:
            y = norm(y)
        return self.o_proj(y.flatten(2))


def layer_of(name):
    return foreign(name) if name in FOREIGN else randomized(StandIn(name))


LAYERS = [*FOREIGN, *FLA]
