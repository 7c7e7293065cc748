"""A schedule fires at the steps it states, whatever else the loop does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressm import Every


@given(st.integers(1, 20), st.integers(0, 30), st.none() | st.integers(0, 100))
def test_every_is_start_plus_multiples_up_to_stop(n, start, stop):
    fired = {step for step in range(0, 120) if Every(n, start=start, stop=stop)(step)}
    last = 119 if stop is None else min(stop, 119)
    assert fired == set(range(start, last + 1, n)) - {0}


def test_the_example_of_the_readme():
    assert [s for s in range(6000) if Every(500, stop=5_000)(s)] == list(range(500, 5001, 500))


@pytest.mark.parametrize("bad", [{"n": 0}, {"n": -1}, {"n": 5, "start": -1}])
def test_values_outside_their_range_are_refused(bad):
    with pytest.raises(ValueError, match="at least"):
        Every(**bad)
