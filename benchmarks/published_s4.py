"""A training step of S4 beside the published layer's own torch path, alternating in one run.

``s4.py`` is the stand-alone file of the published code (github.com/state-spaces/s4, models/s4); it
needs einops, and pykeops must not be installed. Processor time, the fastest of the rounds.

    python benchmarks/published_s4.py path/to/s4.py --states 64 8
"""

from __future__ import annotations

import argparse
import importlib.util
from time import process_time

import torch

from compressm import S4, S4D


def step_time(layer, u) -> float:
    start = process_time()
    y = layer(u)
    (y[0] if isinstance(y, tuple) else y).square().mean().backward()
    return 1e3 * (process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source")
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--states", type=int, nargs="+", default=[64, 8], help="stored")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    spec = importlib.util.spec_from_file_location("published_s4", args.source)
    published = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(published)
    u = torch.randn(args.batch, args.length, args.channels)
    print("| stored states | S4, ms | published S4 | S4D, ms |\n|---:|---:|---:|---:|")
    for n in args.states:
        layers = {
            "S4": S4(args.channels, n, l_max=args.length),
            "published": published.FFTConv(
                args.channels, args.length, d_state=2 * n, mode="s4", activation=None,
                transposed=False,
            ),
            "S4D": S4D(args.channels, n),
        }  # fmt: skip
        times = {name: [] for name in layers}
        for _ in range(args.rounds):
            for name, layer in layers.items():
                times[name].append(step_time(layer, u))
        ours, theirs, diagonal = (min(x[1:]) for x in times.values())
        print(f"| {n} | {ours:.0f} | {theirs / ours:.1f}x | {diagonal:.0f} |", flush=True)


if __name__ == "__main__":
    main()
