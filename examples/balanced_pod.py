"""Balanced POD: reduce a simulation of 3,600 states from its snapshots only.

Warm air drifts over a plate. A simulator gives the states after an impulse of each heater, and
those of the adjoint equation after an impulse of each sensor; their Gramian factors are balanced as
any others. Here the matrices are known too, so that the result can be held against the exact one.
"""

import argparse

import numpy as np
import scipy.sparse as sparse
from scipy.sparse.linalg import splu

import lti


def plate(k):
    """Convection and diffusion in the unit square; two heaters upstream, two sensors downstream."""
    h = 1 / (k + 1)
    second = sparse.diags([1.0, -2.0, 1.0], [-1, 0, 1], shape=(k, k)) / h**2
    upwind = sparse.diags([1.0, -1.0], [-1, 0], shape=(k, k)) / h
    A = sparse.kron(sparse.eye(k), 0.02 * second + upwind) + sparse.kron(
        0.02 * second, sparse.eye(k)
    )
    y, x = np.meshgrid(*2 * [np.arange(1, k + 1) * h], indexing="ij")
    spots = [np.exp(-200 * ((x - a) ** 2 + (y - b) ** 2)).ravel()
             for a, b in ((0.2, 0.3), (0.2, 0.7), (0.7, 0.4), (0.8, 0.6))]  # fmt: skip
    B, C = np.stack(spots[:2], axis=1), np.stack(spots[2:]) / spots[2].sum()
    return lti.SparseStateSpace(A.tocsc(), B, C)


def snapshots(A, X, first=1e-4, stages=12, steps=12):
    """States after an impulse, (samples, n), each times the root of its time step.

    The mean of x x^T is then the integral of x x^T over time, up to a factor: a time step that
    doubles follows both the fast and the slow part. By a stable Runge-Kutta method of order 2.
    """
    found, h, gamma = [], first, 1 - 0.5**0.5
    identity = sparse.eye(A.shape[0], format="csc")
    for _ in range(stages):
        step = splu((identity - gamma * h * A).tocsc())
        for _ in range(steps):
            slope = step.solve(A @ X)
            X = (
                X
                + h * (1 - gamma) * slope
                + h * gamma * step.solve(A @ (X + h * (1 - gamma) * slope))
            )
            found.append(h**0.5 * X.T)
        h *= 2
    return np.concatenate(found)


def factor(A, X):
    """The empirical factor, in the units of the Gramian: the integral, not the mean."""
    states = snapshots(A, X)
    return lti.GramianFactor.of_states(len(states) ** 0.5 * states, "of snapshots")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=60, help="on each side of the plate")
    parser.add_argument("--order", type=int, default=8)
    parser.add_argument("--plot", help="a file for a picture")
    arguments = parser.parse_args()

    sys = plate(arguments.points)
    P, Q = factor(sys.A, sys.B), factor(sys.A.T.tocsc(), sys.C.T)
    observed = lti.balance(sys, controllability=P, observability=Q)
    exact = lti.balance(sys)
    print(f"{P.samples} snapshots of {sys.order} states, and as many of the adjoint equation\n")
    print("  Hankel singular values     measured error of this order")
    print("    exact   by snapshots       balanced    by snapshots")
    errors = []
    for r in range(1, arguments.order + 1):
        errors.append([float(x.truncate(r).verify()) for x in (exact, observed)])
        values = exact.hsv[r - 1], observed.hsv[r - 1]
        print("{:9.2e}      {:9.2e}      {:9.2e}       {:9.2e}".format(*values, *errors[-1]))
    print(f"\n{observed.truncate(arguments.order)!r}")
    if arguments.plot:
        plot(arguments.points, exact, observed, errors).savefig(arguments.plot, dpi=100)


def plot(points, exact, observed, errors):
    """Values and errors of both, and where the leading state is reached and is seen."""
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, 4, figsize=(14, 3.2), layout="constrained")
    order = np.arange(1, len(errors) + 1)
    for ax, title, values in (
        (axes[0], "Hankel singular values", [x.hsv[: len(errors)] for x in (exact, observed)]),
        (axes[1], "measured error", np.array(errors).T),
    ):
        ax.semilogy(order, values[0], "o-", label="balanced truncation")
        ax.semilogy(order, values[1], "x--", label="balanced POD")
        ax.set(title=title, xlabel="order")
        ax.legend()
    for ax, title, mode in (
        (axes[2], "leading state: where it is", observed.T[:, 0]),
        (axes[3], "and where it is set", observed.W[0]),
    ):
        ax.imshow(mode.reshape(points, points), origin="lower", extent=(0, 1, 0, 1), cmap="magma")
        ax.set(title=title, xlabel="drift to the right", yticks=[])
    return fig


if __name__ == "__main__":
    main()
