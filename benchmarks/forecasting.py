"""Forecasts of ETTh1, 96 hours from 336, a channel alone: full, cut in training or after, small.

The usual split (12, 4 and 4 months) and scaling (by the training part); what is forecast is the
difference to the last value. Prints the mean squared and mean absolute error on all test windows,
over seeds, and those of a ridge regression. Published: NLinear 0.374 and 0.394, DLinear 0.375 and
0.399 (Zeng et al., AAAI 2023, arXiv:2205.13504, table 2).

    python benchmarks/forecasting.py --layers lru s4d --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import copy
import os
from collections import defaultdict
from pathlib import Path
from statistics import mean, median, stdev
from time import perf_counter

import numpy as np
import torch
from torch import Tensor, nn

from compressm import At, Compressor, SequenceModel, States, compress_
from compressm.experiments.training import orders
from compressm.models import LAYERS

DATA = Path(os.environ.get("COMPRESSM_DATA", "../shared/data")) / "series" / "ETTh1.csv"
PAST, AHEAD, MONTH = 336, 96, 30 * 24


class Series:
    """Windows of the standardised series: the past and, after it, what is to be forecast."""

    def __init__(self) -> None:
        values = np.loadtxt(DATA, delimiter=",", skiprows=1, usecols=range(1, 8), dtype=np.float32)
        train = values[: 12 * MONTH]
        values = torch.from_numpy((values - train.mean(0)) / train.std(0))
        self.parts = {
            "train": values[: 12 * MONTH],
            "test": values[16 * MONTH - PAST : 20 * MONTH],
        }

    def windows(self, part: str) -> Tensor:
        """(windows, channels, PAST + AHEAD), a view."""
        return self.parts[part].unfold(0, PAST + AHEAD, 1)

    def batch(self, size: int, choice: torch.Generator) -> tuple[Tensor, Tensor]:
        """Some windows of some channels of the training part: (size, PAST, 1), (size, AHEAD)."""
        windows = self.windows("train")
        at, channel = (torch.randint(n, (size,), generator=choice) for n in windows.shape[:2])
        return split(windows[at, channel])


def split(window: Tensor) -> tuple[Tensor, Tensor]:
    """Past and future, as differences to the last value of the past."""
    window = window - window[..., PAST - 1 : PAST]
    return window[..., :PAST, None], window[..., PAST:]


@torch.no_grad()
def errors(model, series: Series) -> tuple[float, float]:
    """Mean squared and mean absolute error over all test windows and channels."""
    found = []
    for windows in series.windows("test").split(200):
        past, future = split(windows.flatten(0, 1))
        found.append(model(past) - future)
    error = torch.cat(found)
    return float(error.square().mean()), float(error.abs().mean())


def ridge(series: Series, weight: float = 100.0):
    """The linear map from past to future with the least squares, slightly shrunk."""
    past, future = split(series.windows("train").flatten(0, 1).double())
    past = past[..., 0]
    matrix = torch.linalg.solve(
        past.mT @ past + weight * torch.eye(PAST, dtype=past.dtype), past.mT @ future
    ).float()
    return lambda u: u[..., 0] @ matrix


def new_model(layer: str, states: int, args, seed: int) -> SequenceModel:
    torch.manual_seed(seed)
    options = {"l_max": PAST} if layer == "s4" else {}
    return SequenceModel(1, AHEAD, args.width, states, 1, layer=layer, pool="last", **options)


def train(model, series: Series, args, seed: int, compressor_of=None) -> tuple[float, float, float]:
    """Seconds, and the medians of milliseconds a step, in the first tenth and after it."""
    optimizer = torch.optim.AdamW(model.parameters(), args.lr)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, args.steps)
    compressor = compressor_of(optimizer) if compressor_of else None
    choice, times = torch.Generator().manual_seed(seed), []
    for _ in range(args.steps):
        past, future = series.batch(args.batch, choice)
        start = perf_counter()
        loss = nn.functional.mse_loss(model(past), future)
        model.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if compressor:
            compressor.step()
        times.append(perf_counter() - start)
    cut = args.steps // 10
    return sum(times), *(1e3 * median(part) for part in (times[:cut], times[cut:]))


def arms_of(layer: str, series: Series, args, seed: int):
    """Name, model and times of each arm."""
    full = new_model(layer, args.states, args, seed)
    times = train(full, series, args, seed)
    yield "full", full, times
    model = new_model(layer, args.states, args, seed)

    def compressor_of(optimizer):
        at = At(args.steps // 10)
        return Compressor(model, optimizer, schedule=at, policy=States(args.order))

    yield "in training", model, train(model, series, args, seed, compressor_of)
    trial, choice = copy.deepcopy(full), torch.Generator().manual_seed(seed)
    data = [series.batch(50, choice)[0] for _ in range(6)]
    compress_(trial, States(args.order), data=data)
    yield "after", trial, times
    small = new_model(layer, args.order, args, seed)
    yield "small", small, train(small, series, args, seed)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", nargs="+", choices=sorted(LAYERS), default=sorted(LAYERS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--states", type=int, default=64)
    parser.add_argument("--order", type=int, default=8, help="stored states after the cut")
    parser.add_argument("--lr", type=float, default=4e-3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    series = Series()
    print("ridge regression: MSE {:.4f}, MAE {:.4f}\n".format(*errors(ridge(series), series)))
    print("| layer | arm | states | MSE | difference to full | MAE | seconds | ms a step |")
    print("|---|---|---:|---:|---:|---:|---:|---|")
    for layer in args.layers:
        found = defaultdict(list)
        for seed in args.seeds:
            for arm, model, times in arms_of(layer, series, args, seed):
                found[arm].append((*errors(model, series), orders(model)[0], *times))
        full = [run[0] for run in found["full"]]
        for arm, runs in found.items():
            mse, mae, states, seconds, before, after = (mean(x) for x in zip(*runs, strict=True))
            difference = [run[0] - base for run, base in zip(runs, full, strict=True)]
            error = f" ({stdev(difference) / len(runs) ** 0.5:.4f})" if len(runs) > 1 else ""
            print(
                f"| {layer} | {arm} | {states:.0f} | {mse:.4f} | {mean(difference):+.4f}{error} "
                f"| {mae:.4f} | {seconds:.0f} | {before:.1f}, {after:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
