"""Poles of very different size: none is rounding next to a larger one."""

import numpy as np
import pytest

import lti
from tests.lti.helpers import quiet


def modes(*pairs):
    """A of pairs (decay, frequency); a single number is a real pole."""
    n = sum(2 if isinstance(x, tuple) else 1 for x in pairs)
    A, i = np.zeros((n, n)), 0
    for x in pairs:
        if isinstance(x, tuple):
            A[i : i + 2, i : i + 2] = [[-x[0], x[1]], [-x[1], -x[0]]]
            i += 2
        else:
            A[i, i], i = x, i + 1
    return A


def same(G, F, w):
    one, other = (lti.frequency_response(x, w) for x in (G, F))
    np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9 * abs(other).max())


@pytest.mark.parametrize("fast", [1e4, 1e8, 1e11, -1e8])
def test_slow_states_that_are_kept_beside_a_fast_one(fast):
    A = modes((-1e-9, 1e-6), (-1e-9, 2e-6), fast, -1.0)
    G = lti.StateSpace(A, [[1e-6]] * 4 + [[abs(fast)], [1.0]], np.ones((1, 6)))
    small = quiet(lti.balanced_truncation, G, 6, unstable="split")
    same(small.system, G, [0, 1e-6, 1.7e-6, 2e-6, 1])
    alpha = quiet(lti.balanced_truncation, G, 6, unstable="split", alpha=-1e-3)
    same(alpha.system, G, [0, 1e-6, 1.7e-6, 2e-6, 1])


def test_slow_unstable_states_that_a_fast_one_drives():
    A = np.array([[-1e-8, 1e-6, 1e-7], [-1e-6, -1e-8, 0.0], [0.3e8, 0.0, 1e8]])
    G = lti.StateSpace(A, [[1e-6], [0.0], [0.1e8]], [[1.0, 0.0, 1.0]])
    small = quiet(lti.balanced_truncation, G, 3, unstable="split")
    # By mpmath with 60 digits
    response = lti.frequency_response(small.system, [1e-6]).item()
    assert response == pytest.approx(13.7602217 - 0.0277182j, rel=1e-6)


def test_discrete_poles_close_to_one_beside_a_large_one():
    A = np.diag([1e6, 1 + 1e-9, 1 + 2e-9, 0.5])
    G = lti.StateSpace(A, [[1e6], [1e-9], [1e-9], [1.0]], np.ones((1, 4)), dt=True)
    small = quiet(lti.balanced_truncation, G, 4, unstable="split")
    assert small.order == 4
    assert lti.dcgain(small.system).item() == pytest.approx(lti.dcgain(G).item(), rel=1e-6)


@pytest.mark.parametrize("fast", [1e8, 1e11])
def test_minimal_keeps_slow_states_and_drops_those_without_effect(fast):
    pairs = [(1e-3, w) for w in np.linspace(0.1, 4.9, 12)]
    A = modes(*pairs, -fast, -2 * fast)
    B = np.ones((26, 1))
    B[-2:] = fast
    G = lti.StateSpace(A, B, np.ones((1, 26)))
    small = lti.minimal(G)
    assert small.order == 26
    B[4:6], C = 0.0, np.ones((1, 26))
    C[0, 24] = 0.0  # a slow pair that nothing reaches, a fast pole that nothing sees
    G = lti.StateSpace(A, B, C)
    small = lti.minimal(G)
    assert small.order == 23
    same(small, G, np.linspace(0, 5, 7))


@pytest.mark.parametrize("turned", [False, True])
def test_minimal_in_any_basis(turned):
    poles = np.array([1e6, 2e6, -3.0, -4.0, 1e-3, 2e-3])
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0] if turned else np.eye(6)
    B = np.array([1.0, 0, 1, 0, 1, 0])[:, None]
    G = lti.StateSpace(Q * poles @ Q.T, Q @ B, np.ones((1, 6)) @ Q.T)
    assert lti.minimal(G).order == 3


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("n", [10, 20, 50, 100])
def test_minimal_changes_no_response_of_coupled_states(n, seed):
    rng = np.random.default_rng(100 * n + seed)
    A = -np.diag(10 ** rng.uniform(-6, 8, n))
    A = A + np.triu(rng.standard_normal((n, n)), 1) * 10.0 ** rng.integers(-6, 1)
    G = lti.StateSpace(A, np.ones((n, 1)), np.ones((1, n)))
    w = np.r_[0, np.logspace(-8, 9, 200)]
    one, other = (lti.frequency_response(x, w) for x in (lti.minimal(G), G))
    assert abs(one - other).max() <= 1e-6 * abs(other).max()
