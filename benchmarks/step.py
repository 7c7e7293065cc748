"""Milliseconds of one training step against the number of states.

The network of sequential MNIST: one block, 8 channels, length 784, batches of 50, random data;
forward, backward and AdamW. Prints a Markdown table: the median and the fastest of the repeats, the
share of the first row.

    python benchmarks/step.py --states 256 16 --threads 1
"""

from __future__ import annotations

import argparse
from statistics import median
from time import perf_counter

import torch
from torch.nn.functional import cross_entropy

from compressm import SequenceModel


def step_times(d_state: int, repeats: int, warmup: int = 3) -> list[float]:
    torch.manual_seed(0)
    model = SequenceModel(d_input=1, d_output=10, d_model=8, d_state=d_state, n_layers=1)
    optimizer = torch.optim.AdamW(model.parameters())
    u, target = torch.rand(50, 784, 1), torch.randint(10, (50,))
    times = []
    for _ in range(warmup + repeats):
        start = perf_counter()
        cross_entropy(model(u), target).backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(1e3 * (perf_counter() - start))
    return times[warmup:]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--states", type=int, nargs="+", default=[256, 128, 64, 32, 16])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    print("|   n | median ms | fastest ms | share |")
    print("|----:|----------:|-----------:|------:|")
    first = None
    for n in arguments.states:
        times = step_times(n, arguments.repeats)
        first = first or median(times)
        share = median(times) / first
        print(f"| {n:3} | {median(times):9.1f} | {min(times):10.1f} | {share:5.0%} |", flush=True)


if __name__ == "__main__":
    main()
