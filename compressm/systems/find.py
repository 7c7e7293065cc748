"""The layers of a model that can be compressed, and how many states they store."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import nn

from compressm.systems.convert import is_supported, to_lti
from compressm.systems.selective.form import is_selective, state_count
from compressm.systems.selective.resemblance import resemblance
from compressm.systems.wrapped import wrapping

__all__ = [
    "compressible_layers",
    "layer_parameters",
    "obstacle",
    "recognized_layers",
    "selective_layers",
    "ssm_layers",
    "stored_states",
]

Layers = Iterator[tuple[str, nn.Module]]


def ssm_layers(model: nn.Module) -> Layers:
    """Every linear state-space layer of `model` with its qualified name, each once.

    Parameters
    ----------
    model : nn.Module
    """
    return _outermost(model, is_supported)


def compressible_layers(model: nn.Module) -> Layers:
    """Every linear or selective layer of `model` with its qualified name, each once.

    Parameters
    ----------
    model : nn.Module
    """
    return _outermost(model, lambda module: is_supported(module) or is_selective(module))


def recognized_layers(model: nn.Module) -> Layers:
    """`compressible_layers`, with those that could be compressed but for an `obstacle`.

    Parameters
    ----------
    model : nn.Module
    """
    return _outermost(model, lambda m: is_supported(m) or is_selective(m) or bool(obstacle(m)))


def obstacle(module: nn.Module) -> str | None:
    """Why a module is not known that is wrapped, or nearly of a known form; or None."""
    return wrapping(module) or resemblance(module)


def selective_layers(model: nn.Module) -> Layers:
    """Every selective layer of `model` with its qualified name, each once.

    Parameters
    ----------
    model : nn.Module
        A layer that `to_lti` takes is not among them.
    """
    return (named for named in compressible_layers(model) if not is_supported(named[1]))


def layer_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters of every layer that can be compressed, with their qualified names."""
    for name, layer in compressible_layers(model):
        yield from layer.named_parameters(name)


def stored_states(layer: nn.Module) -> int:
    """Number of stored states of a layer: its `d_state`, or else the number of its poles."""
    if is_selective(layer) and not is_supported(layer):
        return state_count(layer)
    n = getattr(layer, "d_state", None)
    return to_lti(layer).poles.shape[-1] if n is None else n


def _outermost(model: nn.Module, wanted: Callable[[nn.Module], bool]) -> Layers:
    """The modules that are wanted, but for those inside of another one."""
    inside = None
    for name, module in model.named_modules():
        if inside is not None and (name + ".").startswith(inside):
            continue  # a part of the layer before it
        if wanted(module):
            inside = f"{name}." if name else ""
            yield name, module
