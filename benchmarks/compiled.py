"""Time of a training step, compiled against eager, before and after a cut.

    python benchmarks/compiled.py LRU S5 --states 256 16

One row a layer and size: milliseconds eager and compiled, their ratio, the first compiled call in
seconds; then the same after a cut to an eighth of the states. One thread, in CPU time, which other
processes do not add to.
"""

import argparse
import statistics
import time
import warnings

import torch

import compressm
from compressm import SequenceModel, States, compress_

REPEATS = 25


def seconds(step):
    start = time.process_time()
    step()
    return time.process_time() - start


def row(label, model, compiled, u):
    def step(run):
        run(u).square().mean().backward()

    def alternating():
        """Pairs of times, one after the other, so that a change of the machine is in both."""
        return [
            [seconds(lambda run=run: step(run)) for run in (model, compiled)]
            for _ in range(REPEATS)
        ]

    step(model)
    first = seconds(lambda: step(compiled))
    eager, fast = (1e3 * statistics.quantiles(x)[0] for x in zip(*alternating(), strict=True))
    print(f"| {label} | {eager:.1f} | {fast:.1f} | {fast / eager:.2f} | {first:.1f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("layers", nargs="*", default=["LRU", "S5"])
    parser.add_argument("--states", type=int, nargs="+", default=[256, 16])
    parser.add_argument("--length", type=int, default=784)
    parser.add_argument("--batch", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # inductor does not generate code for complex numbers
    print("| layer, states | eager, ms | compiled, ms | ratio | first call, s |")
    print("|---|---:|---:|---:|---:|")
    for name in options.layers:
        for n in options.states:
            torch.manual_seed(0)
            torch.compiler.reset()
            kind = getattr(compressm, name)
            model = SequenceModel(1, 10, d_model=16, d_state=n, n_layers=2, layer=kind)
            compiled, u = torch.compile(model), torch.randn(options.batch, options.length, 1)
            row(f"{name}, {n}", model, compiled, u)
            compress_(model, States(n // 8), data=[u])
            row(f"{name}, {n} cut to {n // 8}", model, compiled, u)


if __name__ == "__main__":
    main()
