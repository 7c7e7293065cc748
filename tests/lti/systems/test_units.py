"""Inputs and outputs in units that A alone does not tell: nothing is lost to a rotation."""

import numpy as np
import pytest

import lti
from lti.gramians.dense import schur_factors
from lti.systems.units import form_with_ports
from tests.lti.helpers import quiet, random_dense


def in_units_of_ports(n, size, dt, seed, similar=False):
    """A system, and the same with ports in other units: A is tiny, and so balanced in any units."""
    rng, sys = np.random.default_rng(seed), random_dense(n, 2, 2, dt=dt, seed=seed)
    d = 2.0 ** rng.integers(-27, 28, n)
    own = sys.A * size / (d[:, None] / d if similar else 1.0)
    given = lti.StateSpace(own, sys.B / d[:, None], sys.C * d, None, dt)
    return lti.StateSpace(own * d[:, None] / d, sys.B, sys.C, None, dt), given


def response(sys, s):
    E = s[:, None, None] * np.eye(sys.order) - sys.A
    return sys.C @ np.linalg.solve(E, sys.B + 0j)


@pytest.mark.parametrize("similar", [False, True])
@pytest.mark.parametrize("size", [1e-8, 1e-17, 1e-28])
@pytest.mark.parametrize("n", [2, 5, 40])
def test_responses_of_discrete_systems(n, size, similar):
    s = np.exp(1j * np.linspace(0, 3, 50))
    for seed in range(3):
        good, given = in_units_of_ports(n, size, True, seed, similar)
        exact = response(good, s)
        found = schur_factors(given.A, given.B, given.C, True)
        schur = lti.StateSpace(found.form.T, found.B, found.C, None, True)
        slow, fast = lti.freqsep(given, 1.0)
        parts = [lti.frequency_response(x, np.angle(s)) for x in (slow, fast)]
        for ours in (response(schur, s), lti.frequency_response(given, np.angle(s)), sum(parts)):
            assert abs(ours - exact).max() <= 1e-12 * abs(exact).max()
        assert found.roundoff <= 1e-12
        assert lti.frequency_response(given, [0.3])[0] == pytest.approx(
            response(good, np.exp([0.3j]))[0], rel=1e-12, abs=1e-12 * abs(exact).max()
        )


@pytest.mark.parametrize("reduce", [lti.balanced_truncation, lti.singular_perturbation])
@pytest.mark.parametrize("method", ["square-root", "balancing-free"])
@pytest.mark.parametrize("size", [1e-8, 1e-17])
def test_verify_sees_no_rounding(reduce, method, size):
    for seed in range(3):
        _, given = in_units_of_ports(4, size, True, seed)
        reduction = quiet(reduce, given, 4, method=method)
        assert reduction.verify() <= 1e-12 * reduction.hsv[0]


def test_a_form_of_a_system_in_good_units_is_the_plain_one():
    sys = random_dense(20, 2, 2, seed=1)
    form = form_with_ports(sys.A, sys.B, sys.C, False)
    assert np.ptp(np.log2(form.d)) <= 4


def test_a_pair_in_bad_units():
    # As large as the pole is what the pair exchanges, in one direction, and LU would pivot on it
    d = np.array([2.0**22, 2.0**-4])
    A, B, C = np.array([[-1.4e-8, -3.7e-9], [3.5e-8, 1.4e-8]]), np.ones((2, 1)), np.ones((1, 2))
    chained = np.block([[A, np.eye(2)], [np.zeros((2, 2)), A]])
    for own in (A, chained):
        units = np.tile(d, len(own) // 2)
        B, C = np.ones((len(own), 1)), np.ones((1, len(own)))
        given = lti.StateSpace(own / units[:, None] * units, B / units[:, None], C * units, None, 1)
        exact = lti.frequency_response(lti.StateSpace(own, B, C, None, 1), [0.1, 1.0])
        np.testing.assert_allclose(lti.frequency_response(given, [0.1, 1.0]), exact, rtol=1e-13)


def test_a_pair_that_is_one_state_to_rounding():
    # Poles equal but for 1e-28: one direction is reached
    rng = np.random.default_rng(0)
    A = 1e-28 * rng.standard_normal((40, 40))
    for seed in range(4):
        d = 2.0 ** np.random.default_rng(seed).integers(-27, 28, 40)
        B, C = rng.standard_normal((40, 2)), rng.standard_normal((2, 40))
        sys = lti.StateSpace(A / d[:, None] * d, B / d[:, None], C * d, None, True)
        exact = np.linalg.svd(C @ B, compute_uv=False)
        np.testing.assert_allclose(lti.hankel_singular_values(sys)[:2], exact, rtol=1e-12)
