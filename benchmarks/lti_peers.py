"""Balanced truncation against slycot, python-control, pyMOR and plain SciPy, side by side.

    python benchmarks/lti_peers.py [--sizes 20 50 ...] [--threads 1] [--orders] [--profile]

Each row is one system, reduced to n/4 states by everybody in turn, several times over; shown are
our milliseconds (the fastest run) and how many times as long the others took. A peer that is
missing, or has no correct answer for the case (python-control in discrete time), is left out.
`--orders` times all orders 1 to n at once, `--profile` shows where our time goes. pyMOR is no
dependency: pip install -r benchmarks/requirements.txt.
"""

import argparse
import os
import time
import warnings

# Before NumPy is imported: what a machine was tuned with, and the number of threads
for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(name, None)
parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--sizes", type=int, nargs="+", default=[20, 50, 100, 200, 500])
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--seconds", type=float, default=1.0, help="per peer and system")
parser.add_argument("--orders", action="store_true", help="all orders at once")
parser.add_argument("--profile", action="store_true", help="where our time goes")
arguments = parser.parse_args()
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = str(arguments.threads)

import numpy as np  # noqa: E402
import scipy.linalg  # noqa: E402

import lti  # noqa: E402


def system(n, ports, discrete, decay, seed=0, basis=True):
    """A stable system in a random orthogonal basis whose values decay slowly or quickly.

    With ``basis=False`` the same system in continuous time and before the change of basis.
    """
    rng = np.random.default_rng(seed)
    B, C = rng.standard_normal((n, ports)), rng.standard_normal((ports, n))
    if decay == "fast":  # heat in a rod
        A = -np.diag(np.linspace(1, n, n) ** 2.0 / n)
    else:  # lightly damped modes
        A = np.zeros((n, n))
        for i, w in enumerate(np.linspace(1, 50, n // 2)):
            A[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[-0.02 * w, w], [-w, -0.02 * w]]
    if not basis:
        return lti.StateSpace(A, B, C)
    U = np.linalg.qr(rng.standard_normal((n, n)))[0]
    sys = lti.StateSpace(U @ A @ U.T, U @ B, C @ U.T)
    return lti.bilinear(sys, 0.1) if discrete else sys


# ------------------------------------------------------------------ everybody's answer


def ours(sys, r):
    return lti.balanced_truncation((sys.A, sys.B, sys.C, sys.D, sys.dt), r).system


def slycot(sys, r):
    import slycot

    n, m, p = sys.order, sys.n_inputs, sys.n_outputs
    time_ = "D" if sys.is_discrete else "C"
    r, A, B, C, _ = slycot.ab09ad(time_, "B", "N", n, m, p, sys.A, sys.B, sys.C, nr=r, tol=0.0)
    return lti.StateSpace(A[:r, :r], B[:r], C[:, :r], sys.D, sys.dt)


def python_control(sys, r):
    import control

    if sys.is_discrete:
        raise NotImplementedError("its balred takes every system for a continuous one")
    small = control.balred(control.ss(sys.A, sys.B, sys.C, sys.D), r, method="truncate")
    return lti.as_statespace(small)


def pymor(sys, r):
    from pymor.core.logger import set_log_levels
    from pymor.models.iosys import LTIModel
    from pymor.reductors.bt import BTReductor

    set_log_levels({"pymor": "ERROR"})
    step = sys.dt if sys.is_discrete else 0
    model = LTIModel.from_matrices(sys.A, sys.B, sys.C, sys.D, sampling_time=step)
    small = BTReductor(model).reduce(r, projection="sr")
    A, B, C, D, _ = small.to_abcde_matrices()
    return lti.StateSpace(A, B, C, D, sys.dt)


def scipy_only(sys, r):
    """What people write by hand: dense Gramians, Cholesky factors, an SVD."""
    A, B, C = sys.A, sys.B, sys.C
    if sys.is_discrete:
        P = scipy.linalg.solve_discrete_lyapunov(A, B @ B.T)
        Q = scipy.linalg.solve_discrete_lyapunov(A.T, C.T @ C)
    else:
        P = scipy.linalg.solve_continuous_lyapunov(A, -B @ B.T)
        Q = scipy.linalg.solve_continuous_lyapunov(A.T, -C.T @ C)
    S, R = (V * np.sqrt(np.maximum(w, 0)) for w, V in map(np.linalg.eigh, (P, Q)))
    U, sigma, Vh = np.linalg.svd(R.T @ S)
    root = 1 / np.sqrt(sigma[:r])
    T, W = S @ Vh[:r].T * root, (U[:, :r] * root).T @ R.T
    return lti.StateSpace(W @ A @ T, W @ B, C @ T, sys.D, sys.dt)


PEERS = {
    "slycot": slycot, "python-control": python_control, "pyMOR": pymor, "SciPy": scipy_only
}  # fmt: skip


# ------------------------------------------------------------------ the clock


# On a shared machine the time of the processor says more, but it adds up over threads
clock = time.process_time if arguments.threads == 1 else time.perf_counter


def race(runners, seconds):
    """The fastest time of each in milliseconds, taken in turns so that all see the same machine."""
    best, alive = dict.fromkeys(runners, float("inf")), dict(runners)
    start, rounds = time.perf_counter(), 0
    while alive and (rounds < 2 or time.perf_counter() - start < seconds * len(alive)):
        rounds += 1
        for name, run in list(alive.items()):
            begin = clock()
            try:
                run()
            except Exception as error:  # a peer may fail in its own way
                del alive[name], best[name]
                if not isinstance(error, (NotImplementedError, ImportError)):
                    print(f"    {name}: {type(error).__name__}: {str(error)[:80]}")
                continue
            best[name] = min(best[name], (clock() - begin) * 1e3)
    return best


def cases():
    for n in arguments.sizes:
        for ports in (1, 4):
            for discrete in (False, True):
                for decay in ("slow", "fast"):
                    time_ = "discrete" if discrete else "continuous"
                    what = f"{n:5d} {ports} x {ports}  {time_:10} {decay}"
                    yield what, system(n, ports, discrete, decay)


def reductions():
    print(f"{'n':>5} ports  time       decay    ours ms" + "".join(f"{p:>16}" for p in PEERS))
    for what, sys in cases():
        r = sys.order // 4
        runners = {"ours": lambda: ours(sys, r)}  # noqa: B023
        runners |= {name: (lambda run=run: run(sys, r)) for name, run in PEERS.items()}  # noqa: B023
        best = race(runners, arguments.seconds)
        row = (f"{best[p] / best['ours']:15.2f}x" if p in best else f"{'-':>16}" for p in PEERS)
        print(f"{what:32} {best['ours']:9.2f}" + "".join(row), flush=True)


def all_orders():
    print("all orders 1 to n, against as many calls of python-control's balred and slycot's ab09ad")
    for what, sys in cases():
        if sys.is_discrete or sys.order > 100:
            continue
        orders = range(1, sys.order + 1)

        def everything(sys=sys, orders=orders):
            balancing = lti.balance((sys.A, sys.B, sys.C))
            return [balancing.truncate(r) for r in orders]

        best = race({
            "ours": everything,
            "one": lambda: ours(sys, sys.order // 4),  # noqa: B023
            "control": lambda: [python_control(sys, r) for r in orders],  # noqa: B023
            "slycot": lambda: [slycot(sys, r) for r in orders],  # noqa: B023
        }, arguments.seconds)  # fmt: skip
        ratios = {name: best[name] / best["ours"] for name in ("control", "slycot") if name in best}
        text = ", ".join(f"{name} {ratio:.1f}x" for name, ratio in ratios.items())
        print(
            f"{what:32} {best['ours']:9.2f} ms, {best['ours'] / best['one']:.1f} times one; {text}"
        )


def profile():
    from lti.gramians import exact_factors

    print(f"{'n':>5} ports  time       decay    total ms   factors    values and the rest")
    for what, sys in cases():
        r = sys.order // 4
        best = race({
            "total": lambda: ours(sys, r),  # noqa: B023
            "factors": lambda: exact_factors(sys),  # noqa: B023
        }, arguments.seconds)  # fmt: skip
        rest = best["total"] - best["factors"]
        print(f"{what:32} {best['total']:9.2f} {best['factors']:9.2f} {rest:9.2f}")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(f"{arguments.threads} thread(s); peers as multiples of our time: above 1 we are faster")
    if arguments.profile:
        profile()
    elif arguments.orders:
        all_orders()
    else:
        reductions()
