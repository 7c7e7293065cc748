"""Balanced truncation of sparse systems: time, memory, decompositions, columns, residual, bound.

    python benchmarks/sparse.py [rail_371 rail_1357 heat:100000 chain:20000 ...]
    python benchmarks/sparse.py --plot heat.png   # of heat in a square over n: 15 minutes, 4 GB

Each case runs in a process of its own, on one thread, so that its peak of memory is its own. Where
pyMOR is installed, its low-rank balanced truncation runs beside (`--pymor`). The rail models are
read from COMPRESSM_DATA/sparse.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import scipy.sparse as sparse

import lti
from lti.gramians.low_rank import low_rank_factors
from lti.systems.stability import require_stable

CASES = ("rail_371", "rail_1357", "heat:1000", "heat:10000", "heat:100000", "chain:20000")
SIZES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
ORDER = 10


def heat(n: int) -> lti.SparseStateSpace:
    """Heat in a square, five-point differences: one heated corner, the mean of another read."""
    k = round(n**0.5)
    T = sparse.diags([1.0, -2.0, 1.0], [-1, 0, 1], shape=(k, k)) * (k + 1) ** 2
    A = sparse.kron(T, sparse.eye(k)) + sparse.kron(sparse.eye(k), T)
    x, y = np.meshgrid(*2 * [np.arange(1, k + 1) / (k + 1)], indexing="ij")
    B = ((x < 0.3) & (y < 0.3)).astype(float).ravel()[:, None]
    C = ((x > 0.6) & (y > 0.7)).astype(float).ravel()[None] / k**2
    return lti.SparseStateSpace(A, B, C)


def chain(n: int) -> lti.SparseStateSpace:
    """A chain of n / 2 masses with dampers: the last is pushed, its place is read."""
    k = n // 2
    K = sparse.diags([-1.0, 2.0, -1.0], [-1, 0, 1], shape=(k, k)) * 1e2
    D = 0.05 * K + 2.0 * sparse.eye(k)
    B = np.eye(k, 1, -(k - 1))
    return lti.second_order(sparse.eye(k), D, K, B, C_position=B.T)


def system(case: str) -> lti.SparseStateSpace:
    name, _, size = case.partition(":")
    if size:
        return {"heat": heat, "chain": chain}[name](int(size))
    folder = Path(os.environ.get("COMPRESSM_DATA", "../shared/data")) / "sparse"
    return lti.load(folder / f"{case}.mat")


def run(case: str) -> None:
    sys_ = system(case)
    start, cpu = time.perf_counter(), time.process_time()
    even = sys_.equilibrated.system  # what balanced_truncation does, step by step
    require_stable(even)
    found = low_rank_factors(even)
    balancing = lti.balance(even, controllability=found.S, observability=found.R)
    balancing.truncate(order=min(ORDER, balancing.minimal_order))
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    shapes, solves, residual = (found.S.shape[1], found.R.shape[1]), found.solves, found.residuals
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{case:<14} {sys_.order:>9} {cpu:8.2f} {wall:8.2f} {memory:8.0f} {solves:5d} "
        f"{shapes[0]:4d} {shapes[1]:4d} {max(residual):9.1e}",
        flush=True,
    )


def run_pymor(case: str) -> None:
    from pymor.models.iosys import LTIModel
    from pymor.reductors.bt import BTReductor

    sys_ = system(case)
    model = LTIModel.from_matrices(sys_.A, sys_.B, sys_.C, E=sys_.E)
    start, cpu = time.perf_counter(), time.process_time()
    BTReductor(model).reduce(ORDER)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{case + ' pyMOR':<14} {sys_.order:>9} {cpu:8.2f} {wall:8.2f} {memory:8.0f}", flush=True)


def alone(*arguments: str) -> str:
    """What a process of its own prints, which is shown as well."""
    threads = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(threads, "1")
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    print(done.stdout, end="", flush=True)
    return done.stdout


def plot(rows: list[str], path: str) -> None:
    """Seconds of a reduction and megabytes over n, with a line of slope one."""
    import matplotlib.pyplot as plt

    n, seconds, _, memory = np.array([row.split()[1:5] for row in rows], dtype=float).T
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for ax, label, values in zip(axes, ("CPU seconds", "peak memory, MB"), (seconds, memory),
                                 strict=True):  # fmt: skip
        ax.loglog(n, values, "o-", label="heat in a square")
        ax.loglog(n[-3:], values[-1] * n[-3:] / n[-1], ":", color="gray", label="proportional to n")
        ax.set(xlabel="states", ylabel=label)
        ax.legend()
    fig.savefig(path, dpi=100)


def main() -> None:
    given = [case for case in sys.argv[1:] if case != "--pymor"]
    if picture := given[1:] if given[:1] == ["--plot"] else []:
        given = [f"heat:{n}" for n in SIZES]
    if "--one" in given:
        (run_pymor if "--pymor" in sys.argv else run)(given[-1])
        return
    print(
        f"{'case':<14} {'states':>9} {'CPU s':>8} {'wall s':>8} {'MB':>8} solves columns   residual"
    )
    rows = []
    for case in given or CASES:
        rows.append(alone("--one", case))
        if "--pymor" in sys.argv:
            alone("--pymor", "--one", case)
    if picture:
        plot(rows, picture[0])


if __name__ == "__main__":
    main()
