"""A model's layers, seen as systems."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

import lti
from compressm.layers import SSMLayer
from compressm.scan import linear_ssm

__all__ = ["hankel_spectra", "observed_factor", "ssm_layers"]

SAMPLES = 8  # states looked at, for each state of the system


def ssm_layers(model: nn.Module) -> Iterator[tuple[str, SSMLayer]]:
    """Every state-space layer of `model` with its qualified name, each layer once."""
    return ((name, m) for name, m in model.named_modules() if isinstance(m, SSMLayer))


def hankel_spectra(model: nn.Module) -> dict[str, np.ndarray]:
    """svd(R^H S) of every state-space layer as it stands.

    Parameters
    ----------
    model : nn.Module
        Is not changed.

    Returns
    -------
    dict of str to ndarray (n,)
        From the layer's qualified name to its Hankel singular values, descending; n counts the real
        states of ``layer.to_lti()``.

    Raises
    ------
    lti.LTIError
        If a layer is not stable or not finite.
    """
    return {
        name: lti.hankel_singular_values(layer.to_lti()).cpu().numpy()
        for name, layer in ssm_layers(model)
    }


@torch.no_grad()
def observed_factor(system: lti.DiagonalStateSpace, u: Tensor) -> Tensor:
    """S with S S^H = mean of x x^H over the states x that the inputs u drive.

    Parameters
    ----------
    system : lti.DiagonalStateSpace
        Discrete, n >= 1 states; real ones [Re x, Im x] if ``conjugate``.
    u : Tensor (batch, length, m)
        Inputs, each sequence from the zero state.

    Returns
    -------
    Tensor (n, k)
        For white inputs of unit variance S S^H tends to the controllability Gramian.

    Notes
    -----
    States are looked at every J steps, as neighbours tell little that is new: ``x[kJ]`` obeys the
    recurrence with pole ``p^J`` whose input is a block of J inputs.
    """
    poles, B = system.poles, system.B
    batch, length, m = u.shape
    J = max(1, min(length, batch * length // (SAMPLES * system.order)))
    blocks = u[:, : length - length % J].reshape(batch, -1, J * m).to(B.real.dtype)
    powers = torch.cat([torch.ones_like(poles)[None], poles.expand(J - 1, -1)])
    powers = powers.cumprod(0).flip(0)  # (J, n), from J - 1 down to 0; exact at zero, unlike **
    drive = (powers[:, None, :] * B.mT).reshape(J * m, -1).mT
    parts = torch.cat([torch.eye(len(poles)), -1j * torch.eye(len(poles))]).to(poles)
    x, _ = linear_ssm(blocks, poles**J, drive, parts)  # Re(x), Re(-j x) = Im(x)
    x = x.reshape(-1, 2 * len(poles)).mT / x[..., 0].numel() ** 0.5
    if not system.conjugate:
        x = torch.complex(*x.split(len(poles)))
    return torch.linalg.qr(x.mH, mode="r")[1].mH
