"""Forecasts of ETTh1, 96 hours from 336, a channel alone: full, cut in training or after, small.

Trains the recipe `etth1` with each layer, and prints the mean squared and mean absolute error on
all test windows, over seeds, and those of a ridge regression. Published: NLinear 0.374 and 0.394,
DLinear 0.375 and 0.399 (Zeng et al., AAAI 2023, arXiv:2205.13504, table 2).

    COMPRESSM_DATA=folder/of/ETTh1.csv python benchmarks/forecasting.py --layers lru mamba
"""

from __future__ import annotations

import argparse
import copy
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from statistics import mean, median, stdev

import torch
from torch import Tensor

from compressm import At, States, compress_
from compressm.experiments.data import Dataset
from compressm.experiments.recipes import load_data, read_recipe
from compressm.experiments.training import evaluate, run
from compressm.models import LAYERS

OPTIONS = {"s4": "{l_max: 336}"}  # else those of the layer


def ridge(data: Dataset, weight: float = 100.0) -> tuple[float, ...]:
    """Errors of the linear map from past to future with the least squares, slightly shrunk."""
    past, future = data.x_train[..., 0].double(), data.y_train.double()
    eye = torch.eye(data.length, dtype=past.dtype)
    matrix = torch.linalg.solve(past.mT @ past + weight * eye, past.mT @ future).float()
    forecast: Tensor = data.x_test[..., 0] @ matrix
    return tuple(
        float(metric.each(forecast, data.y_test).double().mean()) for metric in data.task.metrics
    )


def arms_of(data: Dataset, recipe, order: int, seed: int):
    """Name, metrics, and the steps of the training of each arm."""
    steps = defaultdict(list)

    def train(arm, recipe, **cut):
        return run(data, recipe, name=arm, seed=seed, on_step=steps[arm].append, **cut)

    full = train("full", recipe)
    yield "full", full.measured, steps["full"]
    cut = train("in training", recipe, policy=States(order), schedule=At(recipe.steps // 10))
    yield "in training", cut.measured, steps["in training"]
    trial = copy.deepcopy(full.model)
    compress_(trial, States(order), data=data.x_train[:300].split(50))
    yield "after", evaluate(trial, data.task, *data.test()), steps["full"]
    small = train("small", replace(recipe, d_state=order))
    yield "small", small.measured, steps["small"]


def times(steps) -> tuple[float, float, float]:
    """Seconds in all, and medians of milliseconds a step, in the first tenth and after it."""
    each = [1e3 * (after.seconds - before.seconds) for before, after in pairwise(steps)]
    cut = len(steps) // 10
    return steps[-1].seconds, median(each[: cut - 1]), median(each[cut:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", nargs="+", choices=sorted(LAYERS), default=sorted(LAYERS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--order", type=int, default=8, help="stored states after the cut")
    parser.add_argument("--set", nargs="+", default=[], help="settings of the recipe: steps=400")
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = ["eval_every=1_000_000", "gramians=null", *args.set]  # measured at the end alone
    data = load_data(read_recipe("etth1", settings))
    print("ridge regression: MSE {:.4f}, MAE {:.4f}\n".format(*ridge(data)))
    print("| layer | arm | states | MSE | difference to full | MAE | seconds | ms a step |")
    print("|---|---|---:|---:|---:|---:|---:|---|")
    for layer in args.layers:
        options = [f"layer={layer}", f"layer_options={OPTIONS.get(layer, '{}')}"]
        recipe, found = read_recipe("etth1", [*options, *settings]), defaultdict(list)
        for seed in args.seeds:
            for arm, errors, steps in arms_of(data, recipe, args.order, seed):
                found[arm].append((*errors.values(), steps[-1].orders[0], *times(steps)))
        full = [row[0] for row in found["full"]]
        for arm, rows in found.items():
            mse, mae, states, seconds, before, after = (mean(x) for x in zip(*rows, strict=True))
            states = args.order if arm == "after" else states
            difference = [row[0] - base for row, base in zip(rows, full, strict=True)]
            error = f" ({stdev(difference) / len(rows) ** 0.5:.4f})" if len(rows) > 1 else ""
            print(
                f"| {layer} | {arm} | {states:.0f} | {mse:.4f} | {mean(difference):+.4f}{error} "
                f"| {mae:.4f} | {seconds:.0f} | {before:.1f}, {after:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
