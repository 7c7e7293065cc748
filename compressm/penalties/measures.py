"""Measures of a spectrum: one number from the Hankel singular values of a system."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from compressm.errors import OptionError

__all__ = ["nuclear_norm", "smooth_order", "tail_energy"]

Measure = Callable[[Tensor], Tensor]
"""From sigma (..., n), descending, to (...): one number for each system of a batch."""


def nuclear_norm(sigma: Tensor) -> Tensor:
    """sum(sigma), the nuclear norm of the Hankel operator.

    Parameters
    ----------
    sigma : Tensor (..., n)

    Returns
    -------
    Tensor (...)
        It also falls when only the gain of the layer falls.
    """
    return sigma.sum(-1)


def tail_energy(sigma: Tensor, energy: float = 0.9) -> Tensor:
    """sum(sigma[r:]): the values beyond the order r that keeps the energy fraction `energy`.

    Parameters
    ----------
    sigma : Tensor (..., n)
    energy : float, optional
        Fraction of sum(sigma) that the r leading values hold and that is not penalised; in (0, 1).

    Returns
    -------
    Tensor (...)

    Raises
    ------
    ValueError
        If `energy` lies outside.
    """
    if not 0 < energy < 1:
        raise OptionError(
            f"energy is the fraction that is not penalised; it must lie in (0, 1), got {energy}"
        )
    kept = sigma.detach().cumsum(-1) - sigma.detach()
    tail = kept >= energy * sigma.detach().sum(-1, keepdim=True)
    return (sigma * tail).sum(-1)


def smooth_order(sigma: Tensor, level: float = 0.01) -> Tensor:
    """sum(sigma / (sigma + level sigma[0])): a smooth count of the values above a level.

    Parameters
    ----------
    sigma : Tensor (..., n)
    level : float, optional
        A value of ``level * sigma[0]`` counts one half, with sigma[0] held constant; positive.

    Returns
    -------
    Tensor (...)
        From 0 to n. Its slope is steepest for the smallest values.

    Raises
    ------
    ValueError
        If `level` is not positive.
    """
    if not level > 0:
        raise OptionError(f"level must be positive, got {level}")
    half = level * sigma.detach()[..., :1]
    return (sigma / torch.where(half > 0, sigma + half, 1.0)).sum(-1)
