"""Another stability boundary: which poles are kept, and SLICOT's documented examples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lti
from tests.lti.helpers import quiet, random_dense, random_ring, response


def slicot(data_file, name):
    """The system of a SLICOT example and its documented values and reduced system."""
    head, *rows = data_file(f"slicot/{name}.dat").read_text().splitlines()[1:]
    n, m, p = map(int, head.split()[:3])
    rows = [list(map(float, row.split())) for row in rows if row.split()]
    A, B, C = (np.array(rows[i:j]) for i, j in ((0, n), (n, 2 * n), (2 * n, 2 * n + p)))
    D = np.array(rows[2 * n + p :][:p]) if len(rows) > 2 * n + p else np.zeros((p, m))
    blocks, text = [], data_file(f"slicot/{name}.res").read_text().splitlines()
    for line in text:
        try:
            blocks[-1].append(list(map(float, line.split())))
        except (ValueError, IndexError):
            blocks.append([])
    hsv, *matrices = [np.array([row for row in x if row]) for x in blocks if any(x)]
    small = lti.StateSpace(*matrices)
    return lti.StateSpace(A, B, C, D), hsv[0], small


@pytest.mark.parametrize(("name", "reduce"), [
    ("AB09MD", lti.balanced_truncation),
    ("AB09ND", lti.singular_perturbation),
    ("AB09ED", lti.hankel_norm_approximation),
])  # fmt: skip
def test_the_examples_of_slicot(data_file, name, reduce):
    sys, hsv, theirs = slicot(data_file, name)
    ours = quiet(reduce, sys, 5, unstable="split", alpha=-0.6)
    np.testing.assert_allclose(ours.hsv[:2], np.inf)
    np.testing.assert_allclose(ours.hsv[2:], hsv, atol=5.1e-5)
    assert ours.system.order == theirs.order == 5
    s = 1j * np.linspace(0, 20, 50)
    Y, X = response(theirs, s), response(ours.system, s)
    np.testing.assert_allclose(X, Y, atol=2e-3 * np.abs(Y).max())  # four digits are printed
    assert ours.lower_bound <= ours.verify() * (1 + 1e-9) and ours.verify() <= ours.error_bound


@given(st.integers(0, 9999), st.sampled_from([0, True]), st.floats(0.05, 0.95))
def test_poles_beyond_the_boundary_stay(seed, dt, x):
    sys = random_dense(6, dt=dt, seed=seed)
    alpha = x if dt else -3 * x
    balancing = lti.balance(sys, unstable="split", alpha=alpha)
    place = np.abs(sys.poles) if dt else sys.poles.real
    assert balancing.smallest_order == (place >= alpha).sum()
    reduction = quiet(balancing.truncate, balancing.smallest_order)
    kept = np.sort_complex(reduction.system.poles)
    np.testing.assert_allclose(kept, np.sort_complex(sys.poles[place >= alpha]), atol=1e-7)
    assert reduction.verify() <= reduction.error_bound * (1 + 1e-9)


@pytest.mark.parametrize("conjugate", [False, True])
def test_of_diagonal_systems(conjugate):
    ring = random_ring(8, seed=1, conjugate=conjugate)
    balancing = lti.balance(ring, unstable="split", alpha=0.8)
    expected = (np.abs(ring.poles) >= 0.8).sum() * (2 if conjugate else 1)
    assert balancing.smallest_order == expected > 0


def test_a_slow_pole_costs_no_order_of_accuracy():
    # 1 / (s + 1e-6) alone would ask for all of a relative tolerance
    slow = lti.StateSpace([[-1e-6]], [[1.0]], [[1.0]])
    fast = lti.StateSpace(-np.diag([1.0, 2.0, 3.0]), np.ones((3, 1)), np.ones((1, 3)))
    reduction = lti.balanced_truncation(slow + fast, tol=1e-2, unstable="split", alpha=-0.1)
    assert reduction.order == 3
    np.testing.assert_allclose(reduction.system.poles.real.max(), -1e-6, rtol=1e-9)


def test_senseless_boundaries():
    sys, discrete = random_dense(3), random_dense(3, dt=True)
    for G, alpha in ((sys, 0.1), (sys, -np.inf), (sys, "x"), (discrete, 0.0), (discrete, 1.5)):
        with pytest.raises(lti.OptionError, match="alpha must be "):
            lti.balance(G, unstable="split", alpha=alpha)
    with pytest.raises(lti.OptionError, match='give unstable="split"'):
        lti.balance(sys, alpha=-1.0)
