"""One budget of states for all layers, against the same number in each: accuracy right after a cut.

A model of several layers is trained on sequential digits, then cut once, without training after it.

    python benchmarks/budget.py --seeds 0 1 2 3 4
"""

import argparse
import copy
import statistics

import torch
from torch import nn

from compressm import Budget, SequenceModel, States, compress_
from compressm.experiments.data import digits
from compressm.experiments.training import accuracy, orders


def trained(data, layer, layers, steps, seed):
    torch.manual_seed(seed)
    model = SequenceModel(1, 10, d_model=16, d_state=32, n_layers=layers, layer=layer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        index = torch.randint(len(data.y_train), (50,))
        nn.functional.cross_entropy(model(data.x_train[index]), data.y_train[index]).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layer", default="lru")
    parser.add_argument("--n-layers", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--each", type=int, nargs="+", default=[4, 6, 8, 12])
    parser.add_argument("--gramians", default="input", choices=("model", "input", "data"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = digits()
    seen = data.x_train[:500].split(50)
    gains = {each: [] for each in arguments.each}
    print("seed  states in all  same in each  one budget")
    for seed in arguments.seeds:
        model = trained(data, arguments.layer, arguments.n_layers, arguments.steps, seed)
        print(f"{seed:4}  full: {accuracy(model, data.x_test, data.y_test):.1%}")
        for each in arguments.each:
            total, found = arguments.n_layers * each, []
            for policy in (States(each), Budget(total=total)):
                trial = copy.deepcopy(model)
                compress_(trial, policy, gramians=arguments.gramians, data=seen)
                found.append((accuracy(trial, data.x_test, data.y_test), orders(trial)))
            gains[each].append(found[1][0] - found[0][0])
            shown = "  ".join(f"{a:.1%} {stored}" for a, stored in found)
            print(f"{seed:4}  {total:4}  {shown}", flush=True)
    for each, gain in gains.items():
        error = statistics.stdev(gain) / len(gain) ** 0.5 if len(gain) > 1 else float("nan")
        print(
            f"{each} in each: one budget is {100 * statistics.mean(gain):+.1f} points better "
            f"(standard error {100 * error:.1f})"
        )


if __name__ == "__main__":
    main()
