"""The layers of a model that can be compressed, and how many states they store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from compressm.systems.convert import is_supported, to_lti
from compressm.systems.selective.form import is_selective, require_form, state_count
from compressm.systems.selective.resemblance import resemblance
from compressm.systems.wrapped import wrapping

__all__ = [
    "agree_on_states_",
    "compressible_layers",
    "counting_configs",
    "layer_parameters",
    "obstacle",
    "recognized_layers",
    "selective_layers",
    "ssm_layers",
    "stored_states",
    "with_config",
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


def agree_on_states_(model: nn.Module) -> None:
    """config.state_size <- N, where all selective layers of a model keep the same number N.

    Parameters
    ----------
    model : nn.Module
        A model of ``transformers``, or one with such models inside; any other does not change. If
        the layers keep different numbers, the configuration cannot express it and does not change:
        load the state dict as described at `keep_states_`, not by ``from_pretrained``.
    """
    for part, config in with_config(model):
        if any(obstacle(layer) for _, layer in recognized_layers(part)):
            continue  # it keeps the states that it has
        sizes: dict[str, set[int]] = {}
        for _, layer in selective_layers(part):
            form = require_form(layer)
            for name in form.config_names:
                sizes.setdefault(name, set()).add(form.n_states)
        for name, found in sizes.items():
            if len(found) == 1 and hasattr(config, name):
                setattr(config, name, *found)


def counting_configs(model: nn.Module) -> list[Any]:
    """The configurations that `agree_on_states_` may change, each once.

    Parameters
    ----------
    model : nn.Module
    """
    return list({id(config): config for _, config in with_config(model)}.values())


def with_config(model: nn.Module) -> Iterator[tuple[Any, Any]]:
    """The parts of a model that ``save_pretrained`` saves, each with its configuration."""
    for part in model.modules():
        config = getattr(part, "config", None)
        # only what is saved with its configuration: a block may hold only some of the layers
        if config is not None and hasattr(part, "save_pretrained"):
            yield part, config
