"""Layers of any origin as systems: `to_lti` and `load_lti_`, each open to new types."""

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
        An `SSMLayer`, a layer of another package that is known by its parameters, or of a type
        that was added by ``@to_lti.register``.
    conjugate : bool, optional
        True: the real system that the layer computes. False: the complex one of whose output it
        takes the real part.

    Returns
    -------
    DiagonalStateSpace or StateSpace
        Discrete, in double precision; a stack (channels,) if every channel is a system of its own.

    Raises
    ------
    UnsupportedLayerError
        If it is none of these.
    """
    family = _family(layer, "read as a system")
    return family.read(tensors_of(layer), conjugate, **family.options(layer))


@singledispatch
def load_lti_(layer: nn.Module, system: lti.DiagonalStateSpace, optimizer: Any = None) -> None:
    """Write a system of any order into a layer: what `to_lti` returns from then on.

    Parameters
    ----------
    layer : nn.Module
        As in `to_lti`. Its parameters keep their identity.
    system : lti.DiagonalStateSpace
        Of the kind that `to_lti` returns, in diagonal form.
    optimizer : torch.optim.Optimizer, optional
        Starts these parameters afresh; see `resize_`.

    Raises
    ------
    UnsupportedLayerError
        If nothing is known of it.
    lti.LTIError
        If the layer cannot hold the system; nothing has been written then.
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
        layer.state = state.new_zeros(*state.shape[:-1], system.poles.shape[-1])


def is_supported(layer: nn.Module) -> bool:
    """Whether `to_lti` knows such a module."""
    return _registered(type(layer)) or family_of(layer) is not None


def reads_itself(kind: type) -> bool:
    """Whether `to_lti` of such a layer is its own method."""
    return to_lti.dispatch(kind) is to_lti.dispatch(SSMLayer)


def _registered(kind: type) -> bool:
    return to_lti.dispatch(kind) is not to_lti.dispatch(object)


# What torch.compiler.assume_constant_result sets, for torch.compile cannot follow a dispatch; not
# called, as the import behind it takes a second
_registered._dynamo_marked_constant = reads_itself._dynamo_marked_constant = True


def layer_input(layer: nn.Module, u: Tensor) -> Tensor:
    """What a layer was called with, as (batch, length, channels)."""
    family = family_of(layer)
    return u if family is None else family.inputs(layer, u)


def output_is_the_system(layer: nn.Module) -> bool:
    """Whether what a layer gives out is its system's output, and nothing follows inside."""
    family = family_of(layer)
    return family is None or family.whole


def directions(layer: nn.Module) -> int:
    """2 if the second half of the system's outputs is that of the reversed sequence."""
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
