"""`compressm demo`: three models from one seed, compared in a table and a picture."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from typing import Any, get_args

import torch

from compressm.cli.arguments import (
    console,
    energy_fraction,
    picture_file,
    positive,
    require_report,
    seed,
    threads,
    writable_file,
)
from compressm.experiments.data import digits, mnist
from compressm.experiments.demo import DIGITS, MNIST, demo
from compressm.gramians.types import BuiltIn

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers `commands`."""
    parser = commands.add_parser(
        "demo",
        help="train three models on real data and compare them",
        description="Train three models from one seed: full size, compressed while training, and "
        "the compressed size from scratch. A table and a picture compare them.",
    )
    parser.set_defaults(run=run)
    option = parser.add_argument
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
    option("--steps", type=positive, metavar="N", help="training steps of each run")
    option("--seed", type=seed, default=0, metavar="S", help="seed of all random numbers (0)")
    option(
        "--energy",
        type=energy_fraction,
        metavar="E",
        help="fraction of the sum of Hankel singular values that each cut keeps",
    )
    option(
        "--gramians",
        choices=get_args(BuiltIn),
        help="Gramian type that scores the states: model, what any input can drive, with an error "
        "bound (default for digits); input, what the layer's own inputs drive (default for mnist); "
        "data, what these inputs drive and the gradients of the loss depend on",
    )
    option(
        "--threads",
        type=threads,
        default=1,
        metavar="N",
        help="threads of torch (1: a seed gives the same result on every machine of this type)",
    )
    option(
        "--output",
        type=picture_file,
        default="compressm-demo.png",
        metavar="PNG",
        help="where to save the picture (%(default)s)",
    )
    option("--json", type=writable_file, metavar="FILE", help="also save all measurements")


def run(arguments: argparse.Namespace) -> int:
    """Run the command, and return its exit code."""
    require_report()
    # Imported late, since report needs the two optional packages
    from compressm.experiments.report import Watch, picture, table

    torch.set_num_threads(arguments.threads)
    terminal = console()
    if arguments.data == "mnist":
        data, settings = mnist(arguments.data_dir), MNIST
    else:
        data, settings = digits(), DIGITS
    chosen = {name: vars(arguments)[name] for name in ("steps", "energy", "gramians")}
    settings = replace(settings, **{k: v for k, v in chosen.items() if v is not None})

    terminal.print(
        f"{data.name}: {len(data.y_train):,} training and {len(data.y_test):,} test sequences of "
        f"length {data.length}.\nThree runs of {settings.steps:,} steps, seed {arguments.seed}:"
    )
    watch = Watch(terminal)
    try:
        with watch:
            results = demo(data, settings, seed=arguments.seed, on_step=watch)
    except KeyboardInterrupt:
        print(f"compressm: stopped {watch.where()}; nothing was saved.", file=sys.stderr)
        return 130

    terminal.print()
    terminal.print(table(results))
    terminal.print(
        f"Seconds of training steps and compressions, without evaluations; threads: "
        f"{arguments.threads}.",
        style="dim",
    )
    picture(results, arguments.output)
    terminal.print(f"\nPicture: {arguments.output.resolve()}", soft_wrap=True)
    if arguments.json:
        report: dict[str, Any] = {
            "data": data.name,
            "torch": torch.__version__,
            "threads": arguments.threads,
            "runs": [result.to_dict() for result in results],
        }
        arguments.json.write_text(json.dumps(report, allow_nan=False))
        terminal.print(f"Measurements: {arguments.json.resolve()}", soft_wrap=True)
    return 0
