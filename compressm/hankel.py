"""A model's layers, seen as systems."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import lti
from compressm.layers import SSMLayer
from compressm.scan import linear_ssm

__all__ = ["alike", "hankel_spectra", "observed_factor", "ssm_layers", "stacked"]

SAMPLES = 8  # states looked at, for each state of the system


def ssm_layers(model: nn.Module) -> Iterator[tuple[str, SSMLayer]]:
    """Every state-space layer of `model` with its qualified name, each layer once."""
    return ((name, m) for name, m in model.named_modules() if isinstance(m, SSMLayer))


def alike(
    model: nn.Module, system: str = "real"
) -> Iterator[tuple[tuple[str, ...], tuple[lti.DiagonalStateSpace, ...]]]:
    """The state-space layers of `model` as systems, in groups of one shape, with their names.

    Parameters
    ----------
    model : nn.Module
    system : {"real", "complex"}, optional
        As in `Compressor`.

    Yields
    ------
    tuple of str
        Qualified names.
    tuple of DiagonalStateSpace
        With derivatives for the parameters, where torch follows them.

    Raises
    ------
    ValueError
        If `system` is neither.
    """
    require_known(system)
    groups: dict[Any, dict[str, lti.DiagonalStateSpace]] = {}
    for name, layer in ssm_layers(model):
        with _naming("layer", (name,)):
            one = layer.to_lti(conjugate=system == "real")
        key = one.B.shape, one.C.shape, one.B.device, precision(layer)
        groups.setdefault(key, {})[name] = one
    for group in groups.values():
        yield tuple(group), tuple(group.values())


def require_known(system: str) -> None:
    """ValueError unless `system` is "real" or "complex"."""
    if system not in ("real", "complex"):
        raise ValueError(f"system must be 'real' or 'complex', got {system!r}")


def precision(layer: SSMLayer) -> torch.dtype:
    """The dtype of the parameters of a layer."""
    return getattr(layer, next(iter(layer.state_axes))).dtype


@contextmanager
def stacked(
    names: tuple[str, ...], systems: tuple[lti.DiagonalStateSpace, ...]
) -> Iterator[lti.DiagonalStateSpace]:
    """Systems of one shape as one stack, for one call in place of many.

    Parameters
    ----------
    names : tuple of str
        Added to an error of `lti`, which knows indices only.
    systems : tuple of DiagonalStateSpace

    Yields
    ------
    DiagonalStateSpace, of poles (len(systems), n)
    """
    poles, B, C = (torch.stack([getattr(x, k) for x in systems]) for k in ("poles", "B", "C"))
    with _naming("layers, by their index", names):
        yield lti.DiagonalStateSpace(poles, B, C, None, systems[0].dt, systems[0].conjugate)


@contextmanager
def _naming(what: str, names: tuple[str, ...]) -> Iterator[None]:
    try:
        yield
    except lti.LTIError as error:
        error.add_note(f"{what}: {', '.join(names)}")
        raise


@torch.no_grad()
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
    spectra = {}
    for names, systems in alike(model):
        with stacked(names, systems) as stack:
            values = lti.hankel_singular_values(stack).cpu().numpy()
        spectra |= zip(names, values, strict=True)
    return {name: spectra[name] for name, _ in ssm_layers(model)}


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
