"""A model's layers, seen as systems."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

import lti
from compressm.errors import OptionError
from compressm.layers import SSMLayer
from compressm.systems.convert import is_supported, reads_itself, to_lti

System = lti.DiagonalStateSpace | lti.StateSpace

__all__ = ["alike", "hankel_spectra", "ssm_layers", "stacked"]


def ssm_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every state-space layer of `model` with its qualified name, each layer once."""
    inside = None
    for name, module in model.named_modules():
        if inside is not None and (name + ".").startswith(inside):
            continue  # a part of the layer before it
        if is_supported(module):
            inside = f"{name}." if name else ""
            yield name, module


def alike(
    model: nn.Module, system: str = "real"
) -> Iterator[tuple[tuple[str, ...], tuple[System, ...]]]:
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
    tuple of DiagonalStateSpace or StateSpace
        With derivatives for the parameters, where torch follows them.

    Raises
    ------
    ValueError
        If `system` is neither.
    """
    require_known(system)
    groups: dict[Any, dict[str, System]] = {}
    for name, layer in ssm_layers(model):
        with _naming("layer", (name,)):
            one = system_of(layer, conjugate=system == "real")
        key = type(one), one.B.shape, one.C.shape, one.B.device, precision(layer)
        groups.setdefault(key, {})[name] = one
    for group in groups.values():
        yield tuple(group), tuple(group.values())


def require_known(system: str) -> None:
    """ValueError unless `system` is "real" or "complex"."""
    if system not in ("real", "complex"):
        raise OptionError(f"system must be 'real' or 'complex', got {system!r}")


def system_of(layer: nn.Module, conjugate: bool) -> System:
    """`to_lti` of a layer, in a way that torch.compile can follow for our own."""
    if isinstance(layer, SSMLayer) and reads_itself(type(layer)):
        return layer.to_lti(conjugate)
    return to_lti(layer, conjugate)


def precision(layer: nn.Module) -> torch.dtype:
    """The dtype of the parameters of a layer."""
    if isinstance(layer, SSMLayer):
        return getattr(layer, next(iter(layer.state_axes))).dtype
    return next(p.dtype for p in layer.parameters() if p.is_floating_point() or p.is_complex())


@contextmanager
def stacked(names: tuple[str, ...], systems: tuple[System, ...]) -> Iterator[System]:
    """Systems of one shape as one stack, for one call in place of many.

    Parameters
    ----------
    names : tuple of str
        Added to an error of `lti`, which knows indices only.
    systems : tuple of DiagonalStateSpace or StateSpace

    Yields
    ------
    DiagonalStateSpace or StateSpace, of stack (len(systems), ...)
    """
    state = "poles" if isinstance(systems[0], lti.DiagonalStateSpace) else "A"
    stacks = {k: torch.stack([getattr(x, k) for x in systems]) for k in (state, "B", "C")}
    with _naming("layers, by their index", names):
        yield replace(systems[0], D=None, **stacks)


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
    dict of str to ndarray (..., n)
        From the layer's qualified name to its Hankel singular values, descending; n counts the real
        states of ``layer.to_lti()``, which may be a stack of channels.

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
