"""A schedule fires at the steps it states, whatever else the loop does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressm import At, Compressor, Every, KeepEnergy, OptionError
from tests.compressm.helpers import model_of


@given(st.integers(1, 20), st.integers(0, 30), st.none() | st.integers(-1, 100))
def test_every_is_start_plus_multiples_up_to_stop(n, start, stop):
    if stop is not None and stop < (start or n):
        with pytest.raises(OptionError, match=f"never due: its first step is {start or n};"):
            Every(n, start=start, stop=stop)
        return
    fired = {step for step in range(0, 120) if Every(n, start=start, stop=stop)(step)}
    last = 119 if stop is None else min(stop, 119)
    assert fired == set(range(start, last + 1, n)) - {0}


@given(st.lists(st.integers(1, 30), min_size=1))
def test_at_is_due_at_its_steps(steps):
    assert {step for step in range(40) if At(*steps)(step)} == set(steps)
    assert At(*steps) == At(*reversed(steps))


@pytest.mark.parametrize("bad", [(), (0,), (3, -1), (True,), (2.0,)])
def test_steps_that_are_none_are_refused(bad):
    with pytest.raises(ValueError, match="integers of at least 1"):
        At(*bad)


@pytest.mark.parametrize("bad", [{"n": 0}, {"n": -1}, {"n": 5, "start": -1}])
def test_values_outside_their_range_are_refused(bad):
    with pytest.raises(ValueError, match="at least"):
        Every(**bad)


def test_a_schedule_is_any_function_of_the_step():
    asked = []

    def doubling(step):
        asked.append(step)
        return step & (step - 1) == 0

    compressor = Compressor(model_of(), policy=KeepEnergy(1.0), schedule=doubling)
    events = [compressor.step() for _ in range(9)]
    assert [event.step for event in events if event] == [1, 2, 4, 8]
    assert set(asked) == set(range(1, 11))  # the next step is asked for, to observe it
