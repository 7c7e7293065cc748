"""A run in its own folder: recipe, log, checkpoint, result.

============================ =============================================================
``recipe.yaml``              all settings; an argument for `compressm train`
``run.json``                 arm, seed and machine; at the end the result
``log.jsonl``                a line for each measurement, each cut, each spectrum
``checkpoint.safetensors``   where a stopped run continues; at the end the trained model
============================ =============================================================
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from compressm._optional import require
from compressm.checkpoints.file_format import load_tree
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
        or given for an arm other than "small"; if torch cannot use the device; if another process
        trains in the folder, or it cannot be written.
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
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"no folder can be made at {folder} ({error.strerror})") from error
    machine = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    machine |= {"machine": platform.machine()}
    checkpoint = folder / "checkpoint.safetensors"
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
        stack.enter_context(_locked(folder))
        _require_own(folder, recipe, what, resume)
        log = _Log(folder / "log.jsonl", checkpoint)
        watchers = [log, on_step]
        if tensorboard:
            watchers.append(stack.enter_context(Board(folder)))

        def watch(step: Step) -> None:
            if not log.begun:  # a start that failed before leaves the folder to others
                _begin(folder, recipe, what | machine)
            for watcher in watchers:
                watcher(step)

        result = run(
            data,
            recipe if order is None else replace(recipe, d_state=order),
            name=arm,
            seed=seed,
            device=device,
            checkpoint=checkpoint,
            on_step=watch,
            **cut,
        )
        sizes = {name: getattr(result, name) for name in ("orders", "parameters", "seconds")}
        _begin(folder, recipe, what | machine | dict(result.measured) | sizes)
        log.write(result.log)
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
            measured={name: about.get(name, last.measured[name]) for name in last.measured},
            orders=last.orders,
            parameters=about.get("parameters", 0),
            seconds=last.seconds,
            log=log,
        )
        return Run(about["arm"], about["order"], result.metric.name in about, result)
    except (OSError, ValueError, KeyError, IndexError, TypeError, StopIteration) as error:
        raise RunError(
            f"{folder} holds no run that can be read ({type(error).__name__}): give the --output "
            "of compressm train, after its first step"
        ) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """The folder for one process alone; the system frees it when the process ends."""
    filelock = require("filelock")
    try:
        with filelock.FileLock(folder / ".lock", timeout=0):
            yield
    except filelock.Timeout as error:
        raise RunError(
            f"another process trains in {folder}: wait for it, or give another --output"
        ) from error


def _require_own(folder: Path, recipe: Recipe, what: dict[str, Any], resume: bool) -> None:
    """RunError if the folder holds another run, or this one and it is not to be resumed."""
    known = (folder / "run.json").exists()
    if not resume and (known or (folder / "checkpoint.safetensors").exists()):
        raise RunError(
            f"{folder} holds a run already: give --resume to continue it, or another --output"
        )
    if not known:
        return  # whose checkpoint it is stands in the checkpoint
    try:
        about = dict(json.loads((folder / "run.json").read_text()))
    except (OSError, TypeError, ValueError) as error:
        raise RunError(
            f"{folder / 'run.json'} is damaged ({error}): delete it, and --resume goes by the "
            "checkpoint"
        ) from error
    before = what | {name: about.get(name) for name in what}
    other = [f"{name} {before[name]}" for name in what if before[name] != what[name]]
    if (folder / "recipe.yaml").exists() and read_recipe(folder / "recipe.yaml") != recipe:
        other.append("the settings of its recipe.yaml")
    if other:
        raise RunError(
            f"{folder} holds another run, with {', '.join(other)}: give the arguments that it was "
            "started with, or another --output"
        )


def _begin(folder: Path, recipe: Recipe, about: dict[str, Any]) -> None:
    """From now on the folder is that of this run."""
    _write(folder / "recipe.yaml", to_yaml(recipe))
    _write(folder / "run.json", json.dumps(about, indent=1, allow_nan=False) + "\n")


def _write(path: Path, text: str) -> None:
    with _on_disk(path), replacing(path) as file:
        file.write_text(text)


@contextmanager
def _on_disk(path: Path) -> Iterator[None]:
    """A disk that is full, or read only, is said in a sentence."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{path} cannot be written ({error.strerror or error}): make room, and the same "
            "command with --resume continues from the last checkpoint"
        ) from error


class _Log:
    """An `on_step` that writes each entry of the log as one line of a file."""

    def __init__(self, path: Path, checkpoint: Path) -> None:
        self.path, self.checkpoint = path, checkpoint
        self.begun = False

    def __call__(self, step: Step) -> None:
        if not self.begun:
            # The file may have more or fewer lines than the checkpoint at which the run goes on
            records = load_tree(self.checkpoint)["extra"]["log"] if self.checkpoint.exists() else []
            self.write([from_record(record) for record in records])
            self.begun = True
        if step.news:
            with _on_disk(self.path), self.path.open("a") as file:
                file.writelines(map(_line, step.news))
                file.flush()
                os.fsync(file.fileno())

    def write(self, entries: list[Entry]) -> None:
        """The file anew, with these entries alone."""
        _write(self.path, "".join(map(_line, entries)))


def _line(entry: Entry) -> str:
    return json.dumps(to_record(entry), allow_nan=False) + "\n"


def _read_log(path: Path) -> list[Entry]:
    """The entries in a file, without a last line that is incomplete because the run was killed."""
    lines = path.read_text().splitlines(keepends=True)
    return [from_record(json.loads(line)) for line in lines if line.endswith("\n")]
