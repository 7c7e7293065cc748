"""The eigensystem realization: exact data give the system back, and python-control agrees."""

import control
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lti
from tests.lti.helpers import random_dense


def markov_of(sys, k=40):
    return lti.impulse_response(sys, np.arange(k) * (1.0 if sys.dt is True else sys.dt))


@settings(max_examples=25)
@given(st.integers(1, 6), st.integers(1, 3), st.integers(1, 3), st.booleans(), st.integers(0, 99))
def test_exact_data_give_the_system_back(n, m, p, is_complex, seed):
    sys = random_dense(n, m, p, dt=True, seed=seed, is_complex=is_complex)
    markov = markov_of(sys)
    model, hsv = lti.era(markov, energy=1.0)
    size = np.abs(markov).max()
    np.testing.assert_allclose(markov_of(model), markov, atol=1e-9 * size)
    assert model.order <= n and (hsv[:-1] >= hsv[1:]).all()


@pytest.mark.parametrize("rows", [4, 5, 10])
@pytest.mark.parametrize(("m", "p"), [(1, 1), (2, 3)])
def test_the_model_is_that_of_python_control(rows, m, p):
    markov = markov_of(random_dense(8, m, p, dt=True, seed=1), 21)
    ours, hsv = lti.era(markov, order=3, rows=rows)
    theirs, values = control.eigensys_realization(
        np.moveaxis(markov, 0, -1), 3, m=rows, n=20 - rows
    )
    np.testing.assert_allclose(hsv, values, rtol=1e-9, atol=1e-12)
    z = np.exp(1j * np.linspace(0, 3, 9))
    np.testing.assert_allclose(
        lti.frequency_response(ours, np.angle(z)),
        np.moveaxis(theirs(z).reshape(p, m, -1), -1, 0),
        atol=1e-9,
    )


def test_long_data_give_a_balanced_model():
    sys = random_dense(5, 2, 2, dt=True, seed=2)
    model, hsv = lti.era(markov_of(sys, 400), order=5)
    np.testing.assert_allclose(hsv[:5], lti.hankel_singular_values(sys), rtol=1e-9)
    P, Q = lti.controllability_gramian(model), lti.observability_gramian(model)
    np.testing.assert_allclose(P, np.diag(hsv[:5]), atol=1e-9 * hsv[0])
    np.testing.assert_allclose(Q, np.diag(hsv[:5]), atol=1e-9 * hsv[0])


def test_short_data_give_values_from_below():
    sys = random_dense(5, 2, 2, dt=True, seed=2)
    _, hsv = lti.era(markov_of(sys, 11), order=5)
    assert (hsv[:5] < lti.hankel_singular_values(sys)).all()


def test_the_feedthrough_and_the_time_base_are_kept():
    sys = random_dense(3, 2, 1, dt=0.5, seed=3)
    model, _ = lti.era(markov_of(sys), order=3, dt=0.5)
    assert model.dt == 0.5
    np.testing.assert_array_equal(model.D, sys.D)


def test_an_unstable_system_is_found_too():
    sys = lti.StateSpace(np.diag([1.1, 0.5]), np.ones((2, 1)), np.ones((1, 2)), dt=True)
    model, _ = lti.era(markov_of(sys, 21), order=2)
    np.testing.assert_allclose(np.sort(np.linalg.eigvals(model.A).real), [0.5, 1.1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128])
def test_a_batch_of_tensors_gives_a_batch_of_tensors(dtype):
    systems = [random_dense(4, 2, 3, dt=True, seed=seed) for seed in (4, 5)]
    markov = torch.asarray(np.stack([markov_of(sys) for sys in systems])).to(dtype)
    model, hsv = lti.era(markov, order=4)
    assert model.A.dtype == dtype and model.A.shape == (2, 4, 4) and hsv.shape == (2, 40)
    again = lti.impulse_response(model, torch.arange(40.0))
    assert abs(again - markov).max() < (1e-4 if dtype is torch.float32 else 1e-9)


def test_single_precision_is_computed_in_double():
    markov = markov_of(random_dense(4, 2, 3, dt=True, seed=4)).astype(np.float32)
    single, double = (lti.era(x, order=4)[0] for x in (markov, markov.astype(float)))
    for x, y in zip(single.matrices, double.matrices, strict=True):
        np.testing.assert_array_equal(x, y.astype(np.float32))


GOOD = markov_of(random_dense(3, 1, 1, dt=True, seed=6), 20)


@pytest.mark.parametrize(
    ("markov", "options", "error", "message"),
    [
        (GOOD[:, 0, 0], {"order": 1}, lti.DimensionError, r"markov\[:, None, None\]"),
        (GOOD[:2], {"order": 1}, lti.DimensionError, "k >= 3"),
        (GOOD * np.nan, {"order": 1}, lti.NonFiniteError, "markov has 20 entries"),
        (GOOD, {}, lti.OrderError, "either order or energy"),
        (GOOD, {"order": 1, "energy": 0.5}, lti.OrderError, "either order or energy"),
        (GOOD, {"order": 5}, lti.OrderError, "order 5 exceeds the rank of the Hankel matrix, 3"),
        (GOOD, {"order": -1}, lti.OrderError, "from 0"),
        (GOOD, {"energy": 2.0}, lti.OrderError, "energy"),
        (GOOD, {"order": 1, "rows": 19}, lti.OptionError, "from 1 to 18"),
        (GOOD, {"order": 1, "rows": 2.5}, lti.OptionError, "got 2.5"),
        (GOOD, {"order": 1, "dt": 0}, lti.TimebaseError, "sampling time"),
        (torch.asarray(GOOD).requires_grad_(), {"order": 1}, lti.DerivativeError, "detach"),
    ],
)
def test_bad_input_is_refused(markov, options, error, message):
    with pytest.raises(error, match=message):
        lti.era(markov, **options)
