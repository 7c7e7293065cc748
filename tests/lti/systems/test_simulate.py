"""Responses in time against closed forms and against scipy."""

import numpy as np
import pytest
import scipy.signal
from hypothesis import given

import lti
from tests.lti.helpers import close, impulse, random_dense, systems

T = np.arange(12) * 0.25


@given(systems(dt=0))
def test_the_impulse_response_is_the_slope_of_the_step_response(sys):
    h = 1e-3
    t = np.arange(9) * h
    step, slope = lti.step_response(sys, t), lti.impulse_response(sys, t)
    size = np.abs(slope).max(initial=1.0) * (1 + np.abs(sys.to_dense().A).max()) ** 4
    simpson = (slope[:-2:2] + 4 * slope[1:-1:2] + slope[2::2]) * h / 3
    np.testing.assert_allclose(step[2::2] - step[:-2:2], simpson, atol=1e-9 * size)
    np.testing.assert_allclose(step[0], sys.D, atol=1e-15)


@given(systems(dt=True))
def test_discrete_responses(sys):
    y = lti.impulse_response(sys, np.arange(6))
    close(y, impulse(sys.to_dense(), 6))
    close(lti.step_response(sys, np.arange(6)), np.cumsum(y, axis=0))


@pytest.mark.parametrize("dt", [0, 0.25])
def test_any_input_as_scipy_has_it(dt):
    sys, rng = random_dense(4, 2, 3, dt=dt, seed=1), np.random.default_rng(0)
    u, x0 = rng.standard_normal((12, 2)), rng.standard_normal(4)
    if dt:
        expected = scipy.signal.dlsim(scipy.signal.StateSpace(*sys.matrices, dt=dt), u, x0=x0)[1]
        close(lti.simulate(sys, u, x0=x0), expected)
    else:
        expected = scipy.signal.lsim(scipy.signal.StateSpace(*sys.matrices), u, T, x0)[1]
    close(lti.simulate(sys, u, T, x0), expected)


def test_an_unstable_system_and_an_integrator():
    close(lti.step_response(([[0.0]], [[1.0]], [[1.0]]), T)[:, 0, 0], T)
    close(lti.impulse_response(([[1.0]], [[1.0]], [[1.0]]), T)[:, 0, 0], np.exp(T))


def test_the_end_of_the_step_response_is_the_dc_gain():
    for dt in (0, True):
        sys = random_dense(3, dt=dt, seed=2)
        t = np.arange(400.0)
        close(lti.step_response(sys, t)[-1], lti.dcgain(sys), 1e-10)


@pytest.mark.parametrize("dt", [0, True])
def test_in_every_library(library, dt):
    sys, t = random_dense(3, dt=dt, seed=3, stack=(2,)), np.arange(4.0)
    moved, u = library.system(sys), np.ones((4, 2))
    for function, y in [
        (lti.step_response, lti.step_response(moved, library(t))),
        (lti.impulse_response, lti.impulse_response(moved, t)),
        (lambda G, t: lti.simulate(G, u, t), lti.simulate(moved, library(u), t)),
        (lambda G, t: lti.dcgain(G), lti.dcgain(moved)),
    ]:
        assert library.owns(y)
        for i in range(2):
            one = lti.StateSpace(sys.A[i], sys.B[i], sys.C[i], sys.D[i], dt)
            close(np.asarray(y)[i], function(one, t), 1e-11)


def test_no_time_at_all():
    sys = random_dense(2, seed=1)
    assert lti.step_response(sys, []).shape == (0, 3, 2)
    assert lti.simulate(sys, np.zeros((0, 2)), []).shape == (0, 3)


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda G: lti.step_response(G, [0, 1, 3]), lti.OptionError, "must be 0, h, 2 h"),
    (lambda G: lti.step_response(G, [1, 2]), lti.OptionError, "must be 0, h, 2 h"),
    (lambda G: lti.step_response(G, 3.0), lti.DimensionError, "a vector of real times"),
    (lambda G: lti.simulate(G, np.ones((2, 2))), lti.OptionError, "needs the times"),
    (lambda G: lti.simulate(G, np.ones((2, 3)), [0, 1]), lti.DimensionError, "has 2 inputs, but u"),
    (lambda G: lti.simulate(G, np.ones((2, 2)), [0]), lti.DimensionError, "1 times, but 2 inputs"),
    (lambda G: lti.simulate(G, np.ones((1, 2)), [0], x0=[1.0]), lti.DimensionError, "has 3 states"),
])  # fmt: skip
def test_senseless_input(call, error, text):
    with pytest.raises(error, match=text):
        call(random_dense(3))


def test_the_gain_of_an_integrator_is_refused():
    for A, dt in ((0.0, 0), (1.0, True)):
        with pytest.raises(lti.OptionError, match="a pole at frequency zero"):
            lti.dcgain(([[A]], [[1.0]], [[1.0]], None, dt))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dt", [0, True])
def test_a_response_beyond_the_range_of_numbers(dt):
    sys = lti.StateSpace([[1e3]], [[1.0]], [[1.0]], None, dt)
    t = np.arange(200.0)
    for trial in (
        lambda: lti.step_response(sys, t),
        lambda: lti.impulse_response(sys, t),
        lambda: lti.simulate(sys, np.ones((200, 1)), t),
    ):
        with pytest.raises(lti.NonFiniteError, match="beyond the range of double precision"):
            trial()
    assert np.isfinite(
        lti.step_response(lti.StateSpace([[2.0]], [[1.0]], [[1.0]], None, 1.0), t)
    ).all()
