"""Time of a training step, compiled against eager, before and after a cut.

    python benchmarks/compiled.py LRU S5 --states 256 16

One row a layer and size: milliseconds eager and compiled, their ratio, the first compiled call in
seconds; then the same after a cut to an eighth of the states. One thread.
"""

import argparse
import time
import warnings

import torch

import compressm
from compressm import SequenceModel, States, compress_

REPEATS = 7


def milliseconds(step):
    """The first call and the fastest of several later ones."""
    times = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - start))
    return times[0], min(times[1:])


def row(label, model, compiled, u):
    def step(run):
        run(u).square().mean().backward()

    _, eager = milliseconds(lambda: step(model))
    first, fast = milliseconds(lambda: step(compiled))
    print(
        f"| {label} | {eager:.1f} | {fast:.1f} | {fast / eager:.2f} | {first / 1e3:.1f} |",
        flush=True,
    )


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
            compress_(model, States(n // 8))
            row(f"{name}, {n} cut to {n // 8}", model, compiled, u)


if __name__ == "__main__":
    main()
