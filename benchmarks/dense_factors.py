"""Balanced truncation by one Schur form against slycot's ab09ad: time and accuracy.

    python benchmarks/dense_factors.py [folder of SLICOT models, as .mat] [--sizes 20 50 ...]

Options are those of lti_peers.py, which also makes the systems. Times are the fastest of several
runs in turn; errors of the Hankel singular values are relative to the largest. They are taken
against the system before it was turned into a random basis, so they contain the rounding of the
turned matrices, which is the same for both. Models are compared with each other only.
"""

import sys
from pathlib import Path

folder = Path(sys.argv.pop(1)) if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else None

from lti_peers import arguments, race, slycot, system  # noqa: E402, I001 (before NumPy)
import numpy as np  # noqa: E402
import scipy.io  # noqa: E402

import lti  # noqa: E402
from lti.gramians.dense import schur_factors  # noqa: E402


def by_schur(sys, r):
    """The reduced system, formed in Schur coordinates, and the values."""
    found = schur_factors(sys.A, sys.B, sys.C, sys.is_discrete)
    left, sigma, right = np.linalg.svd(found.product)
    root = 1 / np.sqrt(sigma[:r])
    T, W = found.U @ (right[:r].T * root), (left[:, :r] * root).T @ found.V.T
    return (W @ found.form.T @ T, W @ found.B, found.C @ T), sigma, found.roundoff


def values_of_slycot(sys):
    import slycot

    n, m, p = sys.order, sys.n_inputs, sys.n_outputs
    time_ = "D" if sys.is_discrete else "C"
    return slycot.ab09ad(time_, "B", "N", n, m, p, sys.A, sys.B, sys.C, nr=1, tol=0.0)[-1]


def compare(name, sys, exact=None):
    r = max(1, sys.order // 4)
    _, ours, roundoff = by_schur(sys, r)
    theirs = values_of_slycot(sys)
    exact = theirs if exact is None else exact
    best = race(
        {"ours": lambda: by_schur(sys, r), "slycot": lambda: slycot(sys, r)}, arguments.seconds
    )
    errors = (abs(x - exact).max() / exact[0] for x in (ours, theirs))
    print(
        f"{name:26} {best['slycot']:9.2f} {best['ours']:9.2f} {best['slycot'] / best['ours']:7.2f}"
        + "".join(f"{x:10.0e}" for x in (*errors, roundoff)),
        flush=True,
    )


def main():
    print(f"{'':26} slycot ms   ours ms   ratio  our error   slycot's roundoff")
    for n in arguments.sizes:
        for ports in (1, 4):
            for discrete in (False, True):
                for decay in ("slow", "fast"):
                    name = f"{n} {ports} x {ports} {'discrete' if discrete else 'cont.'} {decay}"
                    sys, plain = (system(n, ports, discrete, decay, basis=x) for x in (True, False))
                    exact = np.linalg.svd(
                        schur_factors(plain.A, plain.B, plain.C, False).product, compute_uv=False
                    )
                    compare(name, sys, exact)
    for path in sorted(folder.glob("*.mat")) if folder else ():
        model = scipy.io.loadmat(path)
        A, B, C = (
            np.asarray(x.todense() if scipy.sparse.issparse(x) else x, dtype=float)
            for x in (model[name] for name in "ABC")
        )
        compare(f"{path.stem} {len(A)}", lti.StateSpace(A, B, C))


if __name__ == "__main__":
    main()
