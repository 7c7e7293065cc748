"""The largest gain over all frequencies: in any units, any magnitudes, and with its derivative."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lti
from lti.peak import peak_gain
from tests.lti.helpers import random_dense


def in_units(sys, d):
    return lti.StateSpace(sys.A / d[:, None] * d, sys.B / d[:, None], sys.C * d, sys.D, sys.dt)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([0, True, 0.5]), st.sampled_from([5, 36]))
def test_units_of_the_states_do_not_matter(seed, dt, n):
    sys = random_dense(n, 2, 2, seed=seed, dt=dt)
    scaled = in_units(sys, 10 ** np.random.default_rng(seed).uniform(-8, 8, n))
    expected = float(lti.hinf_norm(sys))
    for norm in (lti.hinf_norm, lti.linf_norm):
        np.testing.assert_allclose(norm(scaled), expected, rtol=1e-7)
    w = np.linspace(0, np.pi, 100)
    gains = np.linalg.norm(lti.frequency_response(scaled, w), ord=2, axis=(-2, -1))
    assert gains.max() <= float(lti.hinf_norm(scaled)) * (1 + 1e-7)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([0, True]))
def test_units_do_not_matter_to_an_unstable_system(seed, dt):
    sys = random_dense(8, 2, 2, seed=seed, dt=dt)
    A = 1.4 * sys.A if dt else sys.A + 0.5 * np.eye(8)
    sys = lti.StateSpace(A, sys.B, sys.C, sys.D, dt)
    scaled = in_units(sys, 10 ** np.random.default_rng(seed).uniform(-8, 8, 8))
    np.testing.assert_allclose(lti.linf_norm(scaled), lti.linf_norm(sys), rtol=1e-6)


@pytest.mark.parametrize("rate", [1e-300, 1e-154, 1.0, 1e154, 1e300])
def test_the_unit_of_time_does_not_matter(rate):
    sys = random_dense(6, 1, 1, seed=1)
    D = np.zeros((1, 1))
    slow = lti.StateSpace(sys.A * rate, sys.B, sys.C, D)
    gain, w = lti.hinf_norm(slow, return_frequency=True)
    expected, at = lti.hinf_norm(lti.StateSpace(sys.A, sys.B, sys.C, D), return_frequency=True)
    np.testing.assert_allclose(gain * rate, expected, rtol=1e-9)
    np.testing.assert_allclose(w / rate, at, rtol=1e-6, atol=1e-9)


def test_diagonal_poles_of_every_magnitude():
    poles = np.array([1e200, 1e-200, 1.0])
    sys = lti.DiagonalStateSpace(-poles, poles[:, None], np.array([[2.0, -1, 3]]), dt=0)
    assert float(lti.hinf_norm(sys)) == pytest.approx(5)


@pytest.mark.parametrize("gain", [1e6, 1e10, 1e13])
def test_a_resonance_that_both_have_does_not_blur_their_difference(gain):
    rng, n = np.random.default_rng(0), 60
    frequencies = np.sort(rng.uniform(1, 20, n))
    poles = 1j * frequencies - rng.uniform(0.3, 1.5, n)
    C = (rng.standard_normal(n) + 1j * rng.standard_normal(n))[None]
    shared, ones = np.array([-1e-6 + 50j]), np.ones((n + 1, 1), complex)

    def of(poles, C):
        return lti.DiagonalStateSpace(poles, ones[: len(poles)], C, dt=0, conjugate=True)

    both = np.append([[gain * 1e-6 + 0j]], C, 1)
    G, F = of(np.append(shared, poles), both), of(shared, both[:, :1])
    found = float(peak_gain(G, F, 1e-9))
    assert found == pytest.approx(float(lti.hinf_norm(of(poles, C))), rel=1e-8)


@pytest.mark.parametrize("top", [1e100, 1e140, 1e153])
@pytest.mark.parametrize("gains", [(1, 1, 1), (2, -1, 3)])
def test_poles_of_every_magnitude_add_at_zero(top, gains):
    poles = np.array([top, 1 / top, 1.0])  # each mode is constant where those after it peak
    B, C = poles[:, None], np.array([gains], float)
    expected = max(abs(sum(gains[:1])), abs(gains[0] + gains[2]), abs(sum(gains)))
    sys = lti.StateSpace(-np.diag(poles), B, C)
    assert float(lti.hinf_norm(sys)) == pytest.approx(expected)
    permuted = lti.StateSpace(sys.A[::-1, ::-1], sys.B[::-1], sys.C[:, ::-1])
    assert float(lti.hinf_norm(permuted)) == pytest.approx(expected)


def test_a_gain_beyond_the_range_of_numbers_is_refused():
    for b, c in ((1e200, 1e200), (1e300, 1e10)):
        with pytest.raises(lti.NonFiniteError, match="beyond the range of double precision"):
            lti.hinf_norm(([[-1.0]], [[b]], [[c]]))


@pytest.mark.parametrize("dt", [0, True])
@pytest.mark.parametrize("norm", [lti.hinf_norm, lti.linf_norm])
def test_the_derivative_is_that_of_the_gain_at_its_peak(norm, dt):
    sys = random_dense(4, 2, 2, seed=3, dt=dt)
    matrices = [torch.tensor(x, requires_grad=True) for x in sys.matrices]
    assert torch.autograd.gradcheck(
        lambda *x: norm(lti.StateSpace(*x, dt), rtol=1e-12), matrices, atol=1e-5, rtol=1e-4
    )


def test_the_derivative_of_a_batch_is_that_of_each():
    A = torch.tensor(random_dense(3, 1, 1, seed=2, stack=(2,)).A, requires_grad=True)
    B, C = torch.ones(3, 1, dtype=A.dtype), torch.ones(1, 3, dtype=A.dtype)
    lti.hinf_norm((A, B, C)).sum().backward()
    for i in range(2):
        one = A[i].detach().requires_grad_()
        lti.hinf_norm((one, B, C)).backward()
        torch.testing.assert_close(A.grad[i], one.grad)


def test_a_peak_at_infinity_has_the_derivative_of_D():
    D = torch.tensor([[3.0]], dtype=torch.float64, requires_grad=True)
    one = torch.ones(1, 1, dtype=torch.float64)
    gain, w = lti.hinf_norm((-one, one, -one, D), return_frequency=True)
    assert w.item() == np.inf
    gain.backward()
    assert D.grad.item() == 1.0


def test_linf_says_where():
    gain, w = lti.linf_norm(([[0, 1], [-1, 0.1]], [[0], [1]], [[1, 0]]), return_frequency=True)
    expected = lti.hinf_norm(([[0, 1], [-1, -0.1]], [[0], [1]], [[1, 0]]), return_frequency=True)
    np.testing.assert_allclose([gain, w], expected, rtol=1e-7)
    gain, w = lti.linf_norm(([[0.0]], [[1.0]], [[1.0]]), return_frequency=True)
    assert np.isinf(gain) and np.isnan(w)


def test_a_second_derivative_is_refused():
    A = torch.tensor([[-1.0]], dtype=torch.float64, requires_grad=True)
    one = torch.ones(1, 1, dtype=torch.float64)
    (slope,) = torch.autograd.grad(lti.hinf_norm((A, one, one)), A, create_graph=True)
    with pytest.raises(lti.DerivativeError, match="peak gains have a first derivative only"):
        slope.sum().backward()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n", [20, 50, 100])
def test_time_constants_of_all_sizes_in_a_chain(n, seed):
    # A has no negative entries off the diagonal, nor have B and C: the norm is the gain at zero
    e = 10.0 ** np.random.default_rng(seed).uniform(-8, 8, n)
    T = np.eye(n, k=1) + np.eye(n, k=-1) - 3 * np.eye(n)
    sys = lti.StateSpace(T / e[:, None], 1 / e[:, None], np.ones((1, n)))
    expected = -np.linalg.solve(T, np.ones(n)).sum()
    assert lti.hinf_norm(sys).item() == pytest.approx(expected, rel=1e-9)
    w = np.append(0.0, np.geomspace(1e-14, 1e-10, 40))  # below the slowest pole
    response = lti.frequency_response(sys, w)[:, 0, 0]
    one_by_one = [lti.frequency_response(sys, [x])[0, 0, 0] for x in w]
    np.testing.assert_allclose(response, one_by_one, rtol=1e-9)
