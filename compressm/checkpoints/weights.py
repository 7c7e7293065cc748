"""Find the state-space layers in a file of weights, without running code from it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

import lti
from compressm._optional import require
from compressm.errors import CheckpointError, MissingPackageError
from compressm.layers import SSMLayer
from compressm.models import LAYERS
from compressm.systems.convert import is_supported
from compressm.systems.foreign import FAMILIES
from compressm.systems.sizes import resize_on_load

__all__ = ["layers_in", "load_weights_", "prefixes", "read_checkpoint"]


# The states of a selective layer are scored by data, so a file says nothing about them
KINDS = [kind for kind in LAYERS.values() if issubclass(kind, SSMLayer)]

# Options that show in names and shapes
SHOWN: list[dict[str, Any]] = [{"bidirectional": True}, {"version": "softmax", "l_max": 1}]


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The tensors in a file by their names; no code from the file is executed.

    Parameters
    ----------
    path : str or Path
        ``.safetensors`` (needs the package of that name), or what ``torch.save`` wrote of a state
        dict, or of a dict that holds one under "state_dict", "model" or "model_state_dict".

    Returns
    -------
    dict of str to Tensor

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or holds anything but tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}")
    try:
        content = _safetensors(path) if path.suffix == ".safetensors" else _plain(path)
    except MissingPackageError:
        raise
    except Exception as error:  # a damaged file may fail anywhere in the two readers
        foreign = isinstance(error, UnpicklingError)
        said = str(error).partition("\n")[0] or type(error).__name__
        reason = "it holds more than tensors" if foreign else said
        raise CheckpointError(
            f"{path} holds no weights that can be read without running code from it ({reason}); "
            "save the state dict, by torch.save(model.state_dict(), ...) or as safetensors"
        ) from error
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = {k: v for k, v in _items(content) if isinstance(v, Tensor)}
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors; save the state dict of a model")
    for name in tensors:
        if not (isinstance(name, str) and name.isprintable()):
            raise CheckpointError(
                f"{path} gives a tensor the name {name!r}, which is no printable text; save the "
                "state dict of a model"
            )
    return tensors


def load_weights_(model: nn.Module, tensors: Mapping[str, Tensor]) -> str | None:
    """Load a state dict; why it does not fit, or None if it does.

    A tensor may be missing if it is tied to one that is there. Layers are resized, see
    `resize_on_load`.

    Parameters
    ----------
    model : nn.Module
    tensors : mapping of str to Tensor

    Returns
    -------
    str or None
    """
    try:
        missing, unexpected = resize_on_load(model).load_state_dict(dict(tensors), strict=False)
    except RuntimeError as error:
        return str(error).splitlines()[-1].strip()  # one of the tensors that do not fit
    own = dict(model.named_parameters(remove_duplicate=False))
    loaded = {id(own[name]) for name in tensors if name in own}
    lost = [name for name in missing if name not in own or id(own[name]) not in loaded]
    if lost:
        return f"{lost[0]} is missing"
    return f"{unexpected[0]} is unknown to it" if unexpected else None


def _plain(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the format; errors are reported above
        return torch.load(path, map_location="cpu", weights_only=True)


def _safetensors(path: Path) -> Any:
    return require("safetensors.torch").load_file(path)


def _items(content: Any) -> Any:
    return content.items() if isinstance(content, Mapping) else ()


def layers_in(tensors: Mapping[str, Tensor], **options: Any) -> nn.Module:
    """A model of the layers that a state dict holds, known by the names of their parameters.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        State dict of a model.
    **options
        Options of the layers that the tensors do not show, such as ``discretization``.

    Returns
    -------
    nn.Module
        With the layers under the names that they have in the model.

    Raises
    ------
    CheckpointError
        If there is no such layer, or no layer has such an option.
    """
    known = {name for kind in KINDS for name in signature(kind).parameters}
    for name in options.keys() - known:
        raise CheckpointError(f"no layer has an option {name!r}; there are {', '.join(known)}")
    model = nn.Module()
    taken: list[str] = []
    for prefix in prefixes(tensors):  # a layer comes before its parts
        if not any(prefix.startswith(outer) for outer in taken):
            group = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            layer = _ours(group, options) or _theirs(group)
            if layer is not None:
                taken.append(prefix)
                _put(model, prefix + "layer" if prefix == "" else prefix[:-1], layer)
    if not taken:
        names = {kind.__name__: list(kind(1, 2).state_dict()) for kind in KINDS}
        names |= {family.name: list(family.shapes) for family in FAMILIES}
        raise CheckpointError(
            "found no state-space layer by the names and shapes of its parameters; known are "
            + ", ".join(f"{kind} ({', '.join(own)})" for kind, own in names.items())
        )
    return model


def prefixes(tensors: Mapping[str, Tensor]) -> list[str]:
    """The prefix of every module in the names of the tensors, such as "" and "blocks.0."."""
    paths = [name.split(".")[:-1] for name in tensors]
    found = ("".join(f"{x}." for x in path[:k]) for path in paths for k in range(len(path) + 1))
    return list(dict.fromkeys(found))


def _ours(group: Mapping[str, Tensor], options: Mapping[str, Any]) -> nn.Module | None:
    for kind in KINDS:
        known = signature(kind).parameters
        given = {k: v for k, v in options.items() if k in known}
        for guess in ({}, *(x for x in SHOWN if x.keys() <= known.keys())):
            layer = kind(1, 2, **(guess | given))
            if set(group) == set(layer.state_dict()):
                layer = kind(len(group["D"]), 2, **(guess | given)).to(group["D"].dtype)
                try:
                    layer.load_state_dict(dict(group))
                except (RuntimeError, lti.LTIError):  # other shapes: not this layer
                    continue
                return layer
    return None


def _theirs(group: Mapping[str, Tensor]) -> nn.Module | None:
    """A module that holds the tensors of a known family, and does nothing else."""
    if not any(family.fits(group) for family in FAMILIES):
        return None
    layer = nn.Module()
    for name, value in group.items():
        path, _, own = name.rpartition(".")
        part = nn.Parameter(value, value.is_floating_point())
        _path(layer, path)._parameters[own] = part
    return layer if is_supported(layer) else None


def _put(model: nn.Module, name: str, layer: nn.Module) -> None:
    path, _, own = name.rpartition(".")
    _modules(_path(model, path))[own] = layer


def _path(module: nn.Module, path: str) -> nn.Module:
    """The part of `module` under a dotted name, made of empty modules where there is none."""
    for part in filter(None, path.split(".")):
        module = _modules(module).setdefault(part, nn.Module())
    return module


def _modules(module: nn.Module) -> dict[str, Any]:
    """The parts of a module, by names that add_module would refuse, such as "forward"."""
    return module._modules
