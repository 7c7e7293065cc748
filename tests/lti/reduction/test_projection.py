"""Balancing-free bases: the same reduced systems, well conditioned."""

import numpy as np
import pytest
from hypothesis import given

import lti
from tests.lti.helpers import (
    all_pass,
    quiet,
    same_response,
    systems,
)


@given(systems())
def test_balancing_free_gives_the_same_systems(sys):
    one, other = lti.balance(sys), lti.balance(sys, method="balancing-free")
    for order in range(one.minimal_order + 1):
        if order and one.hsv[order - 1] < 1e-6 * one.roundoff_scale:
            continue
        for form in ("truncate", "singular_perturbation"):
            a, b = quiet(getattr(one, form), order), quiet(getattr(other, form), order)
            if not a.flags:
                same_response(a.system, b.system, 1e-8)
    # W T = I to the rounding of the smallest value that is kept, relative to the scale of all
    clear = int((one.hsv > 1e-6 * one.roundoff_scale).sum())
    whole = quiet(other.truncate, clear)
    np.testing.assert_allclose(whole.W @ whole.T, np.eye(clear), atol=1e-7)


def test_balancing_free_does_not_mind_units():
    poles = [0.5 - 6e-39j] * 2  # in real coordinates one of the two states of a mode is 1e-30
    B, C = 1e-8j * np.eye(2) + 5e-38 * np.eye(2), -1.25 * np.eye(2)
    sys = lti.DiagonalStateSpace(poles, B, C, conjugate=True)
    # and here two of three states are reached by no input
    B, C = 1e-38 * np.eye(2)[[0, 0, 1, 1]] * [[1], [0], [1], [0]], np.ones((2, 4))
    hidden = lti.DiagonalStateSpace([0.5, 0.25, 0.5, 0.25], B, C * [[1, 2, 0, 0], [0, 0, 1, 2]])
    for form in (lti.balanced_truncation, lti.singular_perturbation):
        for x in (sys, hidden):
            reduction = quiet(form, x, 2, method="balancing-free")
            np.testing.assert_allclose(reduction.system.poles, 0.5, rtol=1e-6)


def test_balancing_free_in_a_stack_of_unequal_ranks(library):
    B = np.array([[[1.0], [1.0], [1.0]], [[1.0], [0.0], [1.0]]])
    sys = lti.DiagonalStateSpace([0.9, 0.5, -0.4], B, np.ones((1, 3)))
    sys = library.system(lti.DiagonalStateSpace(sys.poles, sys.B, sys.C))
    free = lti.balance(sys, method="balancing-free").truncate(3)
    error = np.asarray(free.verify())
    assert error.shape == (2,) and (error < 1e-12).all()


@pytest.mark.parametrize("form", [lti.balanced_truncation, lti.singular_perturbation])
def test_balancing_free_cuts_through_equal_values_as_well_as_square_roots(form):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        sys = all_pass(-rng.uniform(0.3, 3, 5) + 1j * rng.uniform(-2, 2, 5))
        for order in range(1, 5):
            reduction = quiet(form, sys, order, method="balancing-free")
            if np.isfinite(reduction.error_bound):
                np.testing.assert_allclose(lti.hinf_norm(sys - reduction.system), 2, rtol=1e-7)
