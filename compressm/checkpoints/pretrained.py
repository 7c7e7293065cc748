"""Folders of transformers' `save_pretrained`, whose layers may keep different numbers of states."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from compressm._optional import require
from compressm.errors import CheckpointError
from compressm.systems.sizes import resize_on_load

__all__ = ["load_pretrained", "quiet"]

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def load_pretrained(folder: str | Path) -> nn.Module:
    """The model that ``save_pretrained(folder)`` wrote, each layer with as many states as it had.

    ``from_pretrained`` gives all layers one size, that of the configuration; after a cut they may
    differ. Nothing is unpickled, and no code of the folder runs.

    Parameters
    ----------
    folder : str or Path
        With ``config.json`` and weights as safetensors, in one file or in several.

    Returns
    -------
    nn.Module
        Of the class that the configuration names, on the CPU and in evaluation mode.

    Raises
    ------
    CheckpointError
        If the folder has no configuration or no such weights, names no class of transformers, or
        its weights belong to another model.
    """
    folder, transformers = Path(folder), require("transformers")
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise CheckpointError(f"{folder} has no config.json; give a folder of save_pretrained")
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        name = (config.architectures or [""])[0]
    except Exception as error:  # whatever a foreign configuration does
        raise CheckpointError(f"{config_file} is no configuration ({error})") from error
    kind = getattr(transformers, name, None)
    if kind is None:
        raise CheckpointError(
            f"{config_file} names the class {name!r}, which transformers does not have; build the "
            "model yourself, then resize_on_load(model) and load_state_dict"
        )
    files = _weight_files(folder)
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            model, found = kind.from_pretrained(
                folder,
                config=config,
                dtype="auto",
                use_safetensors=True,
                local_files_only=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except Exception as error:  # whatever a foreign configuration or file does
        raise CheckpointError(f"the weights in {folder} do not fit {name}: {error}") from error
    wrong = [f"{key} is missing" for key in sorted(found["missing_keys"])]
    wrong += [f"{key} is unknown to it" for key in sorted(found["unexpected_keys"])]
    sized = [key for key, *_ in found["mismatched_keys"]]
    if reason := wrong[0] if wrong else _resized(model, sized, files):
        raise CheckpointError(f"the weights in {folder} do not fit {name}: {reason}")
    model.tie_weights()
    return model.eval()


def _weight_files(folder: Path) -> dict[str, Path]:
    """The file of each tensor in a folder."""
    names = [WEIGHTS]
    try:
        if (folder / INDEX).is_file():
            names = sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))
        if any(Path(name).name != name for name in names):
            raise CheckpointError(f"{folder / INDEX} names files outside of its folder")
        found = {}
        for name in names:
            with require("safetensors").safe_open(folder / name, "pt") as file:
                found |= dict.fromkeys(file.keys(), folder / name)
        return found
    except CheckpointError:
        raise
    except Exception as error:  # whatever a parser makes of foreign bytes
        raise CheckpointError(
            f"{folder} has no readable {' and '.join(names)} ({error}); save it as safetensors"
        ) from error


def _resized(model: nn.Module, names: list[str], files: dict[str, Path]) -> str | None:
    """Load the tensors that need other sizes; why they do not fit, or None.

    A name in the file may begin otherwise, as ``backbone.`` where the model has ``model.``.
    """
    state: dict[str, Tensor] = {}
    for name in names:
        key = name if name in files else _with_the_end_of(name, files)
        if key is None:
            return f"{name} has another size, under a name that is unknown"
        with require("safetensors").safe_open(files[key], "pt") as file:
            state[name] = file.get_tensor(key)
    try:
        resize_on_load(model).load_state_dict(state, strict=False)
    except RuntimeError as error:
        return str(error).splitlines()[-1].strip()  # one of the tensors that do not fit
    return None


def _with_the_end_of(name: str, files: dict[str, Path]) -> str | None:
    end = name.partition(".")[2]
    found = [key for key in files if key == end or key.partition(".")[2] == end]
    return found[0] if len(found) == 1 else None


@contextmanager
def quiet() -> Iterator[None]:
    """No bars and no warnings of transformers, if it is imported."""
    if "transformers" not in sys.modules:
        yield
        return
    logging = sys.modules["transformers"].utils.logging
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
