"""Snapshots of a model and its optimizer, which restore them whatever their shapes are by then."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from compressm.ops.optimizers import optimizers_of
from compressm.ops.resize import tensors_of, write_
from compressm.systems.find import agree_on_states_, compressible_layers

__all__ = ["attributes_of", "restore_", "snapshot"]


def snapshot(model: nn.Module, optimizer: Any = None) -> dict[str, Any]:
    """Copies of all that a cut or a step of the optimizer changes, for `restore_`.

    Parameters
    ----------
    model : nn.Module
    optimizer : torch.optim.Optimizer, optional

    Returns
    -------
    dict
        Of tensors and plain values, as `save_tree` takes them.
    """
    return {
        "tensors": {name: tensor.detach().clone() for name, tensor in tensors_of(model).items()},
        "attributes": attributes_of(model),
        "optimizers": [deepcopy(x.state_dict()["state"]) for x in optimizers_of(optimizer)],
    }


def attributes_of(model: nn.Module) -> dict[str, dict[str, Any]]:
    """Attributes, beside parameters, that depend on the number of states, by module.

    Parameters
    ----------
    model : nn.Module

    Returns
    -------
    dict of str to dict
        Copies of the integers and tensors that are attributes of compressible layers and parts of
        them.
    """
    parts = {
        name: {
            key: value.detach().clone() if isinstance(value, Tensor) else value
            for key, value in vars(part).items()
            if type(value) is int or isinstance(value, Tensor)
        }
        for layer_name, layer in compressible_layers(model)
        for name, part in layer.named_modules(prefix=layer_name)
    }
    return {name: own for name, own in parts.items() if own}


@torch.no_grad()
def restore_(model: nn.Module, saved: dict[str, Any], optimizer: Any = None) -> None:
    """model, optimizer <- as they were at `snapshot`, bit for bit; parameters keep their identity.

    Parameters
    ----------
    model : nn.Module
        The same, cut and trained meanwhile.
    saved : dict
        What `snapshot` returned.
    optimizer : torch.optim.Optimizer, optional
        Gets back what it knew of each parameter. Its learning rates stay: they are the schedule's.
    """
    for name, value in saved["tensors"].items():
        path, _, own = name.rpartition(".")
        tensor = getattr(model.get_submodule(path), own)
        if tensor.shape == value.shape:
            tensor.copy_(value)
        else:
            write_(model, name, value.clone())
    for path, attributes in saved["attributes"].items():
        for name, value in deepcopy(attributes).items():
            setattr(model.get_submodule(path), name, value)
    agree_on_states_(model)
    for one, state in zip(optimizers_of(optimizer), saved.get("optimizers", ()), strict=False):
        one.load_state_dict({**one.state_dict(), "state": deepcopy(state)})
