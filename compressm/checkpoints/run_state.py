"""Save and resume a training run in one file: model, optimizer, compressor."""

from __future__ import annotations

import random
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import lti
from compressm.checkpoints.file_format import load_tree, save_tree
from compressm.compression.distributed import replica_of, rewrap_
from compressm.compression.snapshot import attributes_of, restore_, snapshot
from compressm.errors import CheckpointError, OptionError
from compressm.layers import SSMLayer
from compressm.ops.optimizers import given_optimizers, load_state_
from compressm.ops.resize import tensors_of
from compressm.systems.find import compressible_layers
from compressm.systems.foreign import family_of
from compressm.systems.selective import is_selective
from compressm.systems.sizes import resize_on_load

__all__ = ["load_checkpoint", "random_state", "save_checkpoint", "set_random_state"]

COMPILED = "_orig_mod."  # what torch.compile puts in front of the names of a module


def save_checkpoint(
    path: str | Path,
    model: nn.Module,
    optimizer: Any = None,
    compressor: Any = None,
    extra: Any = None,
) -> None:
    """Write model, optimizer, compressor and `extra` to one file, atomically, without pickle.

    Parameters
    ----------
    path : str or Path
        A safetensors file. A weight has its name after "model.", so that ``compressm inspect``
        reads the file too. An old file stays until the new one is complete and on the disk.
    model : nn.Module
        A ``DistributedDataParallel`` is saved as the model inside; save on one rank only.
    optimizer : torch.optim.Optimizer or sequence of these, optional
    compressor : Compressor, optional
    extra : object, optional
        What else the run needs, such as ``{"step": step, "scheduler": scheduler.state_dict(),
        "average": averaged.state_dict(), "random": random_state()}``: dicts, lists and tuples of
        tensors, numbers, strings, and None.

    Raises
    ------
    CheckpointError
        If `extra` or a state holds a value of another type. Nothing has been written then.

    Examples
    --------
    >>> import tempfile, torch
    >>> from compressm import Order, SequenceModel, compress_, load_checkpoint, save_checkpoint
    >>> model = SequenceModel(d_input=1, d_output=2, d_model=4, d_state=16, n_layers=1)
    >>> fresh = SequenceModel(d_input=1, d_output=2, d_model=4, d_state=16, n_layers=1)
    >>> event = compress_(model, Order(6))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_checkpoint(f"{folder}/run.safetensors", model, extra={"step": 100})
    ...     load_checkpoint(f"{folder}/run.safetensors", fresh)
    {'step': 100}
    >>> fresh.blocks[0].layer.d_state
    6
    """
    model = _unwrapped(model)
    tree = {"model": dict(model.state_dict()), "attributes": attributes_of(model), "extra": extra}
    states = [
        {"of": _owned(model, x), "state": x.state_dict()} for x in given_optimizers(optimizer)
    ]
    if states:
        tree["optimizer"] = states if len(states) > 1 else states[0]
    if compressor is not None:
        tree["compressor"] = compressor.state_dict()
    save_tree(path, tree)


def load_checkpoint(
    path: str | Path, model: nn.Module, optimizer: Any = None, compressor: Any = None
) -> Any:
    """Load model, optimizer and compressor from a file of `save_checkpoint`; return its `extra`.

    Parameters
    ----------
    path : str or Path
    model : nn.Module
        Built at its original size, or at the size that it was saved with. All layers get the
        numbers of states that they were saved with; parameters keep their identity.
    optimizer : torch.optim.Optimizer or sequence of these, optional
        Of the same class, with the same parameters in the same order.
    compressor : Compressor, optional

    Returns
    -------
    object
        `extra`, with its tensors on the CPU.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, not one of `save_checkpoint`, lacks a part that is asked
        for, or belongs to another model or optimizer. Nothing has changed then.
    """
    tree, replica, model = load_tree(path), replica_of(model), _unwrapped(model)
    optimizers = given_optimizers(optimizer)
    asked = {"model": model, "optimizer": optimizers or None, "compressor": compressor}
    keys = tree.keys() if isinstance(tree, dict) else ()
    missing = [name for name, part in asked.items() if part is not None and name not in keys]
    if missing or "extra" not in keys:
        raise CheckpointError(
            f"{path} holds no {missing[0] if missing else 'extra'}; give it to save_checkpoint, or "
            "load without it"
        )
    saved = tree.get("optimizer", [])
    saved = saved if isinstance(saved, list) else [saved]
    if optimizers and len(saved) != len(optimizers):
        raise CheckpointError(
            f"{path} holds the states of {len(saved)} optimizers, got {len(optimizers)}; give as "
            "many as were saved, in the same order"
        )
    for one, state in zip(optimizers, saved, strict=False):
        _require_same(path, state["of"], _owned(model, one))
    before = snapshot(model)
    states = [deepcopy(one.state_dict()) for one in optimizers]
    steps = None if compressor is None else deepcopy(compressor.state_dict())
    name = "model"
    try:
        _load_model_(model, tree["model"], tree["attributes"])
        name, recast = "optimizer", _recast(model, tree["model"])
        for one, state in zip(optimizers, saved, strict=False):
            load_state_(one, state["state"], recast)
        name = "compressor"
        if compressor is not None:
            compressor.load_state_dict(tree["compressor"])
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError, lti.LTIError) as error:
        restore_(model, before)
        for one, state in zip(optimizers, states, strict=True):
            load_state_(one, state)
        if compressor is not None:
            compressor.load_state_dict(steps)
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{path} is of another {name} ({reason}); build the {name} that was saved"
        ) from error
    if replica is not None:
        rewrap_(replica)
    return tree["extra"]


def random_state() -> dict[str, Any]:
    """State of the random numbers of torch, NumPy and Python, for ``extra`` of `save_checkpoint`.

    Returns
    -------
    dict
        For `set_random_state`. It does not include your own generators: save their ``get_state()``.
    """
    numpy: Any = np.random.get_state(legacy=False)
    numpy["state"]["key"] = numpy["state"]["key"].tolist()
    state = {"torch": torch.get_rng_state(), "numpy": numpy, "python": random.getstate()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Restore the random numbers of torch, NumPy and Python to a saved state.

    Parameters
    ----------
    state : dict
        What `random_state` returned, perhaps in another process.
    """
    numpy = deepcopy(state["numpy"])
    numpy["state"]["key"] = np.array(numpy["state"]["key"], dtype=np.uint32)
    np.random.set_state(numpy)
    random.setstate(state["python"])
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def _unwrapped(model: nn.Module) -> nn.Module:
    replica = replica_of(model)
    model = model if replica is None else replica.module
    return getattr(model, "_orig_mod", model)  # of torch.compile


def _owned(model: nn.Module, optimizer: Any) -> list[Any]:
    """Class of an optimizer, and the names of its parameters in each of its groups."""
    names = {id(p): name for name, p in model.named_parameters()}
    groups = [[names.get(id(p)) for p in group["params"]] for group in optimizer.param_groups]
    return [type(optimizer).__qualname__, groups]


def _recast(model: nn.Module, saved: Mapping[str, Any]) -> list[nn.Parameter]:
    """The parameters of another dtype than they were saved with."""
    return [p for name, p in model.named_parameters() if p.dtype != saved.get(name, p).dtype]


def _require_same(path: str | Path, saved: list[Any], own: list[Any]) -> None:
    if saved[0] != own[0]:
        raise CheckpointError(f"{path} holds the state of {saved[0]}, got {own[0]}; build the same")
    if saved[1] != own[1] and str(saved[1]).replace(COMPILED, "") == str(own[1]).replace(
        COMPILED, ""
    ):
        raise CheckpointError(
            f"{path} holds names with {COMPILED}, or the model has them, as one of the two has a "
            "part that was compiled; compile it after loading, or in both"
        )
    if saved[1] != own[1]:
        raise CheckpointError(
            f"{path} holds the state of an optimizer with other parameters, or with the same in "
            "another order; build model and optimizer as they were when it was saved"
        )


def _load_model_(model: nn.Module, state: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
    """Load a state dict; layers whose type was registered are resized first, others by hooks."""
    layers = dict(compressible_layers(model))
    names = {
        f"{name}.{own}" if name else own
        for name, layer in layers.items()
        if not (isinstance(layer, SSMLayer) or family_of(layer) or is_selective(layer))
        for own in tensors_of(layer)
    }
    led = {name: state[name] for name in names & state.keys()}
    restore_(model, {"tensors": led, "attributes": {}})
    resize_on_load(model).load_state_dict(state)
    restore_(model, {"tensors": {}, "attributes": attributes})
    lost = layers.keys() - dict(compressible_layers(model)).keys()
    if lost:
        raise OptionError(f"{sorted(lost)[0]} would no longer be a layer that can be read")
