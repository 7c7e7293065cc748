"""The configurations that ``save_pretrained`` saves, and the number of states in them."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from copy import deepcopy
from typing import Any

from torch import nn

from compressm.systems.find import obstacle, recognized_layers, selective_layers
from compressm.systems.selective.form import require_form

__all__ = ["agree_on_states_", "held_configs", "with_config"]


def agree_on_states_(model: nn.Module) -> None:
    """config.state_size <- N, where all selective layers of a model keep the same number N.

    Parameters
    ----------
    model : nn.Module
        A model of ``transformers``, or one with such models inside; any other does not change. If
        the layers keep different numbers, the configuration cannot express it and does not change:
        load the state dict as described at `keep_states_`, not by ``from_pretrained``. Other models
        may have been built from the same configuration: what changes is a copy, which takes its
        place in the modules of this model and in those around it.
    """
    for whole in _whole(model):
        changes = list(_changes(whole))
        copies: dict[int, Any] = {}  # as deepcopy keeps them, so that nested ones stay nested
        for part, name, config in _held(whole) if changes else ():
            vars(part)[name] = deepcopy(config, copies)
        for part, name, n in changes:
            setattr(part.config, name, n)


def held_configs(model: nn.Module) -> list[tuple[nn.Module, str, Any]]:
    """The attributes that `agree_on_states_` may replace.

    Parameters
    ----------
    model : nn.Module

    Returns
    -------
    list of (nn.Module, str, object)
        The module, the name of the attribute, and its value.
    """
    return [held for whole in _whole(model) for held in _held(whole)]


def with_config(model: nn.Module) -> Iterator[tuple[Any, Any]]:
    """The parts of a model that ``save_pretrained`` saves, each with its configuration."""
    yield from _saved(model.modules())


def _saved(parts: Iterable[nn.Module]) -> Iterator[tuple[Any, Any]]:
    for part in parts:
        config = getattr(part, "config", None)
        # only what is saved with its configuration: a block may hold only some of the layers
        if config is not None and hasattr(part, "save_pretrained"):
            yield part, config


def _whole(model: nn.Module) -> Iterator[nn.Module]:
    """The parts with a configuration that are in no other one."""
    inside: set[int] = set()
    for part, _ in with_config(model):
        if id(part) not in inside:
            inside |= set(map(id, part.modules()))
            yield part


def _changes(whole: nn.Module) -> Iterator[tuple[Any, str, int]]:
    """Parts of a model, and the numbers of states that their configurations do not have yet."""
    for part, config in with_config(whole):
        if any(obstacle(layer) for _, layer in recognized_layers(part)):
            continue  # it keeps the states that it has
        sizes: dict[str, set[int]] = {}
        for _, layer in selective_layers(part):
            form = require_form(layer)
            for name in form.config_names:
                sizes.setdefault(name, set()).add(form.n_states)
        for name, found in sizes.items():
            n = min(found)
            if len(found) == 1 and getattr(config, name, n) != n:
                yield part, name, n


def _held(whole: nn.Module) -> list[tuple[nn.Module, str, Any]]:
    """Where the configurations of a model, and of those around it, are held, nested ones too."""
    parts = [*whole.modules(), *_around(whole)]
    configs, ahead = dict[int, Any](), [config for _, config in _saved(parts)]
    while ahead:
        one = ahead.pop()
        if id(one) not in configs:
            configs[id(one)] = one
            ahead += [x for x in getattr(one, "__dict__", {}).values() if hasattr(x, "to_dict")]
    return [
        (part, name, value)
        for part in parts
        for name, value in vars(part).items()
        if id(value) in configs
    ]


def _around(module: nn.Module) -> list[nn.Module]:
    """The modules of this process that `module` is a part of, such as one with a head on it."""
    everywhere = [x for x in gc.get_objects() if issubclass(type(x), nn.Module)]
    found: list[nn.Module] = [module]
    for inner in found:  # which grows
        found += [
            outer
            for outer in everywhere
            if any(part is inner for part in (vars(outer).get("_modules") or {}).values())
            and all(outer is not known for known in found)
        ]
    return found[1:]
