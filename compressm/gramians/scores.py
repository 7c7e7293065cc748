"""Second moments of the states of a selective layer, and of its mean system."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

import lti
from compressm.gramians.signals import Signal
from compressm.systems.selective.evaluate import coefficients
from compressm.systems.selective.form import SelectiveForm, require_form
from compressm.systems.selective.recurrence import ReadoutMoments

__all__ = ["covariances", "mean_gramians", "pulled_back", "readout_moments"]


def mean_gramians(module: nn.Module, signals: Sequence[Signal]) -> tuple[Tensor, Tensor]:
    """P and Q of each state of the mean system over the signals, (channels, N)."""
    sequences = (coefficients(module, signal.u) for signal in signals)
    return require_form(module).recurrence.mean_gramians(sequences)


def covariances(
    module: nn.Module, signals: Sequence[Signal], adjoint: bool = True
) -> tuple[Tensor, Tensor]:
    """Second moments of the states and of the adjoint states, (channels, N)."""
    form, moments, counts = require_form(module), ([], []), [0, 0]
    for signal in signals:
        c = coefficients(module, signal.u)
        count = form.recurrence.count(c)
        moment, y = form.recurrence.run(c)
        moments[0].append(moment)
        counts[0] += count
        if adjoint and signal.g is not None:
            g = pulled_back(form, c, y, signal.g)
            moments[1].append(form.recurrence.adjoint(c, g))
            counts[1] += count
    if adjoint and not counts[1]:
        raise lti.DimensionError(
            "no gradient at its output was observed; run a backward pass, or take gramians='input'"
        )
    P: Any = sum(moments[0]) / max(counts[0], 1)
    Q: Any = sum(moments[1]) / counts[1] if counts[1] else torch.zeros_like(P)
    return P, Q


def readout_moments(module: nn.Module, signals: Sequence[Signal]) -> ReadoutMoments:
    """Moments of the states, which do not interact, as the output of the layer sees them.

    The weight of a channel at a time is the mean square of the change of the layer's output with
    that of y, of which one random direction for each time is an estimate without bias.
    """
    form, choice = require_form(module), torch.Generator().manual_seed(0)
    found: list[ReadoutMoments] = []
    for signal in signals:
        c = coefficients(module, signal.u)
        _, y = form.recurrence.run(c)
        with torch.no_grad():
            shape = form.tail(y, c.x, c.z).shape
        direction = torch.randn(shape, generator=choice, device="cpu").to(y.device)
        w = pulled_back(form, c, y, direction).square()
        found.append(form.recurrence.readout_moments(c, w))
    return ReadoutMoments(*(torch.stack(parts).sum(0) for parts in zip(*found, strict=True)))


def pulled_back(form: SelectiveForm, c: Any, y: Tensor, g: Tensor) -> Tensor:
    """dJ/dy of the recurrence from dJ/d(output of the layer)."""
    with torch.inference_mode(False), torch.enable_grad():
        y, x, z, g = (part.detach().clone() for part in (y, c.x, c.z, g))
        output = form.tail(y.requires_grad_(), x, z)
        return torch.autograd.grad(output, y, g.to(output))[0]
