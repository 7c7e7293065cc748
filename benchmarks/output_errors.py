"""What an output error of a cut costs in accuracy: right after it, and after training on.

Trains every layer family on four tasks of 64 steps, cuts a copy by OutputError of each tolerance
and one by KeepEnergy, and trains the copies and the full model on with the same batches. Prints
points of test accuracy against the full model, mean and standard error over tasks and seeds.

With --in-training the copies are cut at a tenth of the training, and trained to its end.

    python benchmarks/output_errors.py --layers lru s4d --tasks digits recall --seeds 0 1 2
    python benchmarks/output_errors.py --in-training --tolerances 0.002 0.005 0.01 0.02 0.05
"""

from __future__ import annotations

import argparse
import copy
from collections import defaultdict
from statistics import mean, stdev

import numpy as np
import torch
from torch import nn

from compressm import KeepEnergy, OutputError, compress_
from compressm.experiments.data import Dataset, batches, digits
from compressm.experiments.data.dataset import standardized
from compressm.experiments.training import Settings, accuracy, model_of, orders
from compressm.experiments.training.optimizer import optimizer_of
from compressm.models import LAYERS

LENGTH, CLASSES = 64, 10


def generated(name: str, sequences: np.ndarray, labels: np.ndarray) -> Dataset:
    x, test = sequences[:-500, :, None], sequences[-500:, :, None]
    return standardized(name, x, labels[:-500], test, labels[-500:])


def permuted() -> Dataset:
    data, order = digits(), torch.randperm(LENGTH, generator=torch.Generator().manual_seed(0))
    x, test = data.x_train[:, order], data.x_test[:, order]
    return Dataset("permuted digits", x, data.y_train, test, data.y_test)


def waves(n: int = 2000) -> Dataset:
    """Which of ten frequencies, in noise."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, CLASSES, n)
    phase = 0.15 * (y[:, None] + 1) * np.arange(LENGTH) + rng.uniform(0, 6.3, (n, 1))
    return generated("waves", np.sin(phase) + rng.standard_normal(phase.shape), y)


def recall(n: int = 2000) -> Dataset:
    """Which of ten levels came first, before noise."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, CLASSES, n)
    x = 0.3 * rng.standard_normal((n, LENGTH))
    x[:, :4] += y[:, None] - (CLASSES - 1) / 2
    return generated("recall", x, y)


TASKS = {"digits": digits, "permuted": permuted, "waves": waves, "recall": recall}


def train_(
    model: nn.Module, data: Dataset, settings: Settings, seed: int, start: int = 0, stop: int = 0
) -> None:
    """Steps from `start` to `stop`, or to the last one, of a training with a linear decay."""
    optimizer = optimizer_of(model, settings)
    every_batch = batches(len(data.y_train), settings.batch_size, settings.steps, seed)
    for step, batch in enumerate(every_batch):
        if not start <= step < (stop or settings.steps):
            continue
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * (1 - step / settings.steps)
        nn.functional.cross_entropy(model(data.x_train[batch]), data.y_train[batch]).backward()
        optimizer.step()
        optimizer.zero_grad()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", nargs="+", choices=LAYERS, default=list(LAYERS))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tolerances", type=float, nargs="+", default=[0.01, 0.02, 0.05, 0.1])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--after", type=int, default=200, help="steps of training on")
    parser.add_argument("--in-training", action="store_true", help="cut at a tenth of the steps")
    parser.add_argument("--states", type=int, default=32)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    policies = [*map(OutputError, arguments.tolerances), KeepEnergy(0.9995)]

    def settings(steps: int, lr: float) -> Settings:
        size = {"d_model": 16, "d_state": arguments.states, "n_layers": 2, "layer": layer}
        return Settings(**size, steps=steps, batch_size=50, lr=lr)

    def trained_on(model: nn.Module) -> float:
        """The accuracy after the rest of the training, or after a second one."""
        if arguments.in_training:
            train_(model, data, settings(arguments.steps, 1e-2), seed, start=tenth)
        else:
            train_(model, data, settings(arguments.after, 3e-3), seed + 1)
        return accuracy(model, *test)

    tenth = arguments.steps // 10
    print(
        "| layer | full, % | policy | states | largest output error, % | right after | "
        "trained on |\n|---|---:|---|---:|---:|---:|---:|"
    )
    for layer in arguments.layers:
        full, cells = [], defaultdict(list)
        for task in arguments.tasks:
            data = TASKS[task]()
            test = data.x_test, data.y_test
            for seed in arguments.seeds:
                torch.manual_seed(seed)
                model = model_of(data, settings(1, 1.0))
                stop = tenth if arguments.in_training else 0
                train_(model, data, settings(arguments.steps, 1e-2), seed, stop=stop)
                before, reference = accuracy(model, *test), trained_on(copy.deepcopy(model))
                full.append(100 * (reference if arguments.in_training else before))
                for policy in policies:
                    trial = copy.deepcopy(model)
                    event = compress_(trial, policy, data=data.x_train[:400].split(50))
                    errors = [cut.output_error or 0.0 for cut in event.layers]
                    changes = accuracy(trial, *test) - before, trained_on(trial) - reference
                    cells[str(policy)].append((mean(orders(trial)), max(errors), *changes))
        for policy, rows in cells.items():
            states, errors, *changes = zip(*rows, strict=True)
            shown = [f"{_points(change)}" for change in changes]
            print(
                f"| {layer} | {mean(full):.1f} | {policy} | {mean(states):.1f} | "
                f"{100 * max(errors):.1f} | {' | '.join(shown)} |",
                flush=True,
            )


def _points(changes: tuple[float, ...]) -> str:
    """Mean in points, and its standard error."""
    error = stdev(changes) / len(changes) ** 0.5 if len(changes) > 1 else float("nan")
    return f"{100 * mean(changes):+.2f} ({100 * error:.2f})"


if __name__ == "__main__":
    main()
