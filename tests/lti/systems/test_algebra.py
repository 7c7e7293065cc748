"""Systems in series multiply their responses; units of states change none."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lti.gramians.exact import balanced_units, double_factors
from lti.systems.algebra import dual, in_units
from lti.systems.operators import product
from tests.lti.helpers import (
    boundary,
    close,
    dense_systems,
    random_dense,
    response,
)


@given(dense_systems(dt=0, is_complex=False), st.integers(0, 99))
def test_series_multiplies_responses(sys, seed):
    weight = random_dense(3, 2, sys.n_inputs, dt=0, seed=seed)
    s = boundary(sys, 20)
    close(response(product(sys, weight), s), response(sys, s) @ response(weight, s))
    close(response(dual(sys), s.conj()), response(sys, s).conj().swapaxes(-1, -2))


@given(dense_systems(), st.integers(0, 99))
def test_units_of_states_keep_the_response(sys, seed):
    d = 2.0 ** np.random.default_rng(seed).integers(-9, 10, sys.order)
    other = in_units(sys, d)
    s = boundary(sys, 5)
    close(response(other, s), response(sys, s))
    np.testing.assert_array_equal(in_units(other, 1 / d).A, sys.A)


@given(dense_systems())
def test_balanced_units_have_equal_diagonals(sys):
    S, R = double_factors(in_units(sys, balanced_units(sys)))
    p, q = (np.linalg.norm(X, axis=-1) for X in (S, R))
    both = (p > 0) & (q > 0)
    most = 2 * sys.order**0.5  # the largest entry of a row stands for its norm
    assert (np.abs(np.log2(p[both] / q[both])) <= np.log2(most) + 1e-6).all()
