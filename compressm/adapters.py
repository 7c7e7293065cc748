"""Layers of any origin as systems: `to_lti` and `load_lti_`, each open to new types."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from torch import nn

import lti
from compressm.layers import SSMLayer

__all__ = ["UnsupportedLayerError", "is_supported", "load_lti_", "to_lti"]


class UnsupportedLayerError(TypeError):
    """A module that is no state-space layer, or one of a kind that nobody has described yet."""


@singledispatch
def to_lti(layer: nn.Module, conjugate: bool = True) -> lti.DiagonalStateSpace | lti.StateSpace:
    """G(z) = C (z I - A)^-1 B of a layer, with derivatives for its parameters.

    Parameters
    ----------
    layer : nn.Module
        An `SSMLayer`, or of a type that was added by ``@to_lti.register``.
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
        If nothing was registered for its type.
    """
    raise _unsupported(layer)


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
        If nothing was registered for its type.
    lti.LTIError
        If the layer cannot hold the system; nothing has been written then.
    """
    raise _unsupported(layer)


def is_supported(layer: nn.Module) -> bool:
    """Whether `to_lti` knows a module of this type."""
    return to_lti.dispatch(type(layer)) is not to_lti.dispatch(object)


def _unsupported(layer: nn.Module) -> UnsupportedLayerError:
    return UnsupportedLayerError(
        f"{type(layer).__qualname__} is no layer that compressm can read as a system; "
        "docs/adapters.md shows how to describe one with to_lti.register and load_lti_.register"
    )


@to_lti.register
def _(layer: SSMLayer, conjugate: bool = True) -> lti.DiagonalStateSpace | lti.StateSpace:
    return layer.to_lti(conjugate)


@load_lti_.register
def _(layer: SSMLayer, system: lti.DiagonalStateSpace, optimizer: Any = None) -> None:
    layer.load_lti_(system, optimizer)
