"""`compressm compress`: a smaller model, written beside the one that it was made from."""

from __future__ import annotations

import argparse
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compressm._optional import require
from compressm.checkpoints.pretrained import load_pretrained, quiet
from compressm.checkpoints.whole_folder import new_folder
from compressm.cli.arguments import (
    WEIGHTS,
    add_model_options,
    console,
    energy_fraction,
    folder,
    positive,
    stored_sizes,
    weights_file,
)
from compressm.compression.compress import compress_
from compressm.compression.model_policies import Budget
from compressm.compression.policies import ErrorBound, KeepEnergy, OutputError, States
from compressm.errors import (
    CheckpointError,
    DataError,
    NothingRemovedWarning,
    OptionError,
    UnequalStatesWarning,
)
from compressm.experiments.rebuilding import inputs_of, rebuilt, tokens_of
from compressm.experiments.recipes import DATASETS
from compressm.gramians.types import GRAMIAN_TYPES
from compressm.sizes import PRESETS
from compressm.systems.find import selective_layers

__all__ = ["add_parser", "run"]

POLICIES = {
    "energy": KeepEnergy,
    "states": States,
    "output_error": OutputError,
    "error_bound": ErrorBound,
    "budget": Budget,
}
# What belongs to a model beside its weights and its configuration, such as a tokenizer
BESIDE = (".json", ".jinja", ".model", ".txt")
NOT_BESIDE = ("trainer_state.json",)


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers `commands`."""
    parser = commands.add_parser(
        "compress",
        help="write a smaller model",
        description="Cut the state-space layers of a trained model, show what was cut, and write "
        "the smaller model to a new folder. A folder of transformers becomes one that "
        "from_pretrained loads. The input does not change; no code in it is run, and nothing is "
        "unpickled.",
    )
    parser.set_defaults(run=run)
    option = parser.add_argument
    option(
        "model_path",
        metavar="MODEL",
        help="a folder of save_pretrained (config.json and safetensors), that of a run of "
        "compressm train, or a file of weights with --model",
    )
    option(
        "-o",
        "--output",
        type=_new,
        metavar="SMALL",
        help="the folder to write, which must not exist yet",
    )
    option("--dry-run", action="store_true", help="show what would be cut, and write nothing")
    option(
        "--measure",
        action="store_true",
        help="time each layer before and after the cut, on a batch of --data",
    )
    how_far = parser.add_mutually_exclusive_group()
    far = how_far.add_argument
    far("--energy", type=energy_fraction, metavar="E", help="energy fraction of each layer to keep")
    far("--states", type=positive, metavar="N", help="stored states of each layer, at most")
    far("--output-error", type=float, metavar="X", help="relative error of each layer's output")
    far("--error-bound", type=float, metavar="X", help="bound on the error of each layer")
    far("--budget", type=positive, metavar="N", help="stored states of all layers together")
    option(
        "--sizes",
        type=stored_sizes,
        metavar="SIZES",
        help="allowed numbers of stored states: a list such as 16,32,64, or what a kernel takes: "
        f"{', '.join(PRESETS)}",
    )
    option(
        "--uniform",
        action="store_true",
        help="one size for all layers of a type, as from_pretrained and servers need it",
    )
    option(
        "--gramians",
        choices=list(GRAMIAN_TYPES),
        help="by what states are scored (input with --data, else model; selective layers: output)",
    )
    option(
        "--data",
        metavar="FILE",
        help="inputs as the model was trained on: a .txt file, which the tokenizer in MODEL reads; "
        "tokens (sequences, length) or inputs (sequences, length, channels) in a .npy, .npz or "
        f".safetensors file; or the name of a data set: {', '.join(DATASETS)}",
    )
    add_model_options(parser, sequences=64)
    option(
        "--length",
        type=positive,
        default=512,
        metavar="N",
        help="tokens of each sequence of a text (%(default)s)",
    )


def _new(text: str) -> Path:
    """A folder that does not exist and can be made."""
    path = folder(text)
    if os.path.lexists(path):
        raise argparse.ArgumentTypeError(f"{path} exists; give a folder that does not exist yet")
    return path


def run(arguments: argparse.Namespace) -> int:
    """Run the command, and return its exit code."""
    terminal = console()
    # Imported late, since the table needs rich
    from compressm.experiments.tables import cut_table, in_all, time_table

    output: Path | None = arguments.output
    if output is None and not arguments.dry_run:
        raise OptionError("give -o SMALL, the folder to write, or --dry-run")
    if arguments.measure and arguments.data is None:
        raise DataError("--measure times each layer on its input; give --data")
    source = Path(arguments.model_path)
    model, file, assumed = _model(source, arguments)
    if assumed:
        terminal.print(f"Assumed of the model: {assumed}.\n", style="dim")
    policy = _policy(arguments)
    before = sum(p.numel() for p in model.parameters())
    torch.manual_seed(0)  # of the random projections whose gradients stand for the loss
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore", NothingRemovedWarning)  # the error below says it
        event = compress_(
            model,
            policy,
            gramians=arguments.gramians,
            data=_inputs(model, source, file, arguments),
            sizes=arguments.sizes,
            multiple_of=arguments.multiple_of,
            uniform=arguments.uniform,
            measure=arguments.measure,
            dry_run=arguments.dry_run,
        )
    terminal.print(cut_table(event))
    if arguments.measure:
        terminal.print()
        terminal.print(time_table(event))
    if not event.removed:
        reasons = [f"{cut.name}: {cut.skipped}" for cut in event.layers if cut.skipped]
        raise OptionError(
            "no layer was cut, and nothing is written; "
            + (event.advice or "; ".join(reasons) or "all of them need all their states")
        )
    terminal.print(f"\n{in_all(event, before)}")
    if arguments.dry_run or output is None:
        return 0
    notes = _write(model, source, output)
    terminal.print(f"\nWritten: {output}", soft_wrap=True)
    for note in notes:
        terminal.print(note, soft_wrap=True)
    return 0


def _model(source: Path, arguments: argparse.Namespace) -> tuple[nn.Module, Path, str]:
    """The model, the file of its weights, and what was assumed of it."""
    if (source / "config.json").is_file() and arguments.model is None:
        require("transformers")
        return load_pretrained(source), source / WEIGHTS[1], ""
    file = weights_file(source)
    if file.is_dir():
        raise CheckpointError(f"{source} holds no weights, which would be {' or '.join(WEIGHTS)}")
    if not file.exists():
        raise CheckpointError(f"there is no folder or file {source}")
    model, assumed = rebuilt(file, arguments.model, **dict(arguments.option))
    return model, file, assumed


def _policy(arguments: argparse.Namespace) -> Any:
    given = {name: getattr(arguments, name) for name in POLICIES}
    return next((POLICIES[name](x) for name, x in given.items() if x is not None), None)


def _inputs(model: nn.Module, source: Path, file: Path, arguments: argparse.Namespace) -> Any:
    if arguments.data is None:
        if arguments.key:
            raise DataError("--key names an array of --data; give that as well")
        if (name := next((name for name, _ in selective_layers(model)), None)) is not None:
            raise DataError(
                f"the states of {name} can be scored by inputs only, as it is a selective layer; "
                "give --data"
            )
        return ()
    data = Path(arguments.data)
    if data.suffix == ".txt":
        return tokens_of(model, data, source, arguments.sequences, arguments.length)
    return inputs_of(model, arguments.data, arguments.key, file, arguments.sequences)


def _write(model: Any, source: Path, output: Path) -> list[str]:
    """The model in a new folder; what is to be said about it."""
    pretrained = hasattr(model, "save_pretrained")
    with quiet(), new_folder(output) as place, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UnequalStatesWarning)
        if pretrained:
            model.save_pretrained(place)
        else:
            state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
            require("safetensors.torch").save_file(state, place / WEIGHTS[1])
        for path in sorted(source.iterdir()) if source.is_dir() else ():
            known = path.suffix in BESIDE and not path.name.endswith(".index.json")
            recipe = path.name == "recipe.yaml" and not pretrained
            settings = path.name == "generation_config.json"
            new = not (place / path.name).exists() and path.name not in NOT_BESIDE
            if path.is_file() and (recipe or settings or (pretrained and known and new)):
                shutil.copyfile(path, place / path.name)
    return [str(x.message) for x in caught if issubclass(x.category, UnequalStatesWarning)]
