"""From continuous poles to discrete ones and back, for a step size that is trained."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["DISCRETIZATIONS"]


def _zoh(w: Tensor) -> tuple[Tensor, Tensor]:
    """p = exp(w), b / dt = (exp(w) - 1) / w."""
    return w.exp(), w.expm1() / w


def _log(p: Tensor, tiny: float) -> Tensor:
    """w = log(p) on the principal branch, with |p| at least `tiny`."""
    return torch.complex(p.abs().clamp(min=tiny).log(), p.angle())


def _bilinear(w: Tensor) -> tuple[Tensor, Tensor]:
    """p = (1 + w/2) / (1 - w/2), b / dt = 1 / (1 - w/2)."""
    gain = 1 / (1 - w / 2)
    return (1 + w / 2) * gain, gain


def _inverse_bilinear(p: Tensor, tiny: float) -> Tensor:
    """w = 2 (p - 1) / (p + 1), with a real part as accurate as the distance from the circle."""
    r = p.abs()
    return 2 * torch.complex((r - 1) * (r + 1), 2 * p.imag) / (p + 1).abs().square()


DISCRETIZATIONS = {"zoh": (_zoh, _log), "bilinear": (_bilinear, _inverse_bilinear)}
"""From ``w = dt * pole`` to p and b / dt, and from p back to w, by the name of the method."""
