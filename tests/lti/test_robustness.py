"""What must not matter: the units of the states, very large and small numbers, odd arguments."""

import warnings

import numpy as np
import pytest

import lti
from lti import StateSpace
from tests.lti.helpers import claiming, random_dense, random_ring, response


def ones(p, m):
    return np.ones((p, m))


def quietly(f, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lti.ReductionWarning)
        return f(*args, **kwargs)


def in_units(sys, spread):
    """The same system with its states in units from 10^-spread to 10^spread."""
    d = 10.0 ** np.linspace(-spread, spread, sys.order)
    return StateSpace(sys.A * d[:, None] / d, sys.B * d[:, None], sys.C / d, sys.D, sys.dt)


# ------------------------------------------------------------------ units


@pytest.mark.parametrize("spread", [4, 8, 20, 100])
@pytest.mark.parametrize("dt", [0, True])
def test_units_of_a_system_of_many_states(dt, spread):
    sys = random_dense(40, dt=dt, seed=1)
    other, w = in_units(sys, spread), np.linspace(-3, 3, 50)
    np.testing.assert_allclose(
        lti.frequency_response(other, w), lti.frequency_response(sys, w), atol=1e-11
    )
    np.testing.assert_allclose(lti.hinf_norm(other), lti.hinf_norm(sys), rtol=1e-8)
    for options in ({}, {"frequencies": (0, 1)}):
        one, two = (lti.balance(x, **options).hsv for x in (sys, other))
        np.testing.assert_allclose(two, one, atol=1e-11 * one[0])


@pytest.mark.parametrize("dt", [0, True])
@pytest.mark.parametrize("method", [
    lti.balanced_truncation, lti.singular_perturbation, lti.modal_truncation,
    lti.hankel_norm_approximation,
])  # fmt: skip
def test_a_certificate_can_fail_in_any_units(method, dt):

    sys = in_units(random_dense(4, 2, 2, dt=dt, seed=3), 8)
    reduction = quietly(method, sys, 2)
    error = float(reduction.verify())
    assert error <= reduction.error_bound * (1 + 1e-9)
    false = claiming(reduction, error_bound=reduction.error_bound * 0 + 0.99 * error)
    with pytest.raises(lti.CertificateError):
        false.verify()


@pytest.mark.parametrize("dt", [0, True])
def test_the_split_in_any_units(dt):
    sys = in_units(random_dense(4, 2, 2, dt=dt, seed=3), 8)
    assert np.isfinite(lti.balance(sys, unstable="split").hsv).all()


def test_ports_in_any_units():
    A = np.diag([-1.0, -2, -5])
    plain = (A, ones(3, 1), ones(1, 3))
    scaled = (A, 1e-200 * ones(3, 1), 1e200 * ones(1, 3))
    for f in (lti.hankel_singular_values, lti.hinf_norm, lti.linf_norm, lti.h2_norm):
        np.testing.assert_allclose(f(scaled), f(plain), rtol=1e-12)
    for method in (lti.balanced_truncation, lti.hankel_norm_approximation, lti.modal_truncation):
        np.testing.assert_allclose(method(scaled, 1).verify(), method(plain, 1).verify(), rtol=1e-6)


@pytest.mark.parametrize("sys", [
    ([[0.5, 1e160], [0, 0.5]], [[1.0], [1e-160]], [[1.0, 1e160]], None, True),
    ([[-0.5, 1e160], [0, -0.5]], [[1.0], [1e-160]], [[1.0, 1e160]]),
    ([[0, 1e160], [0, 0]], [[0], [1.0]], [[1e-160, 0]], None, True),
    ([[-1e-170]], [[1e-90]], [[1e-90]]),
    (np.diag([-1e-15, -1e15]), ones(2, 1), ones(1, 2)),
])  # fmt: skip
def test_very_large_and_small_numbers(sys):
    sys = lti.as_statespace(sys)
    d = np.diag(sys.A)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = lti.hankel_singular_values(sys)
    assert np.isfinite(values).all() and values[0] > 0
    if np.array_equal(sys.A, np.diag(d)):
        exact = lti.DiagonalStateSpace(d, sys.B, sys.C, None, sys.dt)
        np.testing.assert_allclose(values, lti.hankel_singular_values(exact), rtol=1e-10)


# ------------------------------------------------------------------ poles on and near the boundary


@pytest.mark.parametrize("seed", range(40))
def test_an_integrator_in_any_coordinates(seed):
    Q, discrete = np.random.default_rng(seed).standard_normal((4, 4)), seed % 2
    poles = [1, 0.5, -0.3, 0.2] if discrete else [0, -1.0, -0.5, -2]
    A = Q @ np.diag(poles) @ np.linalg.inv(Q)
    sys = StateSpace(A, ones(4, 1), ones(1, 4), None, True if discrete else 0)
    reduction = quietly(lti.balanced_truncation, sys, 3, unstable="split")
    s = np.exp(1j * np.array([0.5, 1, 2])) if discrete else 1j * np.array([0.5, 1, 2])
    gap = np.abs(response(sys, s) - response(reduction.system, s)).max()
    assert gap <= reduction.error_bound * (1 + 1e-6) + 1e-9 * np.linalg.cond(Q)
    assert np.isinf(lti.linf_norm(sys)) or np.linalg.cond(Q) > 30


@pytest.mark.parametrize("gap", [1e-9, 1e-12, 1e-14])
def test_a_slow_pole_is_flagged(gap):
    Q, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))
    slow = StateSpace(Q @ np.diag([-gap, -1, -2]) @ Q.T, Q @ ones(3, 1), ones(1, 3) @ Q.T)
    with pytest.warns(
        lti.ReductionWarning, match="of the stability boundary, relative to the size of A"
    ):
        reduction = lti.balanced_truncation(slow, tol=0.1)
    reduction.verify()


# ------------------------------------------------------------------ weights, modes, stacks


def test_a_weight_may_have_states_that_do_nothing():
    G = random_dense(4, 1, 1, seed=3)
    W = StateSpace([[-2.0]], [[1.0]], [[1.0]], [[1.0]])
    more = StateSpace([[-1.0, 0], [0, -2.0]], [[0.0], [1.0]], [[5.0, 1.0]], [[1.0]])
    for rule in ("enns", "lin-chiu", "wang"):
        for side in ("input_weight", "output_weight"):
            one = lti.balance(G, weighting=rule, **{side: W}).hsv
            np.testing.assert_allclose(
                lti.balance(G, weighting=rule, **{side: more}).hsv, one, atol=1e-9 * one[0]
            )


def test_modes_that_nearly_coincide_widen_the_bound():
    sys = StateSpace([[-1.0, 1], [0, -1 - 1e-14]], ones(2, 1), ones(1, 2))
    reduction = lti.modal_truncation(sys, 2)
    assert 0 < reduction.verify() <= reduction.error_bound < 1


def test_modal_truncation_counts_the_cast():
    arrays = (np.float32(x) for x in ([[-1, 0.3], [0.1, -2]], ones(2, 1), ones(1, 2)))
    reduction = lti.modal_truncation(StateSpace(*arrays), 2)
    w = np.linspace(-5, 5, 201)
    gap = np.abs(lti.frequency_response(
        StateSpace(*(np.float64(x) for x in (reduction.original.A, reduction.original.B,
                                             reduction.original.C))), w)
        - lti.frequency_response(StateSpace(*(np.float64(x) for x in (
            reduction.system.A, reduction.system.B, reduction.system.C))), w)).max()  # fmt: skip
    assert 1e-9 < gap <= reduction.error_bound


def test_flags_are_of_one_member():
    stack = StateSpace(-np.ones((2, 1, 1)), [[[1.0]], [[1e-9]]], [[1.0]])
    assert lti.balanced_truncation(stack, 1).flags == ()


# ------------------------------------------------------------------ odd arguments

G = random_dense(4, 1, 1, seed=3)
RING = random_ring(3, 1, 1)


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda: lti.balance(G, controllability=np.ones((3, 4, 2))), lti.DimensionError, "one for all"),
    (lambda: lti.balance(G, controllability="abc"), lti.DimensionError, "pass real or complex"),
    (lambda: lti.balance(G, input_weight=StateSpace(-np.ones((3, 1, 1)), ones(1, 1), ones(1, 1))),
     lti.DimensionError, "input_weight is a batch"),
    (lambda: lti.bilinear(([[1.0]], [[1.0]], [[1.0]])), lti.TimebaseError, "would go to infinity"),
    (lambda: lti.bilinear(([[-1.0]], [[1.0]], [[1.0]], None, True)), lti.TimebaseError, "infinity"),
    (lambda: lti.hinf_norm(G, rtol=-1), lti.OptionError, "rtol must be a finite number > 0"),
    (lambda: lti.linf_norm(G, rtol=np.nan), lti.OptionError, "rtol must be a finite number > 0"),
    (lambda: lti.hinf_norm(G, rtol="x"), lti.OptionError, "rtol must be a finite number > 0"),
    (lambda: lti.balance(RING, times=(0, 1e-30)), lti.OptionError, "multiples of the sampling"),
    (lambda: lti.frequency_response(([[0.0]], [[1.0]], [[1.0]]), [0.0]), lti.OptionError, "a pole"),
    (lambda: lti.frequency_response(lti.DiagonalStateSpace([1.0], [[1.0]], [[1.0]]), [0.0]),
     lti.OptionError, "a pole lies at one of the frequencies"),
    (lambda: lti.frequency_response(G, [np.inf]), lti.NonFiniteError, "w has 1 entries"),
    (lambda: StateSpace(np.zeros((0, 2, 2)), np.zeros((0, 2, 1)), np.zeros((0, 1, 2))),
     lti.DimensionError, "holds no system"),
    (lambda: StateSpace([[-1.0]], [[1.0]], [[1.0]], labels="a"), lti.DimensionError, "be Labels"),
    (lambda: lti.balance(G, weighting=[]), lti.OptionError, "weighting must be one of"),
])  # fmt: skip
def test_odd_arguments(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_a_factor_may_be_a_list_or_of_another_library():
    import torch

    S = np.arange(8.0).reshape(4, 2)
    one = lti.balance(G, controllability=S).hsv
    for other in (S.tolist(), torch.tensor(S)):
        np.testing.assert_allclose(lti.balance(G, controllability=other).hsv, one, rtol=1e-12)


def test_very_long_windows_are_infinite():
    sys = random_dense(3, dt=1e-9, seed=1)
    np.testing.assert_allclose(
        lti.balance(sys, times=(0, 1e300)).hsv, lti.balance(sys).hsv, rtol=1e-9
    )
