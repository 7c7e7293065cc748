"""What an energy fraction leaves, and costs in accuracy, for each Gramian type.

Trains the models of the demos and one of raw audio at full size, then cuts each once, without any
training afterwards, by KeepEnergy of each share. The default shares of compressm come from here.

    COMPRESSM_DATA=folder/of/data python benchmarks/energies.py
"""

import argparse
import copy
from pathlib import Path

import torch
from after_training import trained

from compressm import KeepEnergy, compress_
from compressm.experiments.data import digits, mnist
from compressm.experiments.demo import DIGITS, MNIST
from compressm.experiments.recipes import load_data, read_recipe
from compressm.experiments.training import accuracy, orders

SHARES = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999)


def speech():
    recipe = read_recipe("spoken-digits")
    return load_data(recipe), recipe


TASKS = {
    "digits": lambda: (digits(), DIGITS),
    "mnist": lambda: (mnist(), MNIST),
    "spoken-digits": speech,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--gramians", nargs="+", default=["model", "input", "data"])
    parser.add_argument("--energies", type=float, nargs="+", default=SHARES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sequences", type=int, default=600, help="training sequences looked at")
    parser.add_argument("--cache", type=Path, default=Path("."), help="folder for trained models")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = {(kind, x): [] for kind in arguments.gramians for x in arguments.energies}
    heads = []
    for name in arguments.data:
        data, settings = TASKS[name]()
        model = trained(
            data, settings, arguments.seed, arguments.cache / f"{name}-{arguments.seed}.pt"
        )
        full = accuracy(model, data.x_test, data.y_test)
        heads.append(f"{name}: {orders(model)[0]} states, {full:.2%}")
        seen = data.x_train[: arguments.sequences].split(50)
        for (kind, energy), cells in rows.items():
            trial = copy.deepcopy(model)
            given = {} if kind == "model" else {"data": seen}
            torch.manual_seed(0)  # of the projections of "data"
            compress_(trial, KeepEnergy(energy), gramians=kind, **given)
            change = 100 * (accuracy(trial, data.x_test, data.y_test) - full)
            cells.append(f"{orders(trial)[0]}, {change:+.2f}")
    print(f"| gramians | energy | {' | '.join(heads)} |")
    print("|---|---:|" + "---:|" * len(heads))
    for (kind, energy), cells in rows.items():
        print(f"| {kind} | {energy:g} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
