"""Minimal realizations, and slow and fast parts, of systems with poles anywhere."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lti
from tests.lti.helpers import random_dense, same_response, systems


def hidden(seed, dt, is_complex=False, units=1.0):
    """A system of 4 states, with one state that no input reaches and one that no output sees."""
    rng = np.random.default_rng(seed)
    G = random_dense(4, 2, 2, dt=dt, seed=seed, is_complex=is_complex)
    A = np.zeros((6, 6), dtype=G.A.dtype)
    A[:4, :4], A[4, 4], A[5, 5] = G.A, 0.3, 1.7
    A[:4, 4], A[5, :4] = rng.standard_normal(4), rng.standard_normal(4)
    B, C = (
        np.vstack([G.B, np.zeros((1, 2)), rng.standard_normal((1, 2))]),
        np.zeros((2, 6), G.A.dtype),
    )
    C[:, :4], C[:, 4] = G.C, rng.standard_normal(2)
    T = np.linalg.qr(rng.standard_normal((6, 6)))[0] * np.geomspace(1, units, 6)
    return G, lti.StateSpace(np.linalg.solve(T, A @ T), np.linalg.solve(T, B), C @ T, G.D, dt)


@settings(max_examples=50)
@given(st.integers(0, 10**6), st.sampled_from([0, True]), st.booleans(), st.sampled_from([1, 1e3]))
def test_states_that_do_nothing_go(seed, dt, is_complex, units):
    G, sys = hidden(seed, dt, is_complex, units)
    small = lti.minimal(sys, tol=1e-9)
    assert small.order == 4
    same_response(small, G, 1e-6)


def test_an_unstable_mode_that_no_input_reaches():
    sys = lti.StateSpace(
        np.diag([1.0, 2.0, -3.0, -4.0]), [[1.0], [0.0], [1.0], [1.0]], np.ones((1, 4))
    )
    small = lti.minimal(sys)
    np.testing.assert_allclose(np.sort(small.poles.real), [-4, -3, 1], atol=1e-12)


def test_equal_poles_and_integrators():
    assert lti.minimal((np.diag([-1.0, -1.0, 0.0]), np.ones((3, 1)), np.ones((1, 3)))).order == 2
    chain = lti.StateSpace(np.eye(4, k=1), np.eye(4)[:, 3:], np.eye(4)[:1])  # 1 / s^4
    assert lti.minimal(chain) is chain
    assert lti.minimal(lti.series(chain, chain)).order == 8
    assert lti.minimal(chain - chain).order == 0
    assert lti.minimal((np.zeros((2, 2)), np.zeros((2, 1)), np.ones((1, 2)))).order == 0


def test_the_units_of_the_states_do_not_matter():
    sys = lti.StateSpace(-np.diag([1.0, 2.0, 3.0]), [[1e9], [0.0], [1e-9]], [[1e-9, 1.0, 1e9]])
    assert lti.minimal(sys).order == 2


@settings(max_examples=50)
@given(systems(), st.floats(0.1, 3))
def test_slow_and_fast_add_up(sys, w):
    try:
        slow, fast = lti.freqsep(sys, w)
    except lti.DefectiveError:
        return
    step = 1.0 if sys.dt is True else sys.dt
    for part, side in ((slow, 1), (fast, -1)):
        poles = part.poles
        with np.errstate(divide="ignore"):
            size = np.abs(np.log(poles)) / step if sys.is_discrete else np.abs(poles)
        assert (side * (w - size) >= -1e-6 * (1 + size)).all()
    assert slow.order + fast.order == sys.order
    dense = sys.to_dense()
    if np.linalg.cond(np.linalg.eig(dense.A)[1], 2) < 1e3:
        same_response(slow + fast, dense, 1e-8)


def test_an_integrator_is_slow(library):
    sys = library.system(lti.StateSpace(np.diag([0.0, -5.0]), np.ones((2, 1)), np.ones((1, 2))))
    slow, fast = lti.freqsep(sys, 1.0)
    assert library.owns(slow.A, fast.D)
    np.testing.assert_allclose(np.asarray(lti.dcgain(fast)), [[0.2]])
    assert library.owns(lti.minimal(sys - sys).A)


def test_what_is_refused():
    batch = random_dense(2, stack=(2,))
    tracked = lti.StateSpace(torch.eye(2, requires_grad=True), torch.eye(2), torch.eye(2))
    for call in (lti.minimal, lambda sys: lti.freqsep(sys, 1.0)):
        with pytest.raises(lti.DimensionError, match="takes one system, got a batch"):
            call(batch)
        with pytest.raises(lti.DerivativeError, match="has no derivative"):
            call(tracked)
    with pytest.raises(lti.OptionError, match="tol must be a finite number > 0"):
        lti.minimal(random_dense(2), tol=-1)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    jordan = turn @ (np.diag(np.ones(3), 1) - np.eye(4)) @ turn.T
    close = lti.StateSpace(jordan, np.ones((4, 1)), np.ones((1, 4)))
    with pytest.raises(lti.DefectiveError, match="too close to be separated"):
        lti.freqsep(close, abs(close.poles).mean())


def unreached(n, k, m, seed, orthogonal):
    """Random, with k states that no input reaches, in another basis."""
    rng = np.random.default_rng(seed)
    A, B = rng.standard_normal((n, n)) / np.sqrt(n), rng.standard_normal((n, m))
    A[n - k :, : n - k], B[n - k :] = 0.0, 0.0
    Q = rng.standard_normal((n, n))
    Q = np.linalg.qr(Q)[0] if orthogonal else Q
    return lti.StateSpace(Q @ A @ np.linalg.inv(Q), Q @ B, rng.standard_normal((m, n)))


@pytest.mark.parametrize("dual", [False, True])
@pytest.mark.parametrize("orthogonal", [False, True])
@pytest.mark.parametrize("n, k, m", [(120, 40, 2), (60, 20, 1)])
def test_minimal_finds_all_states_of_a_large_system_that_are_not_reached(n, k, m, orthogonal, dual):
    # A staircase drowns in rounding after some steps
    G = unreached(n, k, m, 0, orthogonal)
    G = lti.StateSpace(G.A.T, G.C.T, G.B.T) if dual else G
    small = lti.minimal(G)
    assert small.order == n - k
    one, two = (lti.frequency_response(x, np.linspace(3, 9, 20)) for x in (small, G))
    tol = 1e-11 if orthogonal else 1e-7
    np.testing.assert_allclose(one, two, rtol=0, atol=tol * abs(two).max())


@pytest.mark.parametrize("poles", [-np.geomspace(1e-4, 1e6, 60), -np.linspace(1, 2, 60)])
def test_minimal_takes_no_state_for_rounding(poles):
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((60, 60)))[0]
    G = lti.StateSpace(Q * poles @ Q.T, rng.standard_normal((60, 1)), rng.standard_normal((1, 60)))
    assert lti.minimal(G).order == 60
