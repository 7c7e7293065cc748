"""How many sequences, times and states the Gramians from data need, and what they cost.

Trains sequential-MNIST models of 256 states at full size, as `after_training.py` does, then cuts
each once to a few stored states by what is looked at. Prints a Markdown table for each of three
numbers, the two others at their most: the accuracy right after the cut, the mean over seeds of
models and over draws of the sequences, and the milliseconds that S, the factor of the Gramian,
takes.

    COMPRESSM_DATA=folder/of/mnist.npz python benchmarks/observation.py --seeds 0 1 2
"""

import argparse
import copy
import statistics
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from unittest.mock import patch

import torch
from after_training import trained

from compressm import States, compress_, empirical, to_lti
from compressm.experiments.data import mnist
from compressm.experiments.demo import MNIST
from compressm.experiments.training import accuracy

SEQUENCES = (8, 16, 32, 50, 100, 400)
TIMES = (4, 8, 16, 32, 64, 128, 392)
SAMPLES = (1, 2, 4, 8, 16, 64)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--draws", type=int, default=3, help="of the sequences, for each model")
    parser.add_argument("--at", type=int, nargs="+", default=[16, 24], help="stored states")
    parser.add_argument("--max-phase", type=float, default=6.283185307, help="of initial poles")
    parser.add_argument("--cache", type=Path, default=Path("."), help="folder for trained models")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = replace(MNIST, layer_options={"max_phase": arguments.max_phase})
    data = mnist()
    name = f"mnist-{arguments.max_phase:g}"
    models = [
        trained(data, settings, k, arguments.cache / f"{name}-{k}.pt") for k in arguments.seeds
    ]
    measure = partial(accuracy, x=data.x_test[::4], y=data.y_test[::4])
    print(f"full: {statistics.mean(map(measure, models)):.2%} on {len(data.y_test[::4])} images")
    most = {"sequences": SEQUENCES[-1], "times": TIMES[-1], "samples": SAMPLES[-1]}
    for what, values in (("sequences", SEQUENCES), ("times", TIMES), ("samples", SAMPLES)):
        print(f"\n| {what} | " + " | ".join(f"{n} states" for n in arguments.at) + " | S, ms |")
        print("|---:" * (len(arguments.at) + 2) + "|")
        for value in values:
            of = most | {what: value}
            found = [
                cut(model, data.x_train, of, arguments.at, draw, measure)
                for model in models
                for draw in range(arguments.draws)
            ]
            means = [statistics.mean(x) for x in zip(*found, strict=True)]
            print(f"| {value} | " + " | ".join(f"{x:.2%}" for x in means[:-1])
                  + f" | {1e3 * means[-1]:.0f} |", flush=True)  # fmt: skip


def cut(model, x_train, of, at, draw, measure):
    """The accuracy at each number of states, and the seconds that S takes."""
    generator = torch.Generator().manual_seed(draw)
    images = x_train[torch.randperm(len(x_train), generator=generator)[: of["sequences"]]]
    layer, inputs = model.blocks[0].layer, []
    accuracies = []
    with (
        patch.object(empirical, "TIMES", of["times"]),
        patch.object(empirical, "SAMPLES", of["samples"]),
    ):
        for n in at:
            trial = copy.deepcopy(model)
            compress_(trial, States(n), gramians="input", data=images.split(50))
            accuracies.append(measure(trial))
        hook = layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
        with torch.no_grad():
            model.eval()(images[:50])
        hook.remove()
        start = perf_counter()
        empirical.observed_factor(to_lti(layer.requires_grad_(False)), inputs)
        seconds = perf_counter() - start
    return *accuracies, seconds


if __name__ == "__main__":
    main()
