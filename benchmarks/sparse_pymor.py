"""Low-rank balanced truncation by pyMOR, which `benchmarks/sparse.py --peer PYTHON` starts.

    PYTHON benchmarks/sparse_pymor.py matrices.mat order factors.npz

Prints CPU seconds, wall seconds and the peak of memory in MB. A system of second order keeps its
form, so that pyMOR too solves with matrices of half the size.
"""

import re
import sys
import time
from pathlib import Path

import numpy as np
import scipy.io
from pymor.core.logger import set_log_levels
from pymor.models.iosys import LTIModel, SecondOrderModel
from pymor.reductors.bt import BTReductor
from pymor.solvers.matrix_equations.adi import ADILyapunovSolver
from pymor.solvers.matrix_equations.default import MatrixEquationSolvers


def peak_memory() -> float:
    """Of this process alone, in MB: ru_maxrss would count that of its parent as well."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def main() -> None:
    given, order, path = sys.argv[1:]
    set_log_levels({"pymor": "ERROR"})
    found = {k: x for k, x in scipy.io.loadmat(given).items() if k[0] != "_"}
    solvers = MatrixEquationSolvers(lyapunov_lr=ADILyapunovSolver())  # below 1,000 states as well
    if "M" in found:
        M, D, K, B, C = (found[k] for k in "MDKBC")
        model = SecondOrderModel.from_matrices(M, D, K, B, C, matrix_equation_solvers=solvers)
        model = model.to_lti()
    else:
        A, B, C = (found[k] for k in "ABC")
        model = LTIModel.from_matrices(A, B, C, E=found.get("E"), matrix_equation_solvers=solvers)
    start, cpu = time.perf_counter(), time.process_time()
    BTReductor(model).reduce(int(order))
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    memory = peak_memory()
    S, R = (model.gramian(name).to_numpy() for name in ("c_lr", "o_lr"))
    np.savez(path, S=S, R=R)
    print(cpu, wall, memory)


if __name__ == "__main__":
    main()
