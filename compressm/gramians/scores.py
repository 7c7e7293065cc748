"""Second moments of the states of a selective layer, and of its mean system."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

import lti
from compressm.gramians.signals import Signal
from compressm.systems.selective.evaluate import coefficients
from compressm.systems.selective.form import require_form

__all__ = ["covariances", "mean_gramians"]


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
            with torch.enable_grad():
                y.requires_grad_()
                output = form.tail(y, c.x, c.z)
                (g,) = torch.autograd.grad(output, y, signal.g.to(output))
            moments[1].append(form.recurrence.adjoint(c, g))
            counts[1] += count
    if adjoint and not counts[1]:
        raise lti.DimensionError(
            "no gradient at its output was observed; run a backward pass, or take gramians='input'"
        )
    P, Q = (sum(parts) / max(n, 1) for parts, n in zip(moments, counts, strict=True))
    return torch.as_tensor(P), torch.as_tensor(Q)
