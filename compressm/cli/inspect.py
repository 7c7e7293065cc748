"""`compressm inspect`: a preview of what each energy fraction would leave of a trained model."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from compressm.checkpoints.weights import layers_in, read_checkpoint
from compressm.cli.arguments import (
    add_model_options,
    console,
    energy_fraction,
    weights_file,
    writable_file,
)
from compressm.compression.compress import preview
from compressm.compression.policies import KeepEnergy
from compressm.errors import DataError
from compressm.experiments.rebuilding import inputs_of, rebuilt
from compressm.experiments.recipes import DATASETS
from compressm.experiments.training import to_record
from compressm.gramians.types import GRAMIAN_TYPES

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers `commands`."""
    parser = commands.add_parser(
        "inspect",
        help="show what a cut would leave of a trained model",
        description="Find the state-space layers in a file of weights by the names of their "
        "parameters, and show what a cut to each energy fraction would leave. With inputs of the "
        "model, score the states by these inputs as well, side by side. Nothing is changed, and no "
        "code in the file is run.",
    )
    parser.set_defaults(run=run)
    option = parser.add_argument
    option(
        "checkpoint",
        type=lambda text: str(weights_file(Path(text))),
        metavar="CHECKPOINT",
        help="a .safetensors file, what torch.save wrote, or a folder: that of a run, or one of "
        "save_pretrained",
    )
    option(
        "--energy",
        type=energy_fraction,
        nargs="+",
        metavar="E",
        help="fractions of the sum of Hankel singular values to keep (0.9 0.99 0.999; with --data "
        "also the default of each Gramian type)",
    )
    option(
        "--data",
        metavar="FILE",
        help="inputs (sequences, length, channels) as the model was trained on: a .npz, .npy or "
        f".safetensors file, or the name of a data set: {', '.join(DATASETS)}; they are cast to "
        "the precision of the model",
    )
    add_model_options(parser, sequences=300)
    option(
        "--system",
        choices=("real", "complex"),
        default="real",
        help="which system a layer is reduced as (%(default)s)",
    )
    option("--json", type=writable_file, metavar="FILE", help="also save all of it, with spectra")


def run(arguments: argparse.Namespace) -> int:
    """Run the command, and return its exit code."""
    terminal = console()
    # Imported late, since the tables need rich
    from compressm.experiments.tables import gramians_table, preview_table, spectra_table

    policies: list[Any] = [
        KeepEnergy(energy) for energy in sorted(arguments.energy or (0.9, 0.99, 0.999))
    ]
    types: list[Any] = ["model"]
    inputs = ()
    if arguments.data:
        types = list(GRAMIAN_TYPES)
        policies = policies if arguments.energy else [None, *policies]
        model, assumed = rebuilt(arguments.checkpoint, arguments.model, **dict(arguments.option))
        inputs = inputs_of(
            model, arguments.data, arguments.key, arguments.checkpoint, arguments.sequences
        )
        if assumed:
            terminal.print(f"Assumed of the model: {assumed}.\n", style="dim")
        torch.manual_seed(0)  # of the random projections whose gradients stand for the loss
    elif arguments.key or arguments.model:
        raise DataError("--key and --model are of use with --data only; give it, or leave them out")
    else:
        model = layers_in(read_checkpoint(arguments.checkpoint), **dict(arguments.option))
    try:
        events = preview(
            model,
            policies,
            gramians=types,
            data=inputs,
            conjugate=arguments.system == "real",
            multiple_of=arguments.multiple_of,
        )
    except (TypeError, ValueError) as error:  # from the code of a model that is not ours
        what = arguments.data or "its own Gramians"
        raise DataError(f"the states of the model cannot be scored by {what} ({error})") from error
    terminal.print(spectra_table(events[0]))
    terminal.print()
    if arguments.data:
        terminal.print(gramians_table(events, policies, types))
    else:
        terminal.print(preview_table(events, policies))
    if arguments.json:
        names = [f"{policy.energy:g}" if policy else "default" for policy in policies]
        layers = iter([to_record(event)["event"]["layers"] for event in events])
        report = {gramians: dict(zip(names, layers, strict=False)) for gramians in types}
        arguments.json.write_text(
            json.dumps(report if arguments.data else report["model"], allow_nan=False)
        )
    return 0
