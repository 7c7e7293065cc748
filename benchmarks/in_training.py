"""Sequential MNIST, paired seeds: full size, cut in training by each rule, small from scratch.

Each arm trains the same model on the same batches. Differences are those to the full arm of the
same seed, with their standard error. Seconds are those of training steps and cuts.

    COMPRESSM_DATA=folder/of/mnist.npz python benchmarks/in_training.py --seeds 0 1 2 3 4
"""

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path

import torch

from compressm import KeepEnergy
from compressm.data import mnist
from compressm.demo import MNIST
from compressm.training import run

RULES = {  # each with the share of its own energy that a cut keeps: they are not comparable
    "complex": (0.98, "model", "complex"),
    "real": (0.98, "model", "real"),
    "input": (0.9995, "input", "real"),
    "data": (0.9995, "data", "real"),
}


def measured(data, arm, seed, small):
    """Accuracy, stored states, seconds, and accuracies just before and after each cut."""
    settings, options = MNIST, {}
    if arm in RULES:
        energy, gramians, system = RULES[arm]
        settings = replace(MNIST, gramians=gramians)
        options = {"policy": KeepEnergy(energy), "system": system}
    elif arm == "small":
        settings = replace(MNIST, d_state=small)
    result = run(data, settings, seed=seed, **options)
    cuts = {event.step for event in result.events}
    around = [point.accuracy for point in result.history if point.step in cuts]
    return {
        "arm": arm,
        "seed": seed,
        "accuracy": result.accuracy,
        "states": result.orders[0],
        "seconds": result.seconds,
        "cuts": [[event.step, event.layers[0].after] for event in result.events],
        "around": list(zip(around[::2], around[1::2], strict=True)),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--arms", nargs="+", default=["full", *RULES, "small"])
    parser.add_argument("--small", type=int, default=24, help="states of the small arm")
    parser.add_argument("--output", type=Path, help="file to add a line of JSON to for each run")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data, found = mnist(), []
    for seed in arguments.seeds:
        for arm in arguments.arms:
            row = measured(data, arm, seed, arguments.small)
            found.append(row)
            if arguments.output:
                with arguments.output.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            print(f"{seed:3} {arm:8} {row['accuracy']:7.2%} {row['states']:4} states "
                  f"{row['seconds']:6.1f} s  {row['around']}", flush=True)  # fmt: skip
    report(found)


def report(found):
    """Means over seeds, and differences to the full arm of the same seed."""
    full = {row["seed"]: row for row in found if row["arm"] == "full"}
    for arm in dict.fromkeys(row["arm"] for row in found):
        rows = [row for row in found if row["arm"] == arm and row["seed"] in full]
        if not rows:
            continue
        differences = [row["accuracy"] - full[row["seed"]]["accuracy"] for row in rows]
        speeds = [full[row["seed"]]["seconds"] / row["seconds"] for row in rows]
        error = statistics.stdev(differences) / len(rows) ** 0.5 if len(rows) > 1 else float("nan")
        states = [row["states"] for row in rows]
        print(
            f"{arm:8} {statistics.mean(row['accuracy'] for row in rows):7.2%}  "
            f"{100 * statistics.mean(differences):+.2f} points (standard error {100 * error:.2f})  "
            f"{min(states)} to {max(states)} states  {statistics.mean(speeds):.1f} times as fast"
        )


if __name__ == "__main__":
    main()
