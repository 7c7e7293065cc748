"""Orders from spectra: promises are kept, and nothing collapses at the edges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compressm import Budget, ErrorBound, KeepEnergy, MetricDrop, Order

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
def test_order_takes_the_largest_real_order_whose_slots_fit(n, stored, data):
    # of each leading block, some number of poles between half and all need a slot
    slots = [0] + [data.draw(st.integers((r + 1) // 2, r)) for r in range(1, n + 1)]
    order = Order(stored)(np.ones(n), slots.__getitem__)
    assert slots[order] <= stored
    assert all(slots[r] > stored for r in range(order + 1, n + 1))


@pytest.mark.parametrize(
    "make",
    [
        lambda: KeepEnergy(0.0),
        lambda: KeepEnergy(1.5),
        lambda: KeepEnergy(float("nan")),
        lambda: ErrorBound(-1.0),
        lambda: ErrorBound(float("nan")),
        lambda: ErrorBound(float("inf")),
        lambda: Order(0),
        lambda: Order(True),
    ],
)
def test_values_outside_their_range_are_refused(make):
    with pytest.raises(ValueError, match="got"):
        make()


def test_a_fractional_order_is_refused():
    with pytest.raises(TypeError):
        Order(2.5)  # pyright: ignore[reportArgumentType]


@given(
    st.lists(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=12), min_size=1, max_size=4),
    st.integers(1, 40),
)
def test_a_budget_is_kept_and_used_up(spectra, total):
    spectra = [np.sort(np.array(x))[::-1] for x in spectra]
    slots = [lambda order: order] * len(spectra)
    orders = Budget(total=total).across(spectra, slots)
    assert all(1 <= r <= len(x) for r, x in zip(orders, spectra, strict=True))
    assert sum(orders) <= max(total, len(spectra))
    shares = [(y := np.cumsum(x)) / y[-1] for x in spectra]
    reached = min(x[r - 1] for x, r in zip(shares, orders, strict=True))
    for level in np.concatenate(shares):
        needed = [min(int((x < level).sum()) + 1, len(x)) for x in shares]
        assert sum(needed) > total or level <= reached


def test_a_fraction_is_a_budget_of_what_could_be_stored():
    flat = [np.ones(8), np.ones(8)]
    slots = [lambda order: order // 2] * 2
    assert Budget(fraction=0.5).across(flat, slots) == Budget(total=4).across(flat, slots)


def test_a_budget_gives_states_to_the_layer_that_needs_them():
    flat, steep = np.ones(16), 0.1 ** np.arange(16.0)
    assert Budget(total=16).across([flat, 1e6 * steep], [lambda order: order] * 2) == [15, 1]


@pytest.mark.parametrize(
    "options",
    [{}, {"total": 3, "fraction": 0.5}, {"total": 0}, {"total": True}, {"fraction": 0.0},
     {"fraction": 1.5}, {"fraction": float("nan")}],
    ids=str,
)  # fmt: skip
def test_budgets_that_make_no_sense(options):
    with pytest.raises(ValueError, match=r"total|fraction"):
        Budget(**options)


def test_channels_count_together():
    loud, quiet = np.array([8.0, 1.0, 0.5]), np.array([0.01, 0.01, 0.01])
    count = lambda order: order  # noqa: E731
    assert KeepEnergy(0.89)(np.stack([loud, quiet]), count) == 2
    assert ErrorBound(1.0)(np.stack([loud, quiet]), count) == 2
    assert Order(2)(np.stack([loud, quiet]), count) == 2


def test_a_metric_decides():
    spectra = [np.array([4.0, 3.0, 2.0, 1.0]), np.array([1.0, 1e-3])]
    for needed in ([1, 1], [2, 1], [3, 1], [4, 1], [4, 2]):
        tried = []

        def evaluate(orders, needed=needed, tried=tried):
            if orders == "model":
                return 0.9
            tried.append(orders)
            return 0.9 - 0.1 * any(r < k for r, k in zip(orders, needed, strict=True))

        orders = MetricDrop(evaluate, 0.05).search(spectra, "model", lambda orders: orders)
        assert orders == needed and len(tried) <= 3
    always = MetricDrop(lambda orders: 0.9 if orders == "model" else float("nan"), 0.05)
    assert always.search(spectra, "model", lambda orders: orders) == [4, 2]  # nothing is cut
    for said in (float("nan"), float("inf"), None):
        with pytest.raises(ValueError, match=f"return a finite number, got {said} for the model"):
            MetricDrop(lambda orders, said=said: said, 0.05).search(spectra, "model", list)
    with pytest.raises(ValueError, match="tol must"):
        MetricDrop(evaluate, -1.0)


def test_an_order_that_nothing_fits_is_the_smallest():
    assert Order(2)(np.ones(6), lambda order: 4) == 1  # slots come in multiples of 4
