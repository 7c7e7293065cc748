"""Processor time of `verify` beside that of the reduction it measures.

Random dense systems and, from `slicot` in the folder that COMPRESSM_DATA names, building, CDplayer,
heat-cont and iss, reduced to a quarter of their states. Prints the least of the repeats.

    COMPRESSM_DATA=folder/with/slicot python benchmarks/verify.py
"""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path
from time import process_time

import numpy as np

import lti

DATA = Path(os.environ.get("COMPRESSM_DATA", "../shared/data")) / "slicot"
MODELS = ("building", "CDplayer", "heat-cont", "iss")


def dense(n: int, ports: int) -> lti.StateSpace:
    rng = np.random.default_rng(0)
    A = rng.standard_normal((n, n)) / n**0.5 - 1.5 * np.eye(n)
    return lti.StateSpace(A, rng.standard_normal((n, ports)), rng.standard_normal((ports, n)))


def times(sys: lti.StateSpace, repeats: int) -> tuple[float, float]:
    """Milliseconds of the reduction, and of `verify`."""
    found = []
    for _ in range(repeats):
        start = process_time()
        reduction = lti.balanced_truncation(sys, sys.order // 4)
        middle = process_time()
        reduction.verify()
        found.append((1e3 * (middle - start), 1e3 * (process_time() - middle)))
    one, two = (min(x) for x in zip(*found, strict=True))
    return one, two


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    warnings.simplefilter("ignore")  # orders lowered to what is above rounding
    systems = {f"{n} states, {p} ports": dense(n, p) for n in (20, 50, 100) for p in (1, 4)}
    paths = [path for name in MODELS if (path := DATA / f"{name}.mat").exists()]
    systems |= {path.stem: lti.load(path) for path in paths}
    print("| system | reduction, ms | verify, ms | ratio |\n|---|---:|---:|---:|")
    for name, sys in systems.items():
        one, two = times(sys, repeats)
        print(f"| {name} | {one:.1f} | {two:.1f} | {two / one:.1f} |", flush=True)


if __name__ == "__main__":
    main()
