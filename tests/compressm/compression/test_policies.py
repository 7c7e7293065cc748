"""Policies for one layer: promises are kept, and nothing collapses at the edges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compressm import ErrorBound, KeepEnergy, States

spectra = hnp.arrays(
    st.sampled_from([np.float32, np.float64]),
    st.integers(1, 40),
    elements=st.floats(2.0**-20, 2.0**20, width=32),
).map(lambda x: np.sort(x)[::-1])


def identity(order):
    return order


@given(spectra)
def test_keeping_all_energy_keeps_every_state(hsv):
    assert KeepEnergy(1.0)(hsv, identity) == len(hsv)


@given(spectra, st.floats(0.01, 0.999))
def test_kept_energy_is_enough_and_one_state_fewer_is_not(hsv, energy):
    order = KeepEnergy(energy)(hsv, identity)
    total, rounding = float(hsv.sum(dtype=float)), 1e-5
    assert hsv[:order].sum(dtype=float) >= (energy - rounding) * total
    assert hsv[: order - 1].sum(dtype=float) <= (energy + rounding) * total


def test_energy_is_the_sum_and_not_the_sum_of_squares():
    hsv = np.array([6.0, 3.0, 1.0])  # shares 0.6, 0.9, 1; of squares 0.78, 0.98, 1
    assert KeepEnergy(0.7)(hsv, identity) == 2
    assert KeepEnergy(0.95)(hsv, identity) == 3


@given(spectra, st.floats(0, 100))
def test_error_bound_is_met_by_the_smallest_order(hsv, tol):
    order = ErrorBound(tol)(hsv, identity)
    tail = 2 * np.unique(hsv[order:]).sum(dtype=float)
    assert tail <= tol * (1 + 1e-5)
    if 0 < order < len(hsv):
        assert 2 * hsv[order - 1 :].sum(dtype=float) > tol * (1 - 1e-5)


def test_error_bound_relative_counts_in_the_largest_value():
    hsv = np.array([10.0, 1.0, 0.1])
    assert ErrorBound(0.25)(hsv, identity) == 2
    assert ErrorBound(0.25, relative=True)(hsv, identity) == 1


@given(st.integers(1, 30), st.integers(1, 12), st.data())
def test_states_takes_the_highest_order_that_fits(n, stored, data):
    # of each leading block, some number of poles between half and all need a slot
    slots = [0] + [data.draw(st.integers((r + 1) // 2, r)) for r in range(1, n + 1)]
    order = States(stored)(np.ones(n), slots.__getitem__)
    assert slots[order] <= stored
    assert all(slots[r] > stored for r in range(order + 1, n + 1))


def test_states_takes_order_one_where_nothing_fits():
    assert States(2)(np.ones(6), lambda order: 4) == 1  # slots come in multiples of 4


def test_channels_count_together():
    loud, quiet = np.array([8.0, 1.0, 0.5]), np.array([0.01, 0.01, 0.01])
    count = lambda order: order  # noqa: E731
    assert KeepEnergy(0.89)(np.stack([loud, quiet]), count) == 2
    assert ErrorBound(1.0)(np.stack([loud, quiet]), count) == 2
    assert States(2)(np.stack([loud, quiet]), count) == 2


@pytest.mark.parametrize(
    "make",
    [
        lambda: KeepEnergy(0.0),
        lambda: KeepEnergy(1.5),
        lambda: KeepEnergy(float("nan")),
        lambda: ErrorBound(-1.0),
        lambda: ErrorBound(float("nan")),
        lambda: ErrorBound(float("inf")),
        lambda: States(0),
        lambda: States(True),
    ],
)
def test_values_outside_their_range_are_refused(make):
    with pytest.raises(ValueError, match="got"):
        make()


def test_a_fractional_number_of_states_is_refused():
    with pytest.raises(TypeError):
        States(2.5)  # pyright: ignore[reportArgumentType]
