"""Every layer on sequential digits: accuracy and step time around a cut to a quarter of its states.

Runs from one seed are the same up to the cut, in which three quarters of the states go at a third
of the way. Medians of step times, one thread.

    python benchmarks/layers.py --seeds 0 1 2
"""

import argparse
import statistics
from time import perf_counter

import torch
from torch import nn

from compressm import SequenceModel, States, compress_, keep_states_
from compressm.experiments.data import digits
from compressm.experiments.training import accuracy, orders
from compressm.models import LAYERS
from compressm.systems.find import selective_layers


def trained(data, name, n, steps, seed, gramians=None):
    """Accuracies before and after the cut and at the end, stored states, milliseconds a step."""
    torch.manual_seed(seed)
    model = SequenceModel(1, 10, d_model=16, d_state=n, n_layers=1, layer=name)
    slow = [p for k, p in model.named_parameters() if k.endswith("log_dt")]  # as usual
    rest = [p for p in model.parameters() if all(p is not q for q in slow)]
    optimizer = torch.optim.AdamW([{"params": rest}, {"params": slow, "lr": 1e-4}], lr=4e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    cut_at, seconds, found = steps // 3, ([], []), []
    batches = torch.randint(len(data.y_train), (steps, 50))
    for step, index in enumerate(batches):
        if step == cut_at:
            found.append(accuracy(model, data.x_test, data.y_test))
            if gramians is not None:
                cut(model, n // 4, optimizer, gramians, data.x_train[batches[:step][-10:]].unbind())
            found.append(accuracy(model, data.x_test, data.y_test))
        start = perf_counter()
        loss = nn.functional.cross_entropy(model(data.x_train[index]), data.y_train[index])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        seconds[step >= cut_at].append(perf_counter() - start)
    found.append(accuracy(model, data.x_test, data.y_test))
    return found, orders(model), [1e3 * statistics.median(x) for x in seconds]


def cut(model, n, optimizer, gramians, seen):
    """Keep n states of each layer, by Gramians, or, of a selective one, at random."""
    if gramians == "random":
        for _, layer in selective_layers(model):
            keep_states_(layer, torch.randperm(layer.d_state)[:n].tolist(), optimizer)
        return
    if gramians == "model" and not any(selective_layers(model)):
        seen = ()
    for layer in compress_(model, States(n), optimizer, gramians=gramians, data=seen).layers:
        if layer.skipped:
            print(f"{layer.name}: {layer.skipped}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", nargs="+", choices=sorted(LAYERS), default=sorted(LAYERS))
    parser.add_argument("--gramians", nargs="+", default=["model", "input", "data"])
    parser.add_argument("--states", type=int, default=32)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--plot", metavar="PNG", help="draw accuracies around the cut")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data, rows = digits(), {}
    print("layer  cut by  seed  states  accuracy: before   after  at the end  ms a step")
    for name in arguments.layers:
        for gramians in (None, *arguments.gramians):
            for seed in arguments.seeds:
                found, stored, ms = trained(
                    data, name, arguments.states, arguments.steps, seed, gramians
                )
                accuracies = "".join(f"{x:9.1%}" for x in found)
                times = f"{ms[0]:.1f} -> {ms[1]:.1f}"
                if gramians is None or stored[0] < arguments.states:  # else it was left as it is
                    rows.setdefault((name, gramians), []).append(found)
                run = f"{name:6} {gramians or 'nothing':8} {seed}  {stored[0]:4}"
                print(f"{run}  {accuracies}  {times}", flush=True)

    if arguments.plot:
        draw(rows, arguments.plot)


def draw(rows, path):
    """Accuracy just before a cut, and just after it by each rule: means and all seeds."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for name, _ in rows))
    rules = [rule for rule in dict.fromkeys(rule for _, rule in rows) if rule]
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    marks = {"before": ("#555555", "D"), "model": ("#D55E00", "s"), "input": ("#0072B2", "o"),
             "data": ("#009E73", "^"), "random": ("#CC79A7", "x")}  # fmt: skip
    width = 0.7 / (len(rules) + 1)
    for i, kind in enumerate(("before", *rules)):
        color, mark = marks[kind]
        for j, name in enumerate(names):
            runs = rows.get((name, None if kind == "before" else kind))
            if not runs:
                continue
            seen = [100 * (run[0] if kind == "before" else run[1]) for run in runs]
            x = j + (i - len(rules) / 2) * width
            axes.plot([x] * len(seen), seen, "_", color=color, markersize=7, alpha=0.6)
            label = None if j else ("before the cut" if kind == "before" else f"after, {kind}")
            axes.plot(x, statistics.mean(seen), mark, color=color, markersize=7, label=label)
    axes.set_xticks(range(len(names)), [name.upper() for name in names])
    axes.set_ylabel("test accuracy, %")
    axes.grid(axis="y", color="#e5e5e5")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title("Three quarters of the states cut, nothing trained afterwards", loc="left")
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=160)


if __name__ == "__main__":
    main()
