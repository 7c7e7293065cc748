"""Selective layers, ours and those of transformers, and what they compute step by step."""

import copy
import importlib

import pytest
import torch
from torch import nn
from torch.nn.functional import silu

from compressm import Mamba
from compressm.gramians.signals import Signal
from compressm.systems.selective.evaluate import coefficients

GRAMIANS = ("model", "input", "data")


N = 6


HEADS = {"mamba_n_heads": 4, "mamba_d_head": 4, "mamba_n_groups": 2, "mamba_d_state": N}


# Class, module of transformers, and the configuration of a small one
FOREIGN = {
    "Mamba": ("MambaMixer", "mamba", {"state_size": N}),
    "FalconMamba": ("FalconMambaMixer", "falcon_mamba", {"state_size": N}),
    "Mamba2": (
        "Mamba2Mixer",
        "mamba2",
        {"state_size": N, "num_heads": 4, "head_dim": 4, "n_groups": 2, "use_bias": True},
    ),
    "Jamba": (
        "JambaMambaMixer",
        "jamba",
        {"mamba_d_state": N, "mamba_dt_rank": 2, "num_attention_heads": 2},
    ),
    "Bamba": ("BambaMixer", "bamba", HEADS),
}


def foreign(name):
    """A mixer of transformers of that name, 8 inputs, with parameters at random."""
    pytest.importorskip("transformers")
    mixer, module, options = FOREIGN[name]
    module = importlib.import_module(f"transformers.models.{module}.modeling_{module}")
    config = getattr(module, f"{name}Config")(hidden_size=8, **options)
    more = {} if name in ("Jamba", "Bamba") else {"initialize_mixer_weights": False}
    layer = randomized(getattr(module, mixer)(config, layer_idx=0, **more).double())
    if name == "Mamba2":
        layer.time_step_limit = (0.5, 0.8)
    return layer


def own(d_state=N, d_model=8, seed=0):
    return randomized(Mamba(d_model, d_state).double(), seed)


def randomized(module, seed=0):
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(0.5 * torch.randn_like(p))
    return module


def layer_of(name):
    return own() if name == "own" else foreign(name)


def stack(*layers):
    return nn.Sequential(*layers).double()


def language_model(name="Mamba", layers=2, dtype=torch.float32):
    transformers = pytest.importorskip("transformers")
    _, _, options = FOREIGN[name]
    config = getattr(transformers, f"{name}Config")(
        vocab_size=11, hidden_size=8, num_hidden_layers=layers, pad_token_id=None, **options
    )
    torch.manual_seed(0)
    return getattr(transformers, f"{name}ForCausalLM")(config).to(dtype)


def tokens(batch=3, length=12):
    return torch.randint(0, 11, (batch, length), generator=torch.Generator().manual_seed(0))


def signal(batch=2, length=9, d_model=8, seed=1):
    generator = torch.Generator().manual_seed(seed)
    u, g = torch.randn(2, batch, length, d_model, dtype=torch.float64, generator=generator)
    return Signal(u, g)


def without(layer, dropped):
    """The layer with rows of C at zero, of these states."""
    full = copy.deepcopy(layer)
    with torch.no_grad():
        if full.A_log.ndim == 2:
            rank = full.dt_proj.weight.shape[1]
            full.x_proj.weight[[rank + N + i for i in dropped]] = 0
        else:
            channels = full.out_proj.weight.shape[1]
            rows = [channels + N * (2 + group) + i for group in (0, 1) for i in dropped]
            full.conv1d.weight[rows] = 0
            full.conv1d.bias[rows] = 0
    return full


@torch.no_grad()
def scanned(layer, u):
    """The output, or for Mamba2 what goes into the norm, which is in single precision."""
    if not hasattr(layer, "norm"):
        return layer(u)
    seen = []
    hook = layer.norm.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    layer(u)
    hook.remove()
    return seen[0]


def step_through(layer, u):
    """The states h of all times, each a tensor, the coefficients, and the output of the layer."""
    x, dt, A, B, C, z = coefficients(layer, u)
    B, C = (part.repeat_interleave(x.shape[-1] // part.shape[2], 2) for part in (B, C))
    h, states, y = torch.zeros(1, dtype=x.dtype, requires_grad=True), [], []
    for t in range(x.shape[1]):
        h = (dt[:, t, :, None] * A).exp() * h + (dt * x)[:, t, :, None] * B[:, t]
        h.retain_grad()
        states.append(h)
        y.append((h * C[:, t]).sum(-1))
    y = torch.stack(y, 1) + layer.D.repeat_interleave(x.shape[-1] // len(layer.D)) * x
    y = layer.norm(y, z) if hasattr(layer, "norm") else y * silu(z)
    return states, (x, dt, A, B, C), layer.out_proj(y)
