"""Second moments of the states of a selective layer, and of its mean system."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

import lti
from compressm.gramians.signals import Signal
from compressm.systems.selective.evaluate import coefficients, driven
from compressm.systems.selective.form import require_form

__all__ = ["covariances", "mean_gramians"]


def mean_gramians(module: nn.Module, signals: Sequence[Signal]) -> tuple[Tensor, Tensor]:
    """P = b^2 / (1 - p^2), Q = c^2 / (1 - p^2) of each mode of the mean system, (channels, N).

    The mean system has the averages of dt, B and C over the signals.
    """
    sums, count = [], 0
    A: Any = None  # the same for all
    for signal in signals:
        _, dt, A, B, C, _ = coefficients(module, signal.u)
        sums.append([part.sum((0, 1), dtype=torch.float64) for part in (dt, B, C)])
        count += dt.shape[0] * dt.shape[1]
    dt, B, C = (torch.stack(parts).sum(0) / count for parts in zip(*sums, strict=True))
    B, C = (part.repeat_interleave(len(A) // len(part), 0) for part in (B, C))
    gap = -torch.expm1(2 * dt[:, None] * A)  # 1 - p^2
    return (dt[:, None] * B).square() / gap, C.square() / gap


def covariances(
    module: nn.Module, signals: Sequence[Signal], adjoint: bool = True
) -> tuple[Tensor, Tensor]:
    """Second moments of the states and of the adjoint states, (channels, N)."""
    form, moments, counts = require_form(module), ([], []), [0, 0]
    for signal in signals:
        x, dt, A, B, C, z = coefficients(module, signal.u)
        moment, y = driven(dt * x, dt, A, B, C)
        moments[0].append(moment)
        counts[0] += x.shape[0] * x.shape[1]
        if adjoint and signal.g is not None:
            with torch.enable_grad():
                y.requires_grad_()
                output = form.tail(y, x, z)
                (g,) = torch.autograd.grad(output, y, signal.g.to(output))
            # from right to left; the decay between two times is that of the later one
            g, dt, B, C = (part.flip(1) for part in (g, dt, B, C))
            moments[1].append(driven(g, dt.roll(1, 1), A, C, B)[0])
            counts[1] += x.shape[0] * x.shape[1]
    if adjoint and not counts[1]:
        raise lti.DimensionError(
            "no gradient at its output was observed; run a backward pass, or take gramians='input'"
        )
    P, Q = (sum(parts) / max(n, 1) for parts, n in zip(moments, counts, strict=True))
    return torch.as_tensor(P), torch.as_tensor(Q)
