"""The command line: `compressm demo`, `train`, `report` and `inspect`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import lti
from compressm._optional import require
from compressm.checkpoints.weights import layers_in, read_checkpoint
from compressm.compression.compress import preview
from compressm.compression.policies import KeepEnergy
from compressm.errors import (
    CheckpointError,
    DataError,
    MissingPackageError,
    RecipeError,
    RunError,
    TrainingError,
)
from compressm.experiments.data import digits, mnist
from compressm.experiments.demo import DIGITS, MNIST, demo
from compressm.experiments.rebuilding import inputs_of, rebuilt
from compressm.experiments.recipes import DATASETS, SHIPPED, load_data, read_recipe
from compressm.experiments.runs import ARMS, read_run, train
from compressm.experiments.training import to_record
from compressm.gramians.types import BuiltIn as Kind

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 1 where the data or a package cannot be had."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.command(arguments)
    except (
        CheckpointError,
        DataError,
        MissingPackageError,
        RecipeError,
        RunError,
        TrainingError,
        lti.LTIError,
    ) as error:
        print(f"compressm: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="compressm", description="State-space models that shrink while they train."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "demo",
        help="train three models on real data and compare them",
        description="Train three models from one seed: full size, compressed while training, and "
        "the size that one ended at from scratch. A table and a picture compare them.",
    )
    command.set_defaults(command=_demo)
    option = command.add_argument
    option(
        "--data",
        choices=("digits", "mnist"),
        default="digits",
        help="digits: 1,797 images that come with scikit-learn, 64 pixels (default); "
        "mnist: 70,000 images of 784 pixels",
    )
    option(
        "--data-dir",
        metavar="DIR",
        help="folder that holds mnist.npz (default: $COMPRESSM_DATA, else it is downloaded)",
    )
    option("--steps", type=_positive, metavar="N", help="training steps of each run")
    option("--seed", type=int, default=0, metavar="S", help="seed of everything random (0)")
    option(
        "--energy",
        type=_share,
        metavar="E",
        help="share of the sum of Hankel singular values that each cut keeps",
    )
    option(
        "--gramians",
        choices=("model", "input", "data"),
        help="weigh states by what any input can drive, with an error bound (model; for digits), "
        "by what the layer's own inputs drive (input; for mnist), or also by what the loss feels",
    )
    option(
        "--threads",
        type=_positive,
        default=1,
        metavar="N",
        help="threads of torch (1: one seed then gives one result on every machine like yours)",
    )
    option(
        "--output",
        type=_file,
        default="compressm-demo.png",
        metavar="PNG",
        help="where to save the picture (%(default)s)",
    )
    option("--json", type=_file, metavar="FILE", help="also save all that was measured")

    command = commands.add_parser(
        "inspect",
        help="say what each threshold would cost a trained model",
        description="Find the state-space layers in a file of weights by the names of their "
        "parameters, and say what keeping each share of their energy would leave. With inputs of "
        "the model, weigh their states by these as well, side by side. Nothing is changed, and no "
        "code in the file is run.",
    )
    command.set_defaults(command=_inspect)
    option = command.add_argument
    option("checkpoint", metavar="CHECKPOINT", help="a .safetensors file, or what torch.save wrote")
    option(
        "--energy",
        type=_share,
        nargs="+",
        metavar="E",
        help="shares of the sum of Hankel singular values to keep (0.9 0.99 0.999; with --data "
        "also the default of each way to weigh states)",
    )
    option(
        "--data",
        metavar="FILE",
        help="inputs (sequences, length, channels) as the model was trained on: a .npz, .npy or "
        f".safetensors file, or the name of a data set: {', '.join(DATASETS)}; cast to the "
        "precision of the model",
    )
    option("--key", help="name of the array in FILE (the only one, else x_train or x_test)")
    option(
        "--sequences",
        type=_positive,
        default=300,
        metavar="N",
        help="how many of the inputs are looked at, from the first (%(default)s)",
    )
    option(
        "--model",
        metavar="MODULE:FUNCTION",
        help="function without arguments that builds the model, where it is no SequenceModel",
    )
    option(
        "--system",
        choices=("real", "complex"),
        default="real",
        help="which system a layer is reduced as (%(default)s)",
    )
    option(
        "--multiple-of",
        type=_positive,
        default=1,
        metavar="K",
        help="round stored states up to a multiple",
    )
    option(
        "--option",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the layers that their tensors do not show, "
        "such as discretization=bilinear",
    )
    option("--json", type=_file, metavar="FILE", help="also save all of it, with the spectra")
    _add_train(commands)
    _add_report(commands)
    return parser


def _add_train(commands: Any) -> None:
    command = commands.add_parser(
        "train",
        help="train one model by a recipe, and keep all of it in a folder",
        description="Train one model by a recipe: a YAML file of settings, or one of those "
        f"shipped ({', '.join(SHIPPED)}). The folder of the run holds its recipe, its log, its "
        "checkpoint and its result.",
    )
    command.set_defaults(command=_train)
    option = command.add_argument
    option("recipe", metavar="CONFIG", help="a YAML file, or the name of a shipped recipe")
    option(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="settings in place of those in the file, such as lr=1e-3 layer_options.r_min=0.5",
    )
    option(
        "--arm",
        choices=ARMS,
        default="compressed",
        help="full: never cut; compressed: cut in training (default); small: the size --order from "
        "scratch; after: cut once, after the last step",
    )
    option(
        "--order",
        metavar="N|RUN",
        help="states of each layer of the small arm: a number, or the folder of a compressed run",
    )
    option("--seed", type=int, default=0, metavar="S", help="seed of everything random (0)")
    option("--steps", type=_positive, metavar="N", help="training steps, as --set steps=N")
    option(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder of the run (runs/CONFIG-ARM-SEED)",
    )
    option("--resume", action="store_true", help="go on from the checkpoint in the folder, if any")
    option(
        "--data-dir",
        metavar="DIR",
        help="folder that holds the data (default: $COMPRESSM_DATA, else they are downloaded)",
    )
    option("--device", default="cpu", metavar="D", help="where to train, such as cuda (cpu)")
    option("--threads", type=_positive, default=1, metavar="N", help="threads of torch (1)")
    option("--tensorboard", action="store_true", help="write files for TensorBoard as well")


def _add_report(commands: Any) -> None:
    command = commands.add_parser(
        "report",
        help="compare runs on one page",
        description="Compare the runs of `compressm train`, also of those that still go on, on one "
        "page of HTML, which needs nothing beside it. Its pictures are saved next to it as well.",
    )
    command.set_defaults(command=_report)
    command.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run")
    command.add_argument(
        "--output",
        type=_file,
        default="report.html",
        metavar="HTML",
        help="where to save the page (%(default)s)",
    )


def _require_report() -> None:
    for package in ("rich", "matplotlib"):
        require(package)


def _demo(arguments: argparse.Namespace) -> int:
    _require_report()
    # Only here, since report.py is made of the two packages just asked for.
    from rich.console import Console

    from compressm.experiments.report import Watch, picture, table

    torch.set_num_threads(arguments.threads)
    console = Console(highlight=False)
    if arguments.data == "mnist":
        data, settings = mnist(arguments.data_dir), MNIST
    else:
        data, settings = digits(), DIGITS
    chosen = {name: vars(arguments)[name] for name in ("steps", "energy", "gramians")}
    settings = replace(settings, **{k: v for k, v in chosen.items() if v is not None})

    console.print(
        f"{data.name}: {len(data.y_train):,} training and {len(data.y_test):,} test sequences of "
        f"length {data.length}.\nThree runs of {settings.steps:,} steps, seed {arguments.seed}:"
    )
    watch = Watch(console)
    try:
        with watch:
            results = demo(data, settings, seed=arguments.seed, on_step=watch)
    except KeyboardInterrupt:
        print(f"compressm: stopped {watch.where()}; nothing was saved.", file=sys.stderr)
        return 130

    console.print()
    console.print(table(results))
    console.print(
        f"Seconds of training steps and compressions, evaluations left out; threads: "
        f"{arguments.threads}.",
        style="dim",
    )
    picture(results, arguments.output)
    console.print(f"\nPicture: {arguments.output.resolve()}", soft_wrap=True)
    if arguments.json:
        report: dict[str, Any] = {
            "data": data.name,
            "torch": torch.__version__,
            "threads": arguments.threads,
            "runs": [result.to_dict() for result in results],
        }
        arguments.json.write_text(json.dumps(report, allow_nan=False))
        console.print(f"Measurements: {arguments.json.resolve()}", soft_wrap=True)
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    require("rich")
    from rich.console import Console

    from compressm.experiments.tables import kinds_table, outlook_table, spectra_table

    console = Console(highlight=False)
    policies: list[Any] = [
        KeepEnergy(energy) for energy in sorted(arguments.energy or (0.9, 0.99, 0.999))
    ]
    options: dict[str, Any] = {"system": arguments.system, "multiple_of": arguments.multiple_of}
    kinds: tuple[Kind, ...] = ("model",)
    if arguments.data:
        kinds = ("model", "input", "data")
        policies = policies if arguments.energy else [None, *policies]
        model, assumed = rebuilt(arguments.checkpoint, arguments.model, **dict(arguments.option))
        options["data"] = inputs_of(
            model, arguments.data, arguments.key, arguments.checkpoint, arguments.sequences
        )
        if assumed:
            console.print(f"Assumed of the model: {assumed}.\n", style="dim")
        torch.manual_seed(0)  # of the projections that stand for the loss
    elif arguments.key or arguments.model:
        raise DataError("--key and --model are of use with --data only; give it, or leave them out")
    else:
        model = layers_in(read_checkpoint(arguments.checkpoint), **dict(arguments.option))
    try:
        events = preview(model, policies, gramians=kinds, **options)
    except (TypeError, ValueError) as error:  # what a model of a stranger makes of its inputs
        what = arguments.data or "its own Gramians"
        raise DataError(f"the model cannot be weighed by {what} ({error})") from error
    console.print(spectra_table(events[0]))
    console.print()
    if arguments.data:
        console.print(kinds_table(events, policies, kinds))
    else:
        console.print(outlook_table(events, policies))
    if arguments.json:
        names = [f"{policy.energy:g}" if policy else "default" for policy in policies]
        layers = iter([to_record(event)["event"]["layers"] for event in events])
        report = {kind: dict(zip(names, layers, strict=False)) for kind in kinds}
        arguments.json.write_text(
            json.dumps(report if arguments.data else report["model"], allow_nan=False)
        )
    return 0


def _train(arguments: argparse.Namespace) -> int:
    _require_report()
    from rich.console import Console

    from compressm.experiments.report import Watch, plus

    torch.set_num_threads(arguments.threads)
    steps = [f"steps={arguments.steps}"] if arguments.steps else []
    recipe = read_recipe(arguments.recipe, [*arguments.set, *steps])
    name = f"{Path(arguments.recipe).stem}-{arguments.arm}-{arguments.seed}"
    folder = arguments.output or Path("runs") / name
    console = Console(highlight=False)
    watch = Watch(console)
    data = load_data(recipe, arguments.data_dir)
    console.print(
        f"{data.name}: {len(data.y_train):,} training and {len(data.y_test):,} test sequences of "
        f"length {data.length}.\nArm {arguments.arm}, {recipe.steps:,} steps, seed "
        f"{arguments.seed}, in {folder}:",
        soft_wrap=True,
    )
    try:
        with watch:
            result = train(
                recipe,
                data,
                folder,
                arm=arguments.arm,
                seed=arguments.seed,
                order=_order(arguments.order),
                device=arguments.device,
                resume=arguments.resume,
                tensorboard=arguments.tensorboard,
                on_step=watch,
            )
    except KeyboardInterrupt:
        print(
            f"compressm: stopped {watch.where()}; the same command with --resume goes on from the "
            "last checkpoint.",
            file=sys.stderr,
        )
        return 130
    console.print(
        f"Accuracy {result.accuracy:.2%} on all test sequences, {plus(result.orders)} states, "
        f"{result.parameters:,} parameters, {result.seconds:.1f} s of training."
    )
    return 0


def _report(arguments: argparse.Namespace) -> int:
    _require_report()
    from compressm.experiments.html import save_report

    for path in save_report([read_run(run) for run in arguments.runs], arguments.output):
        print(path)
    return 0


def _order(text: str | None) -> int | None:
    """A number of states, or that of a run."""
    if text is None:
        return None
    return int(text) if text.isdecimal() else read_run(text).mean_order


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name.isidentifier() and equals):
        raise argparse.ArgumentTypeError(f"{text} is not of the form NAME=VALUE")
    try:
        return name, json.loads(value)  # numbers and true, false
    except json.JSONDecodeError:
        return name, value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{value:g} is not in (0, 1]")
    return value


def _file(text: str) -> Path:
    """A path that can be written: known before the training, not after it."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"no file can be written at {path}")
    return path
