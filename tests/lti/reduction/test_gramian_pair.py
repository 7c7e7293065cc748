"""Every option of `balance`: what is promised with it, against theory and against SLICOT."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

import lti
from lti.gramians.weighted import modified_input
from tests.lti.helpers import (
    close,
    dense_systems,
    quiet,
    random_dense,
    random_ring,
    same_response,
    square,
    systems,
)

# ------------------------------------------------------------------ given factors


@settings(max_examples=40)
@given(dense_systems(), st.integers(0, 99), st.booleans())
def test_one_exact_side_keeps_stability(sys, seed, observed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((sys.order, sys.order))
    given = {"controllability" if observed else "observability": X}
    balancing = lti.balance(sys, **given)
    for order in range(balancing.minimal_order + 1):
        if (
            0 < order < sys.order
            and balancing.sigma[order] > (1 - 1e-6) * balancing.sigma[order - 1]
        ):
            continue
        if order and balancing.sigma[order - 1] < 1e-9 * balancing.roundoff_scale:
            continue
        poles = quiet(balancing.truncate, order).system.poles
        assert (abs(poles) < 1 + 1e-9).all() if sys.is_discrete else (poles.real < 1e-9).all()


@settings(max_examples=40)
@given(dense_systems(), st.integers(0, 99))
def test_repaired_factors_have_a_bound(sys, seed):
    rng = np.random.default_rng(seed)
    S, R = rng.standard_normal((2, sys.order, sys.order))
    balancing = lti.balance(sys, controllability=S, observability=R, weighting="wang")
    for order in range(sys.order):
        reduction = quiet(balancing.truncate, order)
        if np.isfinite(reduction.error_bound):
            reduction.verify()


@given(dense_systems(), st.integers(0, 99))
def test_the_modified_input_holds_the_input(sys, seed):
    S = np.random.default_rng(seed).standard_normal((sys.order, 3))
    B, J = modified_input(sys, S)
    np.testing.assert_allclose(B @ J, sys.B, atol=1e-6 * (1 + np.abs(sys.B).max()))
    M = (
        square(S) - square(sys.A @ S)
        if sys.is_discrete
        else -(sys.A @ square(S) + square(S) @ sys.A.conj().T)
    )
    close(square(B), scipy.linalg.sqrtm(M @ M.conj().T), 1e-5)


def test_exact_factors_given_are_the_exact_reduction():
    ring = random_ring(4, conjugate=True, seed=2)
    S, R = lti.gramian_factors(ring)
    one = lti.balance(ring, controllability=S, observability=R).truncate(3)
    same_response(one.system, lti.balanced_truncation(ring, 3).system, 1e-10)
    assert one.error_bound == np.inf and "user-supplied" in one.method


def test_given_factors_of_a_system_that_is_split():
    A = np.diag([1.5, 0.5, 0.25])
    sys = lti.StateSpace(A, np.ones((3, 1)), np.ones((1, 3)), dt=True)
    S, R = (
        np.vstack([np.zeros((1, 2)), X])
        for X in lti.gramian_factors((A[1:, 1:], np.ones((2, 1)), np.ones((1, 2)), None, True))
    )
    given_ = lti.balance(sys, unstable="split", controllability=S, observability=R).truncate(2)
    same_response(given_.system, lti.balanced_truncation(sys, 2, unstable="split").system, 1e-12)


# ------------------------------------------------------------------ orders, errors


@given(systems(), st.floats(0.01, 1.0))
def test_energy_is_the_share_of_the_sum(sys, energy):
    sigma = lti.hankel_singular_values(sys)
    order = lti.order_for(sigma, energy=energy)
    assert order == 0 or sigma[: order - 1].sum() < energy * sigma.sum() * (1 + 1e-12)
    assert sigma[:order].sum() >= energy * sigma.sum() * (1 - 1e-12)
    reduction = quiet(lti.balanced_truncation, sys, energy=energy)
    assert reduction.order == min(order, lti.balance(sys).minimal_order)


@pytest.mark.parametrize("energy", [0, 1.5, -1, np.nan, "0.9"])
def test_senseless_energy(energy):
    with pytest.raises(lti.OrderError, match=r"must lie in \(0, 1\], got "):
        lti.balanced_truncation(random_dense(3), energy=energy)


SYS = random_dense(4, 2, 3, seed=1)
WEIGHT = random_dense(2, 2, 2, seed=2)
NARROW = random_dense(2, 2, 3, seed=2)
SAMPLED = random_dense(2, 2, 2, dt=0.1, seed=2)


@pytest.mark.parametrize(("options", "error", "text"), [
    ({"unstable": "keep"}, lti.OptionError, "unstable must be one of 'raise', 'split'; got 'keep'"),
    ({"method": "sr"}, lti.OptionError, "method must be one of 'square-root', 'balancing-free'"),
    ({"weighting": "x"}, lti.OptionError, "weighting must be one of 'enns', 'lin-chiu', 'wang'"),
    ({"weighting": "lin-chiu"}, lti.OptionError, "is a rule for weights; give a weight"),
    ({"weighting": "wang"}, lti.OptionError, "changes Gramians that are weighted, limited"),
    ({"frequencies": (0, 1), "times": (0, 1)}, lti.OptionError, "cannot both be limited"),
    ({"frequencies": (1, 0)}, lti.OptionError, "frequencies must be a pair"),
    ({"frequencies": [(0, 2), (1, 3)]}, lti.OptionError, "that do not overlap"),
    ({"frequencies": (-1, 1)}, lti.OptionError, "0 <= start"),
    ({"frequencies": 3.0}, lti.OptionError, "frequencies must be a pair"),
    ({"frequencies": (0, np.nan)}, lti.OptionError, "frequencies must be a pair"),
    ({"times": "now"}, lti.OptionError, "times must be a pair"),
    ({"times": (2, 2)}, lti.OptionError, "times must be a pair"),
    ({"output_weight": WEIGHT}, lti.DimensionError, "a system of 3 inputs cannot follow one of 2"),
    ({"input_weight": NARROW}, lti.DimensionError, "a system of 2 inputs cannot follow one of 3"),
    ({"input_weight": SAMPLED}, lti.TimebaseError, "different time bases"),
    ({"input_weight": replace(WEIGHT, A=-WEIGHT.A)}, lti.UnstableError, "input_weight: 2 of 2"),
    ({"input_weight": WEIGHT, "controllability": np.eye(4)}, lti.OptionError, "has its weight in"),
])  # fmt: skip
def test_senseless_options(options, error, text):
    with pytest.raises(error, match=text):
        lti.balance(SYS, **options)


def test_an_option_that_does_not_exist():
    with pytest.raises(lti.OptionError, match="there is no option 'methd'; there are unstable, "):
        lti.balanced_truncation(SYS, 2, methd="x")


def test_windows_are_multiples_of_the_sampling_time():
    sys = random_dense(3, dt=0.5)
    with pytest.raises(lti.OptionError, match="times must be multiples of the sampling time 0.5"):
        lti.balance(sys, times=(0, 1.2))
    with pytest.raises(lti.OptionError, match="stop <= 6.28319"):
        lti.balance(sys, frequencies=(0, 7))


# ------------------------------------------------------------------ array libraries, stacks


OPTIONS = {
    "weights": {"input_weight": WEIGHT, "weighting": "enns"},
    "wang": {"input_weight": WEIGHT, "weighting": "wang"},
    "lin-chiu": {"input_weight": WEIGHT, "weighting": "lin-chiu"},
    "band": {"frequencies": (0.1, 2.0)},
    "window": {"times": (0, 2)},
    "balancing-free": {"method": "balancing-free"},
}


@pytest.mark.parametrize("stack", [(), (2,)])
@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("dt", [0, True])
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("form", ["truncate", "singular_perturbation"])
def test_every_option_in_every_library(library, form, name, dt, is_complex, stack):
    sys = random_dense(5, 2, 2, dt=dt, is_complex=is_complex, stack=stack, seed=9)
    options = {k: replace(v, dt=dt, A=v.A / (4 if dt else 1)) if k == "input_weight" else v
               for k, v in OPTIONS[name].items()}  # fmt: skip
    reduction = quiet(getattr(lti.balance(library.system(sys), **options), form), 3)
    small = reduction.system
    arrays = [small.A, small.B, small.C, small.D, reduction.hsv, reduction.error_bound]
    assert library.owns(*arrays)
    A, B, C, D, hsv, bound = map(np.asarray, arrays)
    assert A.dtype == (np.complex128 if is_complex else np.float64) and bound.shape == stack
    for i in np.ndindex(stack):
        one = lti.StateSpace(sys.A[i], sys.B[i], sys.C[i], sys.D[i], dt)
        alone = quiet(getattr(lti.balance(one, **options), form), 3)
        np.testing.assert_allclose(hsv[i], alone.hsv, atol=1e-10 * alone.hsv[0])
        same_response(lti.StateSpace(A[i], B[i], C[i], D[i], dt), alone.system, 1e-7)


def test_labels_survive():
    labels = lti.Labels(name="arm", inputs=("u",), outputs=("y",), states=("a", "b"))
    sys = lti.StateSpace(np.diag([-1.0, -2]), np.ones((2, 1)), np.ones((1, 2)), labels=labels)
    for reduce in (lti.balanced_truncation, lti.singular_perturbation, lti.modal_truncation):
        small = reduce(sys, 1).system
        assert small.labels == lti.Labels(name="arm", inputs=("u",), outputs=("y",))
