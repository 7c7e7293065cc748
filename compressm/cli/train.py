"""`compressm train`: one model trained by a recipe, in a folder of its own."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import torch

from compressm.cli.arguments import (
    console,
    device,
    folder,
    order_or_run,
    positive,
    require_report,
    seed,
    threads,
)
from compressm.errors import RecipeError
from compressm.experiments.data import METRICS
from compressm.experiments.recipes import SHIPPED, Recipe, load_data, read_recipe
from compressm.experiments.runs import ARMS, read_run, train

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers `commands`."""
    parser = commands.add_parser(
        "train",
        help="train one model by a recipe, and keep all of it in a folder",
        description="Train one model by a recipe: a YAML file of settings, or one of those "
        f"shipped ({', '.join(SHIPPED)}). The folder of the run holds its recipe, its log, its "
        "checkpoint and its result.",
    )
    parser.set_defaults(run=run)
    option = parser.add_argument
    option("recipe", metavar="CONFIG", help="a YAML file, or the name of a shipped recipe")
    option(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="settings that replace those in the file, such as lr=1e-3 layer_options.r_min=0.5",
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
        type=order_or_run,
        metavar="N|RUN",
        help="states of each layer of the small arm: a number, or the folder of a compressed run",
    )
    option("--seed", type=seed, default=0, metavar="S", help="seed of all random numbers (0)")
    option("--steps", type=positive, metavar="N", help="training steps, as --set steps=N")
    option(
        "--output",
        type=folder,
        metavar="DIR",
        help="folder of the run (runs/CONFIG-ARM-SEED)",
    )
    option("--resume", action="store_true", help="continue from the checkpoint in the folder")
    option(
        "--data-dir",
        metavar="DIR",
        help="folder that holds the data (default: $COMPRESSM_DATA, else they are downloaded)",
    )
    option(
        "--device",
        type=device,
        default="cpu",
        metavar="D",
        help="where to train, such as cuda (cpu)",
    )
    option("--threads", type=threads, default=1, metavar="N", help="threads of torch (1)")
    option("--tensorboard", action="store_true", help="write files for TensorBoard as well")


def run(arguments: argparse.Namespace) -> int:
    """Run the command, and return its exit code."""
    require_report()
    # Imported late, since report needs the two optional packages
    from compressm.experiments.report import Watch
    from compressm.experiments.report.results import plus

    torch.set_num_threads(arguments.threads)
    steps = [f"steps={arguments.steps}"] if arguments.steps else []
    recipe = read_recipe(arguments.recipe, [*arguments.set, *steps])
    name = f"{Path(arguments.recipe).stem}-{arguments.arm}-{arguments.seed}"
    place = arguments.output or Path("runs") / name
    terminal = console()
    watch = Watch(terminal)
    order = arguments.order
    if isinstance(order, str):
        order = read_run(order).mean_order
    _require_memory(recipe, order)
    data = load_data(recipe, arguments.data_dir)
    terminal.print(
        f"{data.name}: {len(data.y_train):,} training and {len(data.y_test):,} test sequences of "
        f"length {data.length}.\nArm {arguments.arm}, {recipe.steps:,} steps, seed "
        f"{arguments.seed}, in {place}:",
        soft_wrap=True,
    )
    try:
        with watch:
            result = train(
                recipe,
                data,
                place,
                arm=arguments.arm,
                seed=arguments.seed,
                order=order,
                device=arguments.device,
                resume=arguments.resume,
                tensorboard=arguments.tensorboard,
                on_step=watch,
            )
    except KeyboardInterrupt:
        print(
            f"compressm: stopped {watch.where()}; the same command with --resume continues from "
            "the last checkpoint.",
            file=sys.stderr,
        )
        return 130
    found = [(METRICS[name], value) for name, value in result.measured.items()]
    shown = ", ".join(f"{metric.title} {metric.shown(value)}" for metric, value in found)
    terminal.print(
        f"{shown} on all test sequences, {plus(result.orders)} states, "
        f"{result.parameters:,} parameters, {result.seconds:.1f} s of training."
    )
    return 0


def _require_memory(recipe: Recipe, order: int | None) -> None:
    """RecipeError if the parameters of the model alone are more than the memory of the machine."""
    width, states = recipe.d_model, order or recipe.d_state
    # At least B or C of the layer and the matrix after it, each with gradient and two moments
    needed = 4 * 4 * recipe.n_layers * width * (states + 2 * width)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise RecipeError(
            f"training this model needs at least {needed / 2**30:,.0f} GiB of memory, and this "
            f"machine has {memory / 2**30:,.0f}; lower d_model, d_state or n_layers"
        )
