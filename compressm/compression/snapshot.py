"""Snapshots of a model and its optimizer, restored even if shapes have changed since."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from compressm.ops.optimizers import load_state_, optimizers_of
from compressm.ops.resize import tensors_of, write_
from compressm.systems.configs import agree_on_states_
from compressm.systems.find import compressible_layers

__all__ = ["attributes_of", "restore_", "snapshot"]


@torch.inference_mode(False)
def snapshot(model: nn.Module, optimizer: Any = None) -> dict[str, Any]:
    """Copies of all values that a cut or an optimizer step changes, for `restore_`.

    Parameters
    ----------
    model : nn.Module
    optimizer : torch.optim.Optimizer, optional

    Returns
    -------
    dict
        A tree of tensors and plain values, as `save_tree` takes it.
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


@torch.inference_mode(False)
@torch.no_grad()
def restore_(model: nn.Module, saved: dict[str, Any], optimizer: Any = None) -> None:
    """Restore model and optimizer as `snapshot` saved them, bit for bit; parameters stay the same.

    Parameters
    ----------
    model : nn.Module
        The model of the snapshot, perhaps cut and trained since; its parameters stay the same
        objects.
    saved : dict
        What `snapshot` returned.
    optimizer : torch.optim.Optimizer, optional
        Its state of each parameter is restored, but not its learning rates: a scheduler owns them.
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
    tensors = saved["tensors"]
    recast = [p for x, p in model.named_parameters() if p.dtype != tensors.get(x, p).dtype]
    for one, state in zip(optimizers_of(optimizer), saved.get("optimizers", ()), strict=False):
        load_state_(one, {**one.state_dict(), "state": deepcopy(state)}, recast)
