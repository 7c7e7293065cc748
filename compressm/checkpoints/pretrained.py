"""Folders of transformers' `save_pretrained`, whose layers may keep different numbers of states."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from compressm._optional import require
from compressm.checkpoints.weights import load_weights_
from compressm.errors import CheckpointError

__all__ = ["load_pretrained"]

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
    state = _weights(folder)
    dtype = next((x.dtype for x in state.values() if x.is_floating_point()), None)
    model: Any = kind(config).to(dtype)
    if reason := load_weights_(model, state):
        raise CheckpointError(f"the weights in {folder} do not fit {name}: {reason}")
    model.tie_weights()
    return model.eval()


def _weights(folder: Path) -> dict[str, Tensor]:
    load, names = require("safetensors.torch").load_file, [WEIGHTS]
    try:
        if (folder / INDEX).is_file():
            names = sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))
        if any(Path(name).name != name for name in names):
            raise CheckpointError(f"{folder / INDEX} names files outside of its folder")
        return {key: x for name in names for key, x in load(folder / name).items()}
    except CheckpointError:
        raise
    except Exception as error:  # whatever a parser makes of foreign bytes
        raise CheckpointError(
            f"{folder} has no readable {' and '.join(names)} ({error}); save it as safetensors"
        ) from error
