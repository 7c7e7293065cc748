"""Paired seeds: full size, cut in training by each rule, small from scratch, cut after training.

Each arm trains the same model on the same batches. Differences are those to the full arm of the
same seed, with their standard error. Seconds are those of training steps and cuts.

    COMPRESSM_DATA=folder/of/mnist.npz python benchmarks/in_training.py --seeds 0 1 2 3 4
    COMPRESSM_DATA=folder/of/fsdd.npz python benchmarks/in_training.py --recipe spoken-digits
    COMPRESSM_DATA=folder/of/ETTh1.csv python benchmarks/in_training.py --recipe etth1
    COMPRESSM_DATA=folder/of/mnist.npz python benchmarks/in_training.py --recipe mnist-rows \
        --layers lru s5 s4 --arms full default paper small after --plot families.png

An arm that is cut is a rule, with or without a number in place of the rule's own (the energy
fraction that each cut keeps, or the output error that it may make), and the weight of a penalty on
the Hankel nuclear norm: input, input:0.998, input:0.998+1e-3, output-error:0.02. "default" is what
the library does if nothing is said, "paper" the rule of the CompreSSM paper: 98% of the values of
the complex system, exact, in four cuts within the first tenth. "small" is trained at the states
that the first of these ends with, and "after" is the full model cut to them after the last step, by
600 training sequences.
"""

from __future__ import annotations

import argparse
import copy
import itertools
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
from compressm.experiments.training import RunResult, Step, evaluate, orders, run
from compressm.models import LAYERS

RULES: dict[str, tuple[Any, float, Any, Any]] = {  # energies of two rules are not comparable
    "complex": (KeepEnergy, 0.98, "model", "complex"),
    "real": (KeepEnergy, 0.98, "model", "real"),
    "input": (KeepEnergy, 0.9995, "input", "real"),
    "data": (KeepEnergy, 0.9995, "data", "real"),
    "output-error": (OutputError, 0.005, "input", "real"),
    "paper": (KeepEnergy, 0.98, "model", "complex"),
}
SETTINGS = {"paper": {"cuts": 4, "cut_window": 0.1}}  # of a rule, in place of the recipe's


def cut_as(settings: Recipe, arm: str) -> tuple[Recipe, dict[str, Any]]:
    """The settings of an arm, and what else its run takes."""
    name, _, weight = arm.partition("+")
    rule, _, number = name.partition(":")
    if arm == "full":
        return settings, {}
    if arm == "default":
        settings = replace(settings, gramians=None, energy=None, output_error=None)
        return settings, {"policy": settings.make_policy()}
    if rule not in RULES:
        raise SystemExit(f"there is no arm {arm}; give full, small, after, or {', '.join(RULES)}")
    policy, usual, gramians, system = RULES[rule]
    settings = replace(
        settings,
        gramians=gramians,
        system=system,
        penalty_weight=float(weight or 0),
        **SETTINGS.get(rule, {}),
    )
    options = {"policy": policy(float(number or usual)), "system": system}
    return settings, options | ({"penalty": settings.make_penalty} if weight else {})


def row_of(arm: str, layer: str, result: RunResult, steps: list[Step]) -> dict[str, Any]:
    """Metrics, stored states, seconds, and what was so just before and just after each cut."""
    cuts = [event.step for event in result.events]
    around = [point for point in result.history if point.step in set(cuts)]
    pairs = list(zip(around[::2], around[1::2], strict=True))
    each = [1e3 * (after.seconds - before.seconds) for before, after in itertools.pairwise(steps)]
    first, last = (cuts[0], cuts[-1]) if cuts else (len(each), 0)
    return {
        "arm": arm,
        "layer": layer,
        "seed": result.seed,
        **result.measured,
        "states": sum(result.orders) / len(result.orders),
        "seconds": result.seconds,
        "ms": [statistics.median(part or each) for part in (each[: first - 2], each[last:])],
        "cutting": sum(after.seconds - before.seconds for before, after in pairs),
        "cuts": [[event.step, *(cut.after for cut in event.layers)] for event in result.events],
        "around": [(before.score, after.score) for before, after in pairs],
    }


def rows(data: Any, settings: Recipe, arms: list[str], seed: int, small: int | None) -> Any:
    """A row for each arm, as soon as there is one."""
    full, full_steps = None, []
    for arm in arms:
        steps: list[Step] = []
        if arm == "small":
            if small is None:
                raise SystemExit("small needs --small N or, before it, an arm that is cut")
            changed = replace(settings, d_state=small)
            result = run(data, changed, seed=seed, on_step=steps.append)
        elif arm == "after":
            if full is None or small is None:
                raise SystemExit("after needs the arms full and, before it, one that is cut")
            model, inputs = copy.deepcopy(full.model), data.x_train[:600].split(50)
            compress_(model, States(small), gramians="input", data=inputs)
            measured = evaluate(model, data.task, *data.test())
            result = replace(full, model=None, measured=measured, orders=orders(model))
            steps = full_steps
        else:
            changed, options = cut_as(settings, arm)
            result = run(data, changed, seed=seed, on_step=steps.append, **options)
            if arm == "full":
                full, full_steps = result, steps
            elif max(result.orders) < settings.d_state:
                small = small or round(sum(result.orders) / len(result.orders))
        yield row_of(arm, settings.layer, result, steps)


def of_layer(settings: Recipe, layer: str, length: int) -> Recipe:
    """The settings with another layer, with the options of its own."""
    if layer == settings.layer:
        return settings
    return replace(settings, layer=layer, layer_options={"l_max": length} if layer == "s4" else {})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = parser.add_argument
    option("--recipe", help="in place of the MNIST model of the demo, such as spoken-digits")
    option(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings in place of its own"
    )
    option("--layers", nargs="+", choices=sorted(LAYERS), help="in place of the recipe's")
    option("--seeds", type=int, nargs="+", default=[0])
    option("--arms", nargs="+", default=["full", "input", "complex", "real", "data", "small"])
    option("--small", type=int, help="states of the arms small and after")
    option("--output", type=Path, help="file to add a line of JSON to for each run")
    option("--rows", type=Path, nargs="+", help="only the table, of what such files hold")
    option("--plot", type=Path, help="picture of the metric against the time of a training")
    arguments = parser.parse_args()
    if arguments.rows:
        lines = [line for path in arguments.rows for line in path.read_text().splitlines()]
        return report([json.loads(line) for line in lines], arguments.plot)
    torch.set_num_threads(1)
    if arguments.recipe:
        settings = read_recipe(arguments.recipe, arguments.set)
    else:
        settings = read_recipe("smnist", [*as_set(), *arguments.set])
    data, found = load_data(settings), []
    layers = arguments.layers or [settings.layer]
    each = [of_layer(settings, layer, data.length) for layer in layers]
    for settings, seed in itertools.product(each, arguments.seeds):
        for row in rows(data, settings, arguments.arms, seed, arguments.small):
            found.append(row)
            if arguments.output:
                with arguments.output.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            shown = metric_of(row).shown(row[metric_of(row).name])
            print(f"{seed:3} {row['layer']} {row['arm']:16} {shown:>7} {row['states']:5g} states "
                  f"{row['seconds']:6.1f} s  {row['around']}", flush=True)  # fmt: skip
    report(found, arguments.plot)


def as_set() -> list[str]:
    """The settings of the demo on MNIST, as changes to a recipe."""
    names = ("steps", "lr", "lr_schedule", "weight_decay", "dropout", "eval_every", "cuts")
    return [f"{name}={vars(MNIST)[name]}" for name in names] + [
        f"layer_options={json.dumps(MNIST.layer_options)}"
    ]


def metric_of(row: dict[str, Any]) -> Metric:
    """The metric that compares runs, by the names in a row."""
    return next(metric for name, metric in METRICS.items() if name in row)


def report(found: list[dict[str, Any]], plot: Path | None) -> None:
    """Means over seeds, and differences to the full arm of the same layer and seed."""
    full = {(row["layer"], row["seed"]): row for row in found if row["arm"] == "full"}
    metric, points = metric_of(found[0]), []
    print(f"\n| layer | arm | {metric.name} | against full (standard error) | states at the end "
          "| seconds | times as fast | ms a step | in cuts |")  # fmt: skip
    print("|---|---|---:|---:|---|---:|---:|---:|---:|")
    for layer, arm in dict.fromkeys((row["layer"], row["arm"]) for row in found):
        of_arm = [row for row in found if (row["layer"], row["arm"]) == (layer, arm)]
        paired = [(row, full[layer, row["seed"]]) for row in of_arm if (layer, row["seed"]) in full]
        if not paired:
            continue
        changes = [row[metric.name] - base[metric.name] for row, base in paired]
        error = statistics.stdev(changes) / len(paired) ** 0.5 if len(paired) > 1 else float("nan")
        change, shown = metric.difference(statistics.mean(changes)), metric.difference(error)
        against = "" if arm == "full" else change
        against += f" ({shown.lstrip('+')})" if against and len(paired) > 1 else ""
        states = sorted(row["states"] for row, _ in paired)
        span = f"{states[0]:g}" + (f" to {states[-1]:g}" if states[0] < states[-1] else "")
        score, seconds = (
            statistics.mean(row[key] for row, _ in paired) for key in (metric.name, "seconds")
        )
        speed = statistics.mean(base["seconds"] / row["seconds"] for row, base in paired)
        share = statistics.mean(row["cutting"] / row["seconds"] for row, _ in paired)
        before, after = (statistics.median(row["ms"][i] for row, _ in paired) for i in (0, 1))
        ms = f"{before:.1f}" + (f" to {after:.1f}" if paired[0][0]["cuts"] else "")
        print(
            f"| {layer} | {arm} | {metric.shown(score)} | {against} | {span} | {seconds:.0f} "
            f"| {speed:.1f} | {ms} | {share:.1%} |"
        )
        points.append((layer, arm, seconds, score, error))
    if plot:
        draw(points, metric, plot)


def draw(points: list[tuple[str, str, float, float, float]], metric: Metric, path: Path) -> None:
    """The metric of each layer and arm against the seconds of a training."""
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    layers, arms = (list(dict.fromkeys(point[i] for point in points)) for i in (0, 1))
    for layer, arm, seconds, score, error in points:
        axes.errorbar(
            seconds,
            score,
            0 if error != error else error,
            marker="os^Dvx+"[arms.index(arm) % 7],
            color=f"C{layers.index(layer)}",
            elinewidth=0.8,
        )
    handles = [Line2D([], [], color=f"C{i}", linewidth=4, label=x) for i, x in enumerate(layers)]
    handles += [
        Line2D([], [], color="black", ls="", marker="os^Dvx+"[i % 7], label=arm)
        for i, arm in enumerate(arms)
    ]
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    axes.set(xlabel="seconds of a training", ylabel=metric.name, xlim=(0, None))
    axes.yaxis.set_major_formatter(lambda value, _: metric.shown(value))
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
