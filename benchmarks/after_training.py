"""The smallest order within a tolerance of the full model's accuracy, for each Gramian type.

Trains sequential-MNIST models of 256 states at full size, or those of a recipe, then truncates each
once, without any training afterwards: by the complex system of the CompreSSM paper, by the real
one, by the second moment of the states that training data drive, and by that of the adjoint states
as well.

    COMPRESSM_DATA=folder/of/mnist.npz python benchmarks/after_training.py --seeds 0 1 2
    COMPRESSM_DATA=folder/of/fsdd.npz python benchmarks/after_training.py --recipe spoken-digits
"""

import argparse
import copy
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from compressm import MetricDrop, States, compress_
from compressm.experiments.data import mnist
from compressm.experiments.demo import MNIST
from compressm.experiments.recipes import load_data, read_recipe
from compressm.experiments.training import accuracy, model_of, orders, run

RULES = {
    "complex": {"system": "complex"},
    "real": {},
    "input": {"gramians": "input"},
    "data": {"gramians": "data"},
}


def trained(data, settings, seed, path):
    """A full-size model, from the file if it was trained before."""
    if not path.exists():
        torch.save(run(data, settings, seed=seed).model.state_dict(), path)
    model = model_of(data, settings)
    model.load_state_dict(torch.load(path, weights_only=True))
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--tolerance", type=float, nargs="+", default=[0.003, 0.012])
    parser.add_argument("--recipe", help="in place of MNIST, such as spoken-digits")
    parser.add_argument("--images", type=int, default=600, help="training sequences looked at")
    parser.add_argument("--at", type=int, default=16, help="stored states to compare accuracies at")
    parser.add_argument(
        "--shifts", action="store_true", help="at --at states only, also on images that differ"
    )
    parser.add_argument(
        "--max-phase", type=float, default=MNIST.layer_options["max_phase"], help="of initial poles"
    )
    parser.add_argument("--cache", type=Path, default=Path("."), help="folder for trained models")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.recipe:
        settings = read_recipe(arguments.recipe)
        data, name = load_data(settings), arguments.recipe
    else:
        settings = replace(MNIST, layer_options={"max_phase": arguments.max_phase})
        data, name = mnist(), f"mnist-{arguments.max_phase:g}"
    images = data.x_train[: arguments.images].split(50)
    measure = partial(accuracy, x=data.x_test, y=data.y_test)
    print("seed  rule     within   stored  accuracy" + "  moved     noisy" * arguments.shifts)

    def show(seed, rule, within, model):
        row = f"{seed:4}  {rule:8} {within:>6}  {orders(model)[0]:7}  {measure(model):8.2%}"
        if arguments.shifts:
            for x in shifted(data.x_test):
                row += f"  {accuracy(model, x, data.y_test):8.2%}"
        print(row, flush=True)

    for seed in arguments.seeds:
        model = trained(data, settings, seed, arguments.cache / f"{name}-{seed}.pt")
        show(seed, "full", "", model)
        for rule, options in RULES.items():
            policies = {"": States(arguments.at)}
            if not arguments.shifts:
                policies |= {f"{t:.1%}": MetricDrop(measure, t) for t in arguments.tolerance}
            for within, policy in policies.items():
                trial = copy.deepcopy(model)
                compress_(trial, policy, data=images if "gramians" in options else (), **options)
                show(seed, rule, within, trial)


def shifted(x):
    """The images two pixels further right and down; and with noise of half their deviation."""
    moved = x.view(-1, 28, 28).roll((2, 2), (1, 2)).view_as(x)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    return moved, x + 0.5 * noise


if __name__ == "__main__":
    main()
