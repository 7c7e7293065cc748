"""Balanced truncation of sparse systems: time, memory, columns, residuals, values.

    python benchmarks/sparse.py [rail_371 rail_1357 heat:100000 chain:20000 ...]
    python benchmarks/sparse.py --peer PYTHON     # beside pyMOR, which this Python can import
    python benchmarks/sparse.py --plot heat.png   # of heat in a square over n: 15 minutes, 4 GB

Each run is a process of its own, on one thread, so that its peak of memory is its own. With a
peer the two alternate (`--rounds`), and the least times count. Residuals are those of the factors
that come out, ``|A P E^T + E P A^T + B B^T| / |B B^T|`` and the dual one, in the spectral norm; the
error is the largest of the Hankel singular values, over the first, by the dense route. The rail
models are read from COMPRESSM_DATA/sparse.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy.io
import scipy.sparse as sparse

import lti
from lti.gramians.low_rank import low_rank_factors
from lti.systems.pencil import Pencil
from lti.systems.second_order import SecondOrderPencil
from lti.systems.stability import require_stable

CASES = ("rail_371", "rail_1357", "heat:1000", "heat:10000", "heat:100000", "chain:20000")
SIZES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
ORDER = 10
MOST_DENSE = 1500  # states, up to which the values are compared with the dense ones
RAW = argparse.RawDescriptionHelpFormatter


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


def peak_memory() -> float:
    """Of this process alone, in MB: ru_maxrss would count that of its parent as well."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def run(case: str, path: str) -> None:
    sys_ = system(case)
    start, cpu = time.perf_counter(), time.process_time()
    even, left, right = sys_.equilibrated  # what balanced_truncation does, step by step
    require_stable(even)
    found = low_rank_factors(even)
    balancing = lti.balance(even, controllability=found.S, observability=found.R)
    balancing.truncate(order=min(ORDER, balancing.minimal_order))
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    memory = peak_memory()
    np.savez(path, S=right[:, None] * found.S, R=left[:, None] * found.R, solves=found.solves)
    print(cpu, wall, memory)


def write_matrices(sys_: lti.SparseStateSpace, path: str) -> None:
    pencil, B, C = sys_.pencil, sys_.B, sys_.C
    if isinstance(pencil, SecondOrderPencil):
        k = len(B) // 2
        found = {"M": pencil.M, "D": pencil.D, "K": pencil.K, "B": B[k:], "C": C[:, :k]}
    else:
        found = {"A": sys_.A, "B": B, "C": C} | ({} if sys_.E is None else {"E": sys_.E})
    scipy.io.savemat(path, found)


def residual(pencil: Pencil, B: np.ndarray, S: np.ndarray, dual: bool) -> float:
    """|A S S^T E^T + E S S^T A^T + B B^T| / |B B^T|, the spectral norms by a QR decomposition."""
    product = pencil.adjoint_product if dual else pencil.product
    R = np.linalg.qr(np.hstack([product(1.0, 0.0, S), product(0.0, 1.0, S), B]), mode="r")
    A, E, B = np.split(R, [S.shape[1], 2 * S.shape[1]], axis=1)
    return float(np.linalg.norm(A @ E.T + E @ A.T + B @ B.T, 2) / np.linalg.norm(B @ B.T, 2))


def row(case: str, who: str, sys_: lti.SparseStateSpace, runs: list[str], path: str) -> str:
    """A line of the table, of the least times of some runs and the factors of the last."""
    cpu, wall, memory = np.min([[float(x) for x in done.split()] for done in runs], axis=0)
    found = np.load(path)
    S, R = found["S"], found["R"]
    residuals = (residual(sys_.pencil, sys_.B, S, False), residual(sys_.pencil, sys_.C.T, R, True))
    line = (
        f"{case:<12} {who:<6} {sys_.order:>9} {cpu:8.2f} {wall:8.2f} {memory:6.0f} "
        f"{int(found.get('solves', 0)) or '':>6} {S.shape[1]:4d} {R.shape[1]:4d} "
        f"{residuals[0]:8.1e} {residuals[1]:8.1e}"
    )
    if sys_.order <= MOST_DENSE:
        exact = lti.hankel_singular_values(sys_.equilibrated.system.small_dense())
        values = np.linalg.svd(R.T @ sys_.times_E(S), compute_uv=False)
        line += f" {abs(values - exact[: len(values)]).max() / exact[0]:8.1e}"
    return line


def alone(python: str, file: str, *arguments: str) -> str:
    """What a process of its own prints."""
    threads = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(threads, "1")
    command = [python, str(Path(__file__).with_name(file)), *arguments]
    done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    return done.stdout


def plot(rows: list[str], path: str) -> None:
    """Seconds of a reduction and megabytes over n, with a line of slope one."""
    import matplotlib.pyplot as plt

    n, seconds, _, memory = np.array([row.split()[2:6] for row in rows], dtype=float).T
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for ax, label, values in zip(axes, ("CPU seconds", "peak memory, MB"), (seconds, memory),
                                 strict=True):  # fmt: skip
        ax.loglog(n, values, "o-", label="heat in a square")
        ax.loglog(n[-3:], values[-1] * n[-3:] / n[-1], ":", color="gray", label="proportional to n")
        ax.set(xlabel="states", ylabel=label)
        ax.legend()
    fig.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=RAW)
    parser.add_argument("cases", nargs="*", default=CASES)
    parser.add_argument("--peer", help="a Python that can import pyMOR")
    parser.add_argument("--rounds", type=int, default=3, help="of both in turn, with a peer")
    parser.add_argument("--plot", metavar="PNG")
    parser.add_argument("--one", metavar="NPZ", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        run(given.cases[0], given.one)
        return
    cases = [f"heat:{n}" for n in SIZES] if given.plot else given.cases
    print(f"{'case':<12} {'':<6} {'states':>9} {'CPU s':>8} {'wall s':>8} {'MB':>6} solves  columns"
          f" {'residuals':>17} {'error':>8}")  # fmt: skip
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs, matrices = (f"{folder}/{x}" for x in ("ours.npz", "theirs.npz", "model.mat"))
        for case in cases:
            sys_, runs = system(case), ([], [])
            write_matrices(sys_, matrices)
            for _ in range(given.rounds if given.peer else 1):
                runs[0].append(alone(sys.executable, "sparse.py", "--one", ours, case))
                if given.peer:
                    command = (given.peer, "sparse_pymor.py", matrices, str(ORDER), theirs)
                    runs[1].append(alone(*command))
            rows.append(row(case, "ours", sys_, runs[0], ours))
            print(rows[-1], flush=True)
            if given.peer:
                print(row(case, "pyMOR", sys_, runs[1], theirs), flush=True)
    if given.plot:
        plot(rows, given.plot)


if __name__ == "__main__":
    main()
