"""`to_lti` reads a layer as a system, `load_lti_` writes one back; new types can register."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import torch
from torch import Tensor, nn

import lti
from compressm.errors import UnsupportedLayerError
from compressm.layers import SSMLayer
from compressm.ops.resize import tensors_of, write_
from compressm.systems.foreign import Family, family_of

__all__ = [
    "directions",
    "output_is_the_system",
    "is_supported",
    "load_lti_",
    "reads_itself",
    "layer_input",
    "to_lti",
]


@singledispatch
def to_lti(layer: nn.Module, conjugate: bool = True) -> lti.DiagonalStateSpace | lti.StateSpace:
    """G(z) = C (z I - A)^-1 B of a layer, with derivatives for its parameters.

    Parameters
    ----------
    layer : nn.Module
        An `SSMLayer`, a layer of a known family of another package (see `register_family`), or
        of a type that was added by ``@to_lti.register``.
    conjugate : bool, optional
        True: the real system that the layer computes. False: the complex one of whose output it
        takes the real part.

    Returns
    -------
    DiagonalStateSpace or StateSpace
        Discrete, in double precision; a batch (channels,) if each channel is a separate system.

    Raises
    ------
    UnsupportedLayerError
        If the layer is none of these.
    """
    family = _family(layer, "read as a system")
    return family.read(tensors_of(layer), conjugate, **family.options(layer))


@singledispatch
def load_lti_(layer: nn.Module, system: lti.DiagonalStateSpace, optimizer: Any = None) -> None:
    """Write a system of any order into a layer, so that `to_lti` returns it from then on.

    Parameters
    ----------
    layer : nn.Module
        As in `to_lti`. Its parameters keep their identity.
    system : lti.DiagonalStateSpace
        Shaped as what `to_lti` returns but for its order, in diagonal form.
    optimizer : torch.optim.Optimizer, optional
        Its state of these parameters is reset; see `resize_`.

    Raises
    ------
    UnsupportedLayerError
        If the layer is none of those that `to_lti` takes.
    lti.LTIError
        If the layer cannot hold the system. Nothing has been written then.
    """
    family = _family(layer, "write a system into")
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        new = family.write(system, tensors_of(layer), **family.options(layer))
    for name, value in new.items():
        write_(layer, name, value, optimizer)
    for name in family.counts:
        write_(layer, name, system.poles.shape[-1])
    state = vars(layer).get("state")
    if isinstance(state, Tensor):  # left over from the last sequence, in other coordinates
        write_(layer, "state", state.new_zeros(*state.shape[:-1], system.poles.shape[-1]))


def is_supported(layer: nn.Module) -> bool:
    """Whether `to_lti` takes this module."""
    return _registered(type(layer)) or family_of(layer) is not None


def reads_itself(kind: type) -> bool:
    """Whether `to_lti` of a layer of this type calls the layer's own method."""
    return to_lti.dispatch(kind) is to_lti.dispatch(SSMLayer)


def _registered(kind: type) -> bool:
    return to_lti.dispatch(kind) is not to_lti.dispatch(object)


# This is what torch.compiler.assume_constant_result sets, as torch.compile cannot trace a dispatch;
# calling it would import for a second
_registered._dynamo_marked_constant = reads_itself._dynamo_marked_constant = True


def layer_input(layer: nn.Module, u: Tensor) -> Tensor:
    """The input `u` of a layer, as (batch, length, channels)."""
    family = family_of(layer)
    return u if family is None else family.inputs(layer, u)


def output_is_the_system(layer: nn.Module) -> bool:
    """Whether the output of a layer is that of its system, with no more operations after it."""
    family = family_of(layer)
    return family is None or family.whole


def directions(layer: nn.Module) -> int:
    """2 if the second half of the system's outputs is that of the reversed sequence, else 1."""
    family = family_of(layer)
    return 1 + bool(getattr(layer, "bidirectional", False)) if family is None else family.directions


def _family(layer: nn.Module, what: str) -> Family:
    family = family_of(layer)
    if family is None:
        raise UnsupportedLayerError(
            f"{type(layer).__qualname__} is no layer that compressm can {what}; "
            "docs/adapters.md shows how to describe one with to_lti.register and "
            "load_lti_.register"
        )
    return family


@to_lti.register
def _(layer: SSMLayer, conjugate: bool = True) -> lti.DiagonalStateSpace | lti.StateSpace:
    return layer.to_lti(conjugate)


@load_lti_.register
def _(layer: SSMLayer, system: lti.DiagonalStateSpace, optimizer: Any = None) -> None:
    layer.load_lti_(system, optimizer)
