"""The linear layers of a model as systems, one by one or in batches of one shape."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

import lti
from compressm._renamed import as_conjugate
from compressm.layers import SSMLayer
from compressm.systems.convert import reads_itself, to_lti
from compressm.systems.find import ssm_layers

System = lti.DiagonalStateSpace | lti.StateSpace

__all__ = [
    "batched",
    "grouped_by_shape",
    "hankel_spectra",
    "precision",
    "system_of",
]


def grouped_by_shape(
    model: nn.Module, conjugate: bool = True
) -> Iterator[tuple[tuple[str, ...], tuple[System, ...]]]:
    """The linear layers of `model` as systems, in groups of one shape, with their names.

    Parameters
    ----------
    model : nn.Module
    conjugate : bool, optional
        As in `to_lti`.

    Yields
    ------
    tuple of str
        Qualified names.
    tuple of DiagonalStateSpace or StateSpace
        With derivatives for the parameters, unless gradients are disabled.
    """
    conjugate = as_conjugate(conjugate)
    groups: dict[Any, dict[str, System]] = {}
    for name, layer in ssm_layers(model):
        with _naming("layer", (name,)):
            one = system_of(layer, conjugate)
        key = type(one), one.B.shape, one.C.shape, one.B.device, precision(layer)
        groups.setdefault(key, {})[name] = one
    for group in groups.values():
        yield tuple(group), tuple(group.values())


def system_of(layer: nn.Module, conjugate: bool) -> System:
    """`to_lti` of a layer; torch.compile can trace it for an `SSMLayer`."""
    if isinstance(layer, SSMLayer) and reads_itself(type(layer)):
        return layer.to_lti(conjugate)
    return to_lti(layer, conjugate)


def precision(layer: nn.Module) -> torch.dtype:
    """The dtype of the parameters of a layer."""
    if isinstance(layer, SSMLayer):
        return getattr(layer, next(iter(layer.state_axes))).dtype
    return next(p.dtype for p in layer.parameters() if p.is_floating_point() or p.is_complex())


@contextmanager
def batched(names: tuple[str, ...], systems: tuple[System, ...]) -> Iterator[System]:
    """Systems of one shape as one batch, so that one call computes all.

    Parameters
    ----------
    names : tuple of str
        Added to an error of `lti`, which knows only indices.
    systems : tuple of DiagonalStateSpace or StateSpace

    Yields
    ------
    DiagonalStateSpace or StateSpace, of batch shape (len(systems), ...)
    """
    state = "poles" if isinstance(systems[0], lti.DiagonalStateSpace) else "A"
    batch = {k: torch.stack([getattr(x, k) for x in systems]) for k in (state, "B", "C")}
    with _naming("layers, by their index", names):
        yield replace(systems[0], D=None, **batch)


@contextmanager
def _naming(what: str, names: tuple[str, ...]) -> Iterator[None]:
    try:
        yield
    except lti.LTIError as error:
        error.add_note(f"{what}: {', '.join(names)}")
        raise


@torch.no_grad()
def hankel_spectra(model: nn.Module) -> dict[str, np.ndarray]:
    """Hankel singular values svd(R^H S) of every linear state-space layer.

    Parameters
    ----------
    model : nn.Module
        It is not changed.

    Returns
    -------
    dict of str to ndarray (..., n)
        From the layer's qualified name to its Hankel singular values, descending; n counts the real
        states of ``layer.to_lti()``, which may be a batch of channels.

    Raises
    ------
    lti.LTIError
        If a layer is unstable or not finite.
    """
    spectra = {}
    for names, systems in grouped_by_shape(model):
        with batched(names, systems) as batch:
            values = lti.hankel_singular_values(batch).cpu().numpy()
        spectra |= zip(names, values, strict=True)
    return {name: spectra[name] for name, _ in ssm_layers(model)}
