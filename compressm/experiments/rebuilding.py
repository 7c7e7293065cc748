"""A model and its inputs, read from files: they are needed to score states by data."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from inspect import signature
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compressm._optional import require
from compressm.checkpoints.weights import layers_in, load_weights_, prefixes, read_checkpoint
from compressm.errors import CheckpointError, DataError, MissingPackageError
from compressm.experiments.data import Dataset
from compressm.experiments.recipes import DATASETS, load_data, read_recipe
from compressm.experiments.training import Settings, model_of
from compressm.layers import SSMLayer
from compressm.models import SequenceModel

__all__ = ["inputs_of", "rebuilt", "tokens_of"]

KEYS = ("x_train", "x_test")
BATCH = 50


def rebuilt(path: str | Path, factory: str | None = None, **options: Any) -> tuple[nn.Module, str]:
    """Rebuild the model whose weights a file holds; say which of its options had to be assumed.

    Parameters
    ----------
    path : str or Path
        File for `read_checkpoint`: of any model if `factory` is given, else of a `SequenceModel`.
        In the folder of a run of ``compressm train`` the model is built from the recipe; elsewhere
        from the names and shapes of the tensors.
    factory : str, optional
        ``package.module:function``: the function takes no arguments and returns the model.
    **options
        ``pool`` of a `SequenceModel`, and options of its layers that the tensors do not show.

    Returns
    -------
    nn.Module
        With the weights of the file.
    str
        Options that the file does not show and that were assumed; empty if there are none.

    Raises
    ------
    CheckpointError
        If the file cannot be read or holds no such model, or if the factory returns no model.
    """
    tensors, assumed = read_checkpoint(path), ""
    recipe = Path(path).with_name("recipe.yaml")
    if factory is not None:
        if options:
            raise CheckpointError(
                f"the factory {factory} builds the model, so the options {', '.join(options)} have "
                "no effect; set them there"
            )
        model = _made_by(factory)
    elif recipe.is_file():
        if "pool" in options:
            raise CheckpointError(
                f"{path} belongs to a run of compressm train, whose recipe sets the pooling; leave "
                "out the option pool"
            )
        changes = [f"layer_options.{k}={json.dumps(v)}" for k, v in options.items()]
        group = _sequence_model(path, tensors)
        model = model_of(_like(group), read_recipe(recipe, changes))
    else:
        model = _inferred(_sequence_model(path, tensors), **options)
        assumed = (
            f"pool={model.pool}, and the defaults of layer options that tensors do not show; "
            "--option NAME=VALUE sets them"
        )
    if reason := load_weights_(model, _group(tensors, model.state_dict())):
        raise CheckpointError(
            f"{path} does not fit {type(model).__name__} ({reason}); build the model that was saved"
        )
    for parameter in model.parameters():  # gramians="data" needs their gradients
        parameter.requires_grad_(parameter.is_floating_point())
    return model.eval(), assumed


def _made_by(factory: str) -> nn.Module:
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # as python -m does
    try:
        model = resolve_name(factory)()
    except Exception as error:  # code of users may fail in any way
        raise CheckpointError(
            f"the factory {factory} could not be called ({type(error).__name__}: {error}); give "
            "package.module:function, a function without arguments"
        ) from error
    if not isinstance(model, nn.Module):
        raise CheckpointError(
            f"the factory {factory} returns no nn.Module but {type(model).__name__}; give "
            "package.module:function, a function that returns the model"
        )
    return model


def _group(tensors: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """The tensors whose names begin with the prefix, such as "model.", that has most of `names`."""
    names = list(names)
    prefix = max(
        prefixes(tensors), key=lambda p: (sum(p + name in tensors for name in names), -len(p))
    )
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _sequence_model(path: str | Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    needed = ("encoder.weight", "blocks.0.norm.weight", "blocks.0.mix.weight", "head.weight")
    group = _group(tensors, needed)
    missing = [name for name in needed if name not in group]
    if missing:
        raise CheckpointError(
            f"{path} holds no SequenceModel, as it has no {missing[0]}, so the model cannot be "
            "rebuilt from the file; give --model package.module:function, which builds it"
        )
    return group


def _like(group: Mapping[str, Tensor]) -> Dataset:
    """An empty data set whose sizes are those of the encoder and the head of a model."""
    encoder, y = group["encoder.weight"], torch.tensor([len(group["head.weight"]) - 1])
    x, embeds = torch.zeros(1, 1, encoder.shape[1]), "encoder.bias" not in group
    return Dataset("as saved", x, y, x, y, len(encoder) if embeds else 0)


def _inferred(group: dict[str, Tensor], pool: str = "mean", **options: Any) -> SequenceModel:
    """A model built from the names and shapes of its tensors."""
    if pool not in ("mean", "last", "none"):
        raise CheckpointError(f"there is no pooling {pool!r}; choose from mean, last, none")
    n_layers = len({name.split(".")[1] for name in group if name.startswith("blocks.")})
    d_model = group["encoder.weight"].shape[0 if "encoder.bias" in group else 1]
    model = model_of(_like(group), Settings(d_model, 1, n_layers, steps=1, batch_size=1, lr=1.0))
    model.pool = pool
    for i, block in enumerate(model.blocks):
        block.layer = _layer(f"blocks.{i}.layer", group, options)
    return model.to(group["head.weight"].dtype)


def _layer(name: str, group: Mapping[str, Tensor], options: Mapping[str, Any]) -> SSMLayer:
    own = {k.removeprefix(f"{name}."): v for k, v in group.items() if k.startswith(f"{name}.")}
    try:
        found, reason = getattr(layers_in(own, **options), "layer", None), "it is another package's"
    except CheckpointError as error:
        found, reason = None, str(error)
    if not isinstance(found, SSMLayer):
        raise CheckpointError(
            f"{name} cannot be rebuilt ({reason}); give --model package.module:function, which "
            "builds the model"
        )
    return found


def inputs_of(
    model: nn.Module,
    source: str | Path,
    key: str | None = None,
    checkpoint: str | Path = ".",
    sequences: int = 300,
) -> tuple[Any, ...]:
    """Inputs (sequences, length, channels) of a model in batches, from a file or a data set.

    Parameters
    ----------
    model : nn.Module
        Floating-point inputs are cast to its precision; integers without channels are tokens.
    source : str or Path
        A file .npz, .npy or .safetensors, or the name of a data set of the recipes, whose training
        part is used.
    key : str, optional
        Name of the array in the file, unless it holds only one, or x_train or x_test.
    checkpoint : str or Path, optional
        File of the model. A recipe in the same folder gives the options of the data set.
    sequences : int, optional
        Number of sequences, from the first one.

    Returns
    -------
    tuple of Tensor, or of dicts of inputs and their lengths where the data set has lengths

    Raises
    ------
    DataError
        If there are no inputs, or the model does not accept them.
    """
    path = Path(source)
    lengths = None
    if not path.is_file() and str(source) in DATASETS:
        data = _data_set(str(source), Path(checkpoint).parent / "recipe.yaml")
        x, lengths = data.x_train, data.lengths_train
    else:
        x = torch.from_numpy(_array(path, key))
    x = x[:sequences]
    if x.is_floating_point() or x.ndim > 2:  # integers with channels are values, such as pixels
        dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), x.dtype)
        x = x.to(dtype)
        if not x.isfinite().all():
            raise DataError(
                f"{source} holds numbers that are not finite in {dtype}; leave these sequences out"
            )
    else:
        x = x.long()
    if not x.numel():
        raise DataError(f"{source} holds no sequences, its shape is {tuple(x.shape)}; give some")
    batches = _accepted(model, x, str(source))
    if lengths is None:
        return batches
    name = next(iter(signature(model.forward).parameters))
    parts = lengths[:sequences].split(BATCH)
    return tuple({name: u, "lengths": n} for u, n in zip(batches, parts, strict=True))


def tokens_of(
    model: nn.Module, path: str | Path, folder: str | Path, sequences: int = 64, length: int = 512
) -> tuple[Tensor, ...]:
    """The tokens (sequences, length) of a text in batches, by the tokenizer in the model's folder.

    Parameters
    ----------
    model : nn.Module
    path : str or Path
        A text file in UTF-8.
    folder : str or Path
        With the files of a tokenizer of transformers; no code in it is run.
    sequences, length : int, optional
        At most this many sequences of this length, from the beginning.

    Returns
    -------
    tuple of Tensor

    Raises
    ------
    DataError
        If there is no text or no tokenizer, or the model does not accept the tokens.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no text in UTF-8 that can be read ({error})") from error
    try:
        make = require("transformers").AutoTokenizer.from_pretrained
        ids = make(str(folder), trust_remote_code=False, local_files_only=True)(text)["input_ids"]
        if text and not ids:
            raise DataError("it finds no token")
    except MissingPackageError:
        raise
    except Exception as error:  # whatever a foreign tokenizer does
        raise DataError(
            f"{folder} has no tokenizer that reads {path} ({' '.join(str(error).split())[:200]}); "
            "give tokens (sequences, length) in a .npy file"
        ) from error
    if not ids:
        raise DataError(f"{path} holds no text; give some")
    x = torch.tensor(ids[: sequences * length])
    length = min(length, len(x))
    return _accepted(model, x[: len(x) // length * length].reshape(-1, length), str(path))


def _accepted(model: Any, x: Tensor, source: str) -> tuple[Tensor, ...]:
    """`x` in batches, all of which the model takes."""
    if not x.is_floating_point() and hasattr(model, "get_input_embeddings"):
        known = len(model.get_input_embeddings().weight)
        if not 0 <= int(x.min()) <= int(x.max()) < known:
            raise DataError(
                f"{source} holds tokens from {int(x.min())} to {int(x.max())}, and the model knows "
                f"0 to {known - 1}; use the tokenizer that it was trained with"
            )
    batches = x.split(BATCH)
    try:
        with torch.no_grad():
            for batch in batches:
                model(batch)
    except Exception as error:  # code of users may fail in any way
        shown = f"{tuple(x.shape)} of {'numbers' if x.is_floating_point() else 'tokens'}"
        raise DataError(
            f"the model does not accept the inputs {shown} in {source} "
            f"({' '.join(str(error).split())}); give (sequences, length, channels) as in training, "
            "or (sequences, length) whole numbers where it embeds tokens"
        ) from error
    return batches


def _data_set(name: str, recipe: Path) -> Dataset:
    own = read_recipe(recipe) if recipe.is_file() else None
    return load_data(own) if own and own.data == name else DATASETS[name]()


def _array(path: Path, key: str | None) -> np.ndarray:
    """An array from a file; code in the file is never run."""
    if path.suffix not in (".npz", ".npy", ".safetensors"):
        raise DataError(
            f"{path} is no .npz, .npy or .safetensors file, and no data set of that name is known; "
            f"there are {', '.join(DATASETS)}"
        )
    try:
        if path.suffix == ".safetensors":
            return _chosen(path, require("safetensors.numpy").load_file(path), key)
        with path.open("rb") as stream:
            content: Any = np.load(stream, allow_pickle=False)
            alone = path.suffix == ".npy"
            return _chosen(path, {"one array without a name": content} if alone else content, key)
    except (DataError, MissingPackageError):
        raise
    except Exception as error:  # a damaged file may fail anywhere in the readers
        raise DataError(
            f"{path} cannot be read as arrays ({type(error).__name__}: {error}); save one by "
            "numpy.save or numpy.savez"
        ) from error


def _chosen(path: Path, arrays: Mapping[str, np.ndarray], key: str | None) -> np.ndarray:
    """The array named `key`, the only one, or x_train or x_test."""
    names = list(arrays)
    known = [key] if key else names if len(names) == 1 else KEYS
    name = next((name for name in known if name in names), None)
    if name is None:
        raise DataError(
            f"{path} holds {', '.join(names) or 'nothing'}, and no {' or '.join(known)}; give "
            "--key, the name of the array"
        )
    array = arrays[name]
    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        raise DataError(
            f"{path} holds {array.dtype}, which cannot be inputs; save float32 or int64"
        )
    if not array.ndim:
        raise DataError(f"{path} holds one number; give (sequences, length, channels)")
    return array.astype(array.dtype.newbyteorder("="), copy=False)
