"""Nested values in one file: tensors as safetensors, the rest as JSON in its header; no pickle."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compressm._optional import require
from compressm.errors import CheckpointError
from lti.files import replacing

__all__ = ["load_tree", "save_tree"]

KEY = "compressm"  # of the JSON among the metadata of the file
FORMAT = 2  # {"format": 2, "sha256": ..., "tree": ...}; the JSON of format 1 is the tree
CONTAINERS = {kind.__name__: kind for kind in (dict, OrderedDict, Counter, list, tuple)}


def save_tree(path: str | Path, tree: Any) -> None:
    """Write a tree of values to a file, atomically: to a file beside it, which is then renamed.

    Parameters
    ----------
    path : str or Path
        An old file stays until the new one is complete and on the disk.
    tree : object
        Dicts, lists and tuples of each other, of tensors, and of numbers, strings, and None. To
        other readers of the file the name of a tensor is its path in the tree: ``model.head.bias``.

    Raises
    ------
    CheckpointError
        If the tree holds anything else, or the file cannot be written. An old file stays then.
    """
    path, tensors = Path(path), {}
    text = json.dumps(_encoded(tree, "", tensors))
    record = {"format": FORMAT, "sha256": _checksum(text, tensors), "tree": text}
    full = require("safetensors").SafetensorError  # what a disk that is full becomes there
    try:
        with replacing(path) as partial:
            require("safetensors.torch").save_file(tensors, partial, {KEY: json.dumps(record)})
    except (OSError, full) as error:
        raise CheckpointError(
            f"{path} cannot be written ({error}); make room or choose another folder; an old "
            "file is left as it was"
        ) from error


def load_tree(path: str | Path) -> Any:
    """What `save_tree` wrote, on the CPU.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    object
        Equal to what was saved, tensor for tensor.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or not one of `save_tree`.
    """
    path, safetensors = Path(path), require("safetensors")
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}")
    try:
        with safetensors.safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(KEY)
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
    except Exception as error:  # whatever a parser makes of foreign bytes
        raise CheckpointError(
            f"{path} is truncated, or no safetensors file ({error}); load an earlier one"
        ) from error
    if text is None:
        raise CheckpointError(
            f"{path} is a safetensors file, but not one of save_checkpoint; load weights alone by "
            "model.load_state_dict(read_checkpoint(path))"
        )
    try:
        record = json.loads(text)
        if not isinstance(record, dict):
            raise TypeError(f"a {type(record).__name__}")
        if "format" not in record:
            return _decoded(record, tensors)
        version, tree = record["format"], record["tree"]
        if version == FORMAT and record.get("sha256") == _checksum(tree, tensors):
            return _decoded(json.loads(tree), tensors)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"the header of {path} is damaged ({type(error).__name__}: {error}); load an earlier "
            "one"
        ) from error
    if version != FORMAT:
        raise CheckpointError(
            f"{path} has format {version!r}, and this version of compressm reads formats 1 and "
            f"{FORMAT}; update compressm"
        )
    raise CheckpointError(
        f"{path} is damaged: its content does not fit its checksum; load an earlier one"
    )


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the JSON, and of name, dtype, shape and bytes of every tensor."""
    seen = hashlib.sha256(text.encode())
    for name, x in sorted(tensors.items()):
        seen.update(f"{name} {x.dtype} {tuple(x.shape)}".encode())
        content: Any = x.contiguous().reshape(-1).view(torch.uint8).numpy()
        seen.update(content)
    return seen.hexdigest()


def _encoded(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """JSON of a value: plain ones are themselves, all others {kind: content}."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        kind, part = "tensor", value.detach()
        if part.dtype == torch.complex128:  # unknown to safetensors
            kind, part = "complex", torch.view_as_real(part.resolve_conj())
        while name in tensors:  # "a.b" and "b" in "a"
            name += "'"
        # A clone of each: safetensors takes no memory that several share, such as tied weights
        tensors[name] = part.cpu().clone(memory_format=torch.contiguous_format)
        return {kind: name}
    if CONTAINERS.get(type(value).__name__) is not type(value):
        raise CheckpointError(
            f"{name or 'the whole'} is a {type(value).__qualname__}, which a checkpoint cannot "
            "hold without pickle; save its state_dict(), or numbers, strings and tensors"
        )
    if isinstance(value, Mapping):
        items = [[k, _encoded(v, _join(name, k), tensors)] for k, v in value.items()]
        if not all(isinstance(k, (int, str)) for k in value):
            raise CheckpointError(f"{name or 'the whole'} has keys that are no str or int")
    else:
        items = [_encoded(v, _join(name, k), tensors) for k, v in enumerate(value)]
    return {type(value).__name__: items}


def _join(name: str, key: Any) -> str:
    return f"{name}.{key}" if name else str(key)


def _decoded(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind in CONTAINERS:
        container = CONTAINERS[kind]
        if issubclass(container, Mapping):
            return container({k: _decoded(v, tensors) for k, v in content})
        return container(_decoded(v, tensors) for v in content)
    return tensors[content] if kind == "tensor" else torch.view_as_complex(tensors[content])
