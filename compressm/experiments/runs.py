"""A run in its own folder: recipe, log, checkpoint, result.

============================ =============================================================
``recipe.yaml``              all settings; an argument for `compressm train`
``run.json``                 arm, seed and machine; at the end the result
``log.jsonl``                a line for each accuracy measured, each cut, each spectrum
``checkpoint.safetensors``   where a stopped run continues; at the end the trained model
============================ =============================================================
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from compressm.compression.schedules import At
from compressm.errors import RunError
from compressm.experiments.data import Dataset
from compressm.experiments.recipes import Recipe, read_recipe, to_yaml
from compressm.experiments.tensorboard import Board
from compressm.experiments.training import Point, RunResult, Step, from_record, run, to_record
from compressm.experiments.training.log import Entry
from lti.files import replacing

__all__ = ["ARMS", "Run", "read_run", "train"]

ARMS = ("full", "compressed", "small", "after")


@dataclass(frozen=True)
class Run:
    """A run, read from its folder; the name of `result` is the name of the folder."""

    arm: str
    order: int | None
    finished: bool
    result: RunResult  # without the model

    @property
    def mean_order(self) -> int:
        """Mean number of stored states of a layer, rounded."""
        return max(1, round(sum(self.result.orders) / len(self.result.orders)))


def train(
    recipe: Recipe,
    data: Dataset,
    folder: Path,
    *,
    arm: str = "compressed",
    seed: int = 0,
    order: int | None = None,
    device: str = "cpu",
    resume: bool = False,
    tensorboard: bool = False,
    on_step: Callable[[Step], None] = lambda step: None,
) -> RunResult:
    """Train one arm of a recipe, and keep the run in a folder.

    Parameters
    ----------
    recipe
        What to train, and how it is cut.
    data
        The data of the recipe, see `load_data`.
    folder
        Folder for the run; it is created if it does not exist.
    arm
        "full": never cut. "compressed": cut in training, as the recipe says. "after": trained at
        full size, and cut after the last step, with the inputs of that step if the recipe's
        `gramians` need inputs. "small": trained with `order` states from the start.
    seed
        Seed of all random numbers.
    order
        Stored states of each layer of the small arm.
    device
        Where to train.
    resume
        Continue from the checkpoint in the folder, if there is one.
    tensorboard
        Write files for TensorBoard into the folder as well.
    on_step
        Called after each step.

    Raises
    ------
    RunError
        If the folder holds another run, or this one and `resume` is False; if `order` is missing,
        or given for an arm other than "small"; if torch cannot use the device.
    """
    if arm not in ARMS:
        raise RunError(f"there is no arm {arm!r}; choose from {', '.join(ARMS)}")
    if (arm == "small") != (order is not None):
        raise RunError(
            "the arm small needs its order, a number of states or a run; other arms take none"
        )
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise RunError(
            f"torch cannot use the device {device} ({str(error).splitlines()[0]}); take cpu, or "
            "install a torch that is built for it"
        ) from error
    what = {"arm": arm, "seed": seed, "order": order, "device": device}
    _claim(folder, recipe, what, resume)
    machine = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    machine |= {"machine": platform.machine()}
    _write(folder, what | machine)
    cut: dict[str, Any] = {}
    if arm in ("compressed", "after"):
        steps = recipe.steps
        cut = {
            "policy": recipe.make_policy(),
            "conjugate": recipe.conjugate,
            "schedule": At(steps) if arm == "after" else recipe.schedule(),
            "penalty": recipe.make_penalty if recipe.penalty_weight else None,
            "spectra_at": (0, steps) if recipe.gramians == "model" else (),
        }
    with ExitStack() as stack:
        watchers = [_Log(folder / "log.jsonl"), on_step]
        if tensorboard:
            watchers.append(stack.enter_context(Board(folder)))

        def watch(step: Step) -> None:
            for watcher in watchers:
                watcher(step)

        result = run(
            data,
            recipe if order is None else replace(recipe, d_state=order),
            name=arm,
            seed=seed,
            device=device,
            checkpoint=folder / "checkpoint.safetensors",
            on_step=watch,
            **cut,
        )
    measured = ("accuracy", "orders", "parameters", "seconds")
    _write(folder, what | machine | {name: getattr(result, name) for name in measured})
    return result


def read_run(folder: str | Path) -> Run:
    """The run in a folder that `train` wrote; an unfinished run as far as it has come.

    Parameters
    ----------
    folder
        Folder that was given to `train`.

    Raises
    ------
    RunError
        If the folder holds no run.
    """
    folder = Path(folder)
    try:
        about = json.loads((folder / "run.json").read_text())
        log = _read_log(folder / "log.jsonl")
        last = [entry for entry in log if isinstance(entry, Point)][-1]
        result = RunResult(
            name=folder.resolve().name,
            seed=about["seed"],
            settings=read_recipe(folder / "recipe.yaml"),
            accuracy=about.get("accuracy", last.accuracy),
            orders=last.orders,
            parameters=about.get("parameters", 0),
            seconds=last.seconds,
            log=log,
        )
        return Run(about["arm"], about["order"], "accuracy" in about, result)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise RunError(
            f"{folder} holds no run that can be read ({type(error).__name__}): give the --output "
            "of compressm train, after its first step"
        ) from error


def _claim(folder: Path, recipe: Recipe, what: dict[str, Any], resume: bool) -> None:
    """Create the folder of this run; RunError if it holds another run."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"no folder can be made at {folder} ({error.strerror})") from error
    if not (folder / "run.json").exists():
        (folder / "recipe.yaml").write_text(to_yaml(recipe))
        return
    if not resume:
        raise RunError(
            f"{folder} holds a run already: give --resume to continue it, or another --output"
        )
    about = json.loads((folder / "run.json").read_text())
    before = what | {name: about.get(name) for name in what}
    other = [f"{name} {before[name]}" for name in what if before[name] != what[name]]
    if read_recipe(folder / "recipe.yaml") != recipe:
        other.append("the settings of its recipe.yaml")
    if other:
        raise RunError(
            f"{folder} holds another run, with {', '.join(other)}: give the arguments that it was "
            "started with, or another --output"
        )


def _write(folder: Path, about: dict[str, Any]) -> None:
    with replacing(folder / "run.json") as file:
        file.write_text(json.dumps(about, indent=1, allow_nan=False) + "\n")


class _Log:
    """An `on_step` that writes each entry of the log as one line of a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.begun = False

    def __call__(self, step: Step) -> None:
        if not self.begun:
            # Entries later than the checkpoint are dropped: a resumed run measures them again
            kept = _read_log(self.path) if self.path.exists() else []
            lines = [_line(entry) for entry in kept if entry.step < step.step and step.step > 1]
            with replacing(self.path) as file:
                file.write_text("".join(lines))
            self.begun = True
        if step.news:
            with self.path.open("a") as file:
                file.writelines(map(_line, step.news))


def _line(entry: Entry) -> str:
    return json.dumps(to_record(entry), allow_nan=False) + "\n"


def _read_log(path: Path) -> list[Entry]:
    """The entries in a file, without a last line that is incomplete because the run was killed."""
    lines = path.read_text().splitlines(keepends=True)
    return [from_record(json.loads(line)) for line in lines if line.endswith("\n")]
