"""What `preview(measure=True)` says that a cut saves, beside what a training step then takes.

Forward and backward pass of a model of two blocks on random data, on one thread. The predicted step
is the step before, less what `preview` measured that the layers save. Prints a Markdown table,
in milliseconds.

    python benchmarks/predicted_step.py --layers lru s4 --states 64 --cut 16
"""

from __future__ import annotations

import argparse
from statistics import median
from time import perf_counter

import torch

from compressm import SequenceModel, States, compress_, preview
from compressm.models import LAYERS


def step_time(model: SequenceModel, u: torch.Tensor, repeats: int = 7) -> float:
    """Milliseconds of a forward and backward pass: the median after the first two."""
    times = []
    for _ in range(2 + repeats):
        start = perf_counter()
        model(u).square().mean().backward()
        times.append(1e3 * (perf_counter() - start))
        model.zero_grad()
    return median(times[2:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", nargs="+", choices=LAYERS, default=list(LAYERS))
    parser.add_argument("--states", type=int, default=64)
    parser.add_argument("--cut", type=int, default=16)
    parser.add_argument("--d-model", type=int, default=32)
    parser.add_argument("--length", type=int, default=512)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    print("| layer | layers before | layers after | step before | predicted | step after |")
    print("|---|---:|---:|---:|---:|---:|")
    for layer in arguments.layers:
        torch.manual_seed(0)
        u = torch.randn(8, arguments.length, 1)
        size = {"d_model": arguments.d_model, "d_state": arguments.states, "n_layers": 2}
        model = SequenceModel(d_input=1, d_output=10, layer=layer, **size)
        policy = States(arguments.cut)
        (event,) = preview(model, [policy], data=[u], measure=True)
        before, after = (1e3 * sum(cut.step_seconds[i] for cut in event.layers) for i in (0, 1))
        step = step_time(model, u)
        compress_(model, policy, data=[u])
        row = (before, after, step, step - before + after, step_time(model, u))
        print(f"| {layer} | {' | '.join(f'{x:.1f}' for x in row)} |", flush=True)


if __name__ == "__main__":
    main()
