"""AdamW with a learning rate of their own for state-space layers, warm-up and cosine."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi
from typing import Any

import torch
from torch import nn

from compressm.experiments.training.settings import Settings
from compressm.systems.find import compressible_layers

__all__ = ["optimizer_of", "rate"]


def optimizer_of(model: nn.Module, settings: Settings) -> torch.optim.AdamW:
    """The optimizer of a run, at the highest learning rate."""
    return torch.optim.AdamW(
        _groups(model, settings), lr=settings.lr, weight_decay=settings.weight_decay, fused=True
    )


def _groups(model: nn.Module, settings: Settings) -> list[dict[str, Any]]:
    """The parameters of state-space layers, with their learning rate, and the other parameters."""
    inside = {id(p) for _, layer in compressible_layers(model) for p in layer.parameters()}
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for parameter in model.parameters():
        groups[id(parameter) in inside].append(parameter)
    return [
        {"params": groups[True], "lr": settings.lr * settings.ssm_lr},
        {"params": groups[False]},
    ]


def rate(settings: Settings) -> Callable[[int], float]:
    """Learning rate of each step, relative to the highest one."""
    if settings.lr_schedule == "constant":
        return lambda step: 1.0
    steps, floor = settings.steps, settings.lr_floor / settings.lr
    warmup = max(1, steps // 10)

    def factor(step: int) -> float:
        if step < warmup:
            return floor + (1 - floor) * (step + 1) / warmup
        return floor + (1 - floor) * 0.5 * (1 + cos(pi * (step - warmup) / max(1, steps - warmup)))

    return factor
