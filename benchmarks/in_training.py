"""Paired seeds: full size, cut in training by each rule, small from scratch, cut after training.

Each arm trains the same model on the same batches. Differences are those to the full arm of the
same seed, with their standard error. Seconds are those of training steps and cuts.

    COMPRESSM_DATA=folder/of/mnist.npz python benchmarks/in_training.py --seeds 0 1 2 3 4
    COMPRESSM_DATA=folder/of/fsdd.npz python benchmarks/in_training.py --recipe spoken-digits
    COMPRESSM_DATA=folder/of/ETTh1.csv python benchmarks/in_training.py --recipe etth1

An arm that is cut is a rule, with or without a number in place of the rule's own (the energy
fraction that each cut keeps, or the output error that it may make), and the weight of a penalty on
the Hankel nuclear norm: input, input:0.998, input:0.998+1e-3, output-error:0.02. "small" is trained
at the states that the first of these ends with, and "after" is the full model cut to them after the
last step, by 600 training sequences.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from compressm import KeepEnergy, OutputError, States, compress_
from compressm.experiments.data import METRICS, Metric
from compressm.experiments.demo import MNIST
from compressm.experiments.recipes import Recipe, load_data, read_recipe
from compressm.experiments.training import RunResult, evaluate, orders, run

RULES: dict[str, tuple[Any, float, Any, Any]] = {  # energies of two rules are not comparable
    "complex": (KeepEnergy, 0.98, "model", "complex"),
    "real": (KeepEnergy, 0.98, "model", "real"),
    "input": (KeepEnergy, 0.9995, "input", "real"),
    "data": (KeepEnergy, 0.9995, "data", "real"),
    "output-error": (OutputError, 0.005, "input", "real"),
}


def cut_as(settings: Recipe, arm: str) -> tuple[Recipe, dict[str, Any]]:
    """The settings of an arm, and what else its run takes."""
    name, _, weight = arm.partition("+")
    rule, _, number = name.partition(":")
    if arm == "full":
        return settings, {}
    if rule not in RULES:
        raise SystemExit(f"there is no arm {arm}; give full, small, after, or {', '.join(RULES)}")
    policy, usual, gramians, system = RULES[rule]
    settings = replace(
        settings, gramians=gramians, system=system, penalty_weight=float(weight or 0)
    )
    options = {"policy": policy(float(number or usual)), "system": system}
    return settings, options | ({"penalty": settings.make_penalty} if weight else {})


def row_of(arm: str, result: RunResult) -> dict[str, Any]:
    """Metrics, stored states, seconds, and what was so just before and just after each cut."""
    steps = {event.step for event in result.events}
    around = [point for point in result.history if point.step in steps]
    pairs = list(zip(around[::2], around[1::2], strict=True))
    return {
        "arm": arm,
        "seed": result.seed,
        **result.measured,
        "states": sum(result.orders) / len(result.orders),
        "seconds": result.seconds,
        "cutting": sum(after.seconds - before.seconds for before, after in pairs),
        "cuts": [[event.step, *(cut.after for cut in event.layers)] for event in result.events],
        "around": [(before.score, after.score) for before, after in pairs],
    }


def rows(data: Any, settings: Recipe, arms: list[str], seed: int, small: int | None) -> Any:
    """A row for each arm, as soon as there is one."""
    full = None
    for arm in arms:
        if arm == "small":
            if small is None:
                raise SystemExit("small needs --small N or, before it, an arm that is cut")
            result = run(data, replace(settings, d_state=small), seed=seed)
        elif arm == "after":
            if full is None or small is None:
                raise SystemExit("after needs the arms full and, before it, one that is cut")
            model, inputs = copy.deepcopy(full.model), data.x_train[:600].split(50)
            compress_(model, States(small), gramians="input", data=inputs)
            measured = evaluate(model, data.task, *data.test())
            result = replace(full, model=None, measured=measured, orders=orders(model))
        else:
            changed, options = cut_as(settings, arm)
            result = run(data, changed, seed=seed, **options)
            if arm == "full":
                full = result
            small = small or (round(row_of(arm, result)["states"]) if result.events else None)
        yield row_of(arm, result)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = parser.add_argument
    option("--recipe", help="in place of the MNIST model of the demo, such as spoken-digits")
    option(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings in place of its own"
    )
    option("--seeds", type=int, nargs="+", default=[0])
    option("--arms", nargs="+", default=["full", "input", "complex", "real", "data", "small"])
    option("--small", type=int, help="states of the arms small and after")
    option("--output", type=Path, help="file to add a line of JSON to for each run")
    option("--rows", type=Path, nargs="+", help="only the table, of what such files hold")
    arguments = parser.parse_args()
    if arguments.rows:
        lines = [line for path in arguments.rows for line in path.read_text().splitlines()]
        return report([json.loads(line) for line in lines])
    torch.set_num_threads(1)
    if arguments.recipe:
        settings = read_recipe(arguments.recipe, arguments.set)
    else:
        settings = read_recipe("smnist", [*as_set(), *arguments.set])
    data, found = load_data(settings), []
    for seed in arguments.seeds:
        for row in rows(data, settings, arguments.arms, seed, arguments.small):
            found.append(row)
            if arguments.output:
                with arguments.output.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            shown = metric_of(row).shown(row[metric_of(row).name])
            print(f"{seed:3} {row['arm']:16} {shown:>7} {row['states']:5g} states "
                  f"{row['seconds']:6.1f} s  {row['around']}", flush=True)  # fmt: skip
    report(found)


def as_set() -> list[str]:
    """The settings of the demo on MNIST, as changes to a recipe."""
    names = ("steps", "lr", "lr_schedule", "weight_decay", "dropout", "eval_every", "cuts")
    return [f"{name}={vars(MNIST)[name]}" for name in names] + [
        f"layer_options={json.dumps(MNIST.layer_options)}"
    ]


def metric_of(row: dict[str, Any]) -> Metric:
    """The metric that compares runs, by the names in a row."""
    return next(metric for name, metric in METRICS.items() if name in row)


def report(found: list[dict[str, Any]]) -> None:
    """Means over seeds, and differences to the full arm of the same seed."""
    full = {row["seed"]: row for row in found if row["arm"] == "full"}
    metric = metric_of(found[0])
    print(f"\n| arm | {metric.name} | against full (standard error) | states at the end | seconds "
          "| times as fast | in cuts |")  # fmt: skip
    print("|---|---:|---:|---|---:|---:|---:|")
    for arm in dict.fromkeys(row["arm"] for row in found):
        paired = [row for row in found if row["arm"] == arm and row["seed"] in full]
        if not paired:
            continue
        changes = [row[metric.name] - full[row["seed"]][metric.name] for row in paired]
        error = statistics.stdev(changes) / len(paired) ** 0.5 if len(paired) > 1 else float("nan")
        change, error = metric.difference(statistics.mean(changes)), metric.difference(error)
        against = "" if arm == "full" else f"{change} ({error.lstrip('+')})"
        states = sorted(row["states"] for row in paired)
        span = f"{states[0]:g}" + (f" to {states[-1]:g}" if states[0] < states[-1] else "")
        score, seconds = (
            statistics.mean(row[key] for row in paired) for key in (metric.name, "seconds")
        )
        speed = statistics.mean(full[row["seed"]]["seconds"] / row["seconds"] for row in paired)
        share = statistics.mean(row["cutting"] / row["seconds"] for row in paired)
        print(
            f"| {arm} | {metric.shown(score)} | {against} | {span} | {seconds:.0f} "
            f"| {speed:.1f} | {share:.1%} |"
        )


if __name__ == "__main__":
    main()
