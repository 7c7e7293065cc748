"""Systems in series multiply their responses."""

from hypothesis import given
from hypothesis import strategies as st

from lti.systems.algebra import dual
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
