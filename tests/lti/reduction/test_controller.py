"""Weights of controller reduction against the closed loop that they speak of."""

import numpy as np
import pytest
from scipy.linalg import solve_continuous_are, solve_discrete_are

import lti
from tests.lti.helpers import close, quiet, random_dense, response


def lqg(seed, dt, n=6):
    """A plant with an unstable pole and its LQG controller, for positive feedback."""
    G = random_dense(n, 2, 2, dt=dt, seed=seed)
    A = G.A * 1.4 if dt else G.A + 0.5 * np.eye(n)
    G = lti.StateSpace(A, G.B, G.C, None, dt)
    B, C, one = G.B, G.C, np.eye(2)
    if dt:
        X, Y = solve_discrete_are(A, B, C.T @ C, one), solve_discrete_are(A.T, C.T, B @ B.T, one)
        F = np.linalg.solve(one + B.T @ X @ B, B.T @ X @ A)
        L = np.linalg.solve(one + C @ Y @ C.T, C @ Y @ A.T).T
    else:
        F = B.T @ solve_continuous_are(A, B, C.T @ C, one)
        L = solve_continuous_are(A.T, C.T, B @ B.T, one) @ C.T
    return G, lti.StateSpace(A - B @ F - L @ C, L, -F, None, dt)


@pytest.mark.parametrize("dt", [0, True])
def test_the_closed_loop_changes_as_the_weights_say(dt):
    G, K = lqg(1, dt)
    weights = lti.controller_weights(G, K, sign=1)
    W_o, W_i = weights["output_weight"], weights["input_weight"]
    s = np.exp(1j * np.linspace(0, 3, 9)) if dt else 1j * np.linspace(0, 5, 9)
    g, k, one = response(G, s), response(K, s), np.eye(2)
    close(response(W_o, s), np.linalg.solve(one - g @ k, g), 1e-9)
    close(response(W_i, s), np.linalg.inv(one - g @ k), 1e-9)
    step = 1e-6 * np.array([[1.0, 2.0], [-1.0, 0.5]])

    def loop(k):
        return np.linalg.solve(one - g @ k, g @ k)

    change = (loop(k + step) - loop(k - step)) / 2
    close(change, response(W_o, s) @ step @ response(W_i, s), 1e-6)


@pytest.mark.parametrize("dt", [0, True])
def test_weights_serve_the_closed_loop_better(dt):
    ratios = []
    for seed in range(12):
        G, K = lqg(seed, dt)
        whole, errors = lti.feedback(G * K, 1.0, 1), []
        for weights in ({}, lti.controller_weights(G, K, sign=1)):
            small = quiet(lti.balanced_truncation, K, 5, unstable="split", **weights).system
            loop = lti.feedback(G * small, 1.0, 1)
            stable = (np.abs(loop.poles) < 1 if dt else loop.poles.real < 0).all()
            errors.append(float(lti.hinf_norm(whole - loop)) if stable else np.inf)
        if errors[0] < 0.3:  # the weights are those of small changes
            ratios.append(errors[1] / errors[0])
    assert len(ratios) >= 5 and max(ratios) < 1 and np.median(ratios) < 0.7


def test_the_small_gain_that_guarantees_stability():
    G, K = lqg(3, 0)
    weights = lti.controller_weights(G, K, keep="stability", sign=1)
    assert list(weights) == ["output_weight"]
    reduction = quiet(lti.balanced_truncation, K, 5, unstable="split", **weights)
    assert reduction.verify() < 1
    assert (lti.feedback(G, reduction.system, 1).poles.real < 0).all()


def test_what_is_refused():
    G, K = lqg(1, 0)
    with pytest.raises(lti.UnstableError, match="the closed loop: .* stabilizes the plant"):
        lti.controller_weights(G, 0 * K)
    with pytest.raises(lti.OptionError, match="keep must be one of"):
        lti.controller_weights(G, K, keep="all")
    with pytest.raises(lti.DimensionError, match="needs a feedback of 2 inputs"):
        lti.controller_weights(G, random_dense(2, 1, 2))
