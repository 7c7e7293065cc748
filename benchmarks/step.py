"""Milliseconds of one training step against the number of states, and the share of the layers.

Forward, backward and AdamW on random data; else the network of sequential MNIST: one block, 8
channels, length 784, batches of 50. Rows of one layer take turns, step by step, so that whatever
else the machine does hits all alike. Prints a Markdown table: the median, the share of the step
that goes when the state-space layers do nothing, how much faster the step is than the first, and
the memory that steps add to that of the model and its optimizer, at their peak, each row in a
process of its own (Linux).

    python benchmarks/step.py --states 256 16
    python benchmarks/step.py --layers lru s5 s4 lssl --width 64 --length 2048 --batch 4 --blocks 2
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import re
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import process_time

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from compressm import SequenceModel
from compressm.models import LAYERS


class Nothing(nn.Module):
    """In place of a layer: the rest of the step."""

    def __init__(self, d_model: int, d_state: int) -> None:
        super().__init__()

    def forward(self, u: Tensor) -> Tensor:
        return u


def step_of(layer: str | type[nn.Module], n: int, args: argparse.Namespace) -> Callable[[], float]:
    """One training step, and its milliseconds of processor time."""
    torch.manual_seed(0)
    options = {"l_max": args.length} if layer == "s4" else {}
    model = SequenceModel(1, 10, args.width, n, args.blocks, layer=layer, **options)
    optimizer = torch.optim.AdamW(model.parameters())
    u, target = torch.rand(args.batch, args.length, 1), torch.randint(10, (args.batch,))

    def step() -> float:
        start = process_time()
        cross_entropy(model(u), target).backward()
        optimizer.step()
        optimizer.zero_grad()
        return 1e3 * (process_time() - start)

    return step


def memory_of(layer: str, n: int, args: argparse.Namespace) -> float:
    """MB that three steps add to the process, at their peak."""
    torch.set_num_threads(args.threads)
    step = step_of(layer, n, args)
    ctypes.CDLL(None).malloc_trim(0)  # what building the model has left free
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins again at what is used now
    before = megabytes("VmRSS")
    for _ in range(3):
        step()
    return megabytes("VmHWM") - before


def megabytes(name: str) -> float:
    return int(re.findall(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = parser.add_argument
    option("--layers", nargs="+", choices=sorted(LAYERS), default=["lru"])
    option("--states", type=int, nargs="+", default=[256, 128, 64, 32, 16])
    option("--width", type=int, default=8, help="channels")
    option("--length", type=int, default=784)
    option("--batch", type=int, default=50)
    option("--blocks", type=int, default=1)
    option("--repeats", type=int, default=20)
    option("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    print("| layer | states | ms | share of the layers | times as fast | MB |")
    print("|---|---:|---:|---:|---:|---:|")
    for layer in args.layers:
        steps = [step_of(Nothing, 1, args)] + [step_of(layer, n, args) for n in args.states]
        rounds = [[step() for step in steps] for _ in range(args.repeats + 2)][2:]
        rest, *each = (median(times) for times in zip(*rounds, strict=True))
        for n, ms in zip(args.states, each, strict=True):
            share, faster = 1 - rest / ms, each[0] / ms
            with multiprocessing.get_context("spawn").Pool(1) as alone:
                memory = alone.apply(memory_of, (layer, n, args))
            print(
                f"| {layer} | {n} | {ms:.1f} | {share:.0%} | {faster:.1f} | {memory:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
