"""Singular perturbation: the DC gain is preserved, and so are the values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lti
from tests.lti.helpers import (
    quiet,
    random_dense,
    response,
    same_response,
    systems,
)


@given(systems(), st.sampled_from(["square-root", "balancing-free"]))
def test_singular_perturbation_is_exact_at_dc_and_keeps_the_values(sys, method):
    balancing = lti.balance(sys, method=method)
    scale = float(balancing.roundoff_scale)
    dc = np.array([1.0 + 0j if sys.is_discrete else 0j])
    for order in range(balancing.minimal_order + 1):
        small = quiet(balancing.singular_perturbation, order)
        if np.isinf(small.error_bound):
            continue
        allowed = 1e-9 * scale * (1 + np.abs(response(sys, dc)).max())
        np.testing.assert_allclose(response(small.system, dc), response(sys, dc), atol=allowed)
        if order and balancing.hsv[order - 1] > 1e-3 * scale and not small.flags:
            values = lti.hankel_singular_values(small.system)
            np.testing.assert_allclose(values, balancing.hsv[:order], atol=1e-7 * scale)


def test_published_errors_of_singular_perturbation():
    sys = lti.DiagonalStateSpace([0.9, 0.5, -0.3, -0.7], [[1.0], [2], [3], [1]], [[1.0, 1, 0.5, 2]])
    errors = [float(lti.singular_perturbation(sys, r).verify()) for r in (1, 2, 3)]
    np.testing.assert_allclose(errors, [10.1787800, 2.0599743, 0.2639742], atol=5e-8)


@pytest.mark.parametrize("is_complex", [False, True])
def test_singular_perturbation_commutes_with_the_bilinear_map(is_complex):
    sys = random_dense(6, dt=0, seed=3, is_complex=is_complex)
    for order in range(6):
        one = lti.singular_perturbation(lti.bilinear(sys, 0.3), order).system
        other = lti.bilinear(lti.singular_perturbation(sys, order).system, 0.3)
        same_response(one, other, 1e-10)


def test_the_projections_of_singular_perturbation():
    sys = random_dense(6, 2, 3, dt=True, seed=4)
    small = lti.singular_perturbation(sys, 3)
    T, W = small.T, small.W
    np.testing.assert_allclose(W @ T, np.eye(3), atol=1e-13)
    np.testing.assert_allclose(sys.C @ T, small.system.C, atol=1e-12)
    np.testing.assert_allclose(W @ sys.A @ T, small.system.A, atol=1e-12)
