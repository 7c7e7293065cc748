"""What a penalty adds to one training step, as a fraction of the step without it.

Two models: that of sequential MNIST (one block, 256 states, 8 channels, length 784, batch 50) and
six blocks of 384 states and 512 channels (length 1024, batch 4). Steps with and without alternate
in one run. "Between" is a step between two balancings; "in all" has the part of a balancing that
each of the `--refresh` evaluations bears.

    python benchmarks/penalty.py [--models mnist cifar] [--repeats 15] [--threads 1]
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from statistics import median
from time import perf_counter

for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(name, None)

import torch  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402

from compressm import HankelPenalty, SequenceModel  # noqa: E402

MODELS = {
    "mnist": ({"d_model": 8, "d_state": 256, "n_layers": 1, "d_input": 1}, (50, 784, 1)),
    "cifar": ({"d_model": 512, "d_state": 384, "n_layers": 6, "d_input": 3}, (4, 1024, 3)),
}


def milliseconds(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return 1e3 * (perf_counter() - start)


def measure(which: str, system: str, repeats: int, refresh: int) -> None:
    sizes, shape = MODELS[which]
    torch.manual_seed(0)
    model = SequenceModel(d_output=10, **sizes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    u, target = torch.rand(shape), torch.randint(10, shape[:1])
    penalty = HankelPenalty(model, refresh=10**9, system=system)  # balanced once, below

    def step(weight: float) -> None:
        loss = cross_entropy(model(u), target)
        (loss + weight * penalty() if weight else loss).backward()
        optimizer.step()
        optimizer.zero_grad()

    step(0), step(1e-6)
    balancing = milliseconds(HankelPenalty(model, system=system))
    pairs = [[milliseconds(lambda w=w: step(w)) for w in (0, 1e-6)] for _ in range(repeats)]
    base = median(plain for plain, _ in pairs)
    between = median(penalized - plain for plain, penalized in pairs) / base
    total = between + balancing / base / refresh
    print(
        f"| {which:5} | {system:7} | {base:8.1f} | {balancing:9.0f} | {1 + between:7.3f} "
        f"| {1 + total:7.3f} | {1 + total / 10:8.3f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--refresh", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("| model | system  |  step ms | balancing | between | in all  | every=10 |")
    print("|-------|---------|---------:|----------:|--------:|--------:|---------:|")
    for which in arguments.models:
        for system in ("real", "complex"):
            measure(which, system, arguments.repeats, arguments.refresh)


if __name__ == "__main__":
    main()
