"""Policies for one layer: promises are kept, and nothing collapses at the edges."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compressm import (
    Compressor,
    ErrorBound,
    Every,
    KeepEnergy,
    OptionError,
    OutputError,
    Policy,
    States,
    compress_,
    preview,
)
from tests.compressm.helpers import model_of, smooth

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
    hsv = np.array([6.0, 3.0, 1.0])  # fractions 0.6, 0.9, 1; of squares 0.78, 0.98, 1
    assert KeepEnergy(0.7)(hsv, identity) == 2
    assert KeepEnergy(0.95)(hsv, identity) == 3


@given(spectra, st.floats(0, 0.999))
def test_error_bound_is_met_by_the_smallest_order(hsv, fraction):
    tol = fraction * 2 * float(hsv[0])  # so that the first state at least must stay
    order = ErrorBound(tol)(hsv, identity)
    assert 2 * np.unique(hsv[order:]).sum(dtype=float) <= tol * (1 + 1e-5)
    assert order >= 1 and 2 * hsv[order - 1 :].sum(dtype=float) > tol * (1 - 1e-5)


def test_a_large_error_bound_keeps_nothing():
    assert ErrorBound(12.0)(np.array([3.0, 2.0, 1.0]), identity) == 0


def test_error_bound_relative_counts_in_the_largest_value():
    hsv = np.array([10.0, 1.0, 0.1])
    assert ErrorBound(0.25)(hsv, identity) == 2
    assert ErrorBound(0.25, relative=True)(hsv, identity) == 1


@given(st.integers(1, 30), st.integers(1, 12), st.data())
def test_states_takes_the_highest_order_that_fits(n, stored, data):
    # of each leading block, some number of poles between half and all need a stored state
    needed = [0] + [data.draw(st.integers((r + 1) // 2, r)) for r in range(1, n + 1)]
    order = States(stored)(np.ones(n), needed.__getitem__)
    assert needed[order] <= stored
    assert all(needed[r] > stored for r in range(order + 1, n + 1))


def test_states_takes_order_one_where_nothing_fits():
    assert States(2)(np.ones(6), lambda order: 4) == 1  # stored states come in multiples of 4


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
    with pytest.raises(OptionError, match="n_stored must be an integer"):
        States(2.5)  # pyright: ignore[reportArgumentType]


# ------------------------------------------------------------------ a policy from outside


def half(hsv, stored):
    """Half the stored states."""
    return next(r for r in range(hsv.shape[-1], 0, -1) if stored(r) <= 8)


class Half(Policy):
    """The same as a class."""

    def order(self, layer):
        return half(layer.hsv, layer.stored)


class Same(Policy):
    """The order that the first layer needs for 90% of its energy, for all layers."""

    def orders(self, layers, copy):
        assert copy().blocks[0].layer.d_state == 16
        order = KeepEnergy(0.9).order(layers[0])
        trial = copy([order] * len(layers))
        self.stored = [block.layer.d_state for block in trial.blocks]
        return [order] * len(layers)


@pytest.mark.parametrize("policy", [half, Half()], ids=["function", "class"])
def test_a_policy_for_one_layer_comes_from_outside(policy):
    model = model_of()
    (planned,) = preview(model, [policy])
    events = [compress_(copy.deepcopy(model), policy)]
    compressor = Compressor(model, policy=policy, schedule=Every(1))
    events.append(compressor.step())
    for event in (planned, *events):
        assert [(cut.after, cut.skipped) for cut in event.layers] == [(8, None)] * 2


def test_a_policy_for_the_whole_model_comes_from_outside():
    model, policy = model_of(), Same()
    assert policy.whole_model and not Half().whole_model
    expected = compress_(copy.deepcopy(model), KeepEnergy(0.9)).layers[0]
    first, second = Compressor(model, policy=policy, schedule=Every(1)).step().layers
    assert (first.after, first.order) == (expected.after, expected.order)
    assert [first.after, second.after] == policy.stored  # as in the copy that it asked for
    with pytest.raises(OptionError, match="needs all layers together"):
        policy(np.ones(3), identity)


def test_the_policy_of_a_compressor_may_be_replaced():
    compressor = Compressor(model_of(), policy=States(8), schedule=Every(1))
    compressor.step()
    compressor.policy = half = States(4)
    assert compressor.policy is half
    assert [cut.after for cut in compressor.step().layers] == [4, 4]


@pytest.mark.parametrize("layer", ["lru", "s4d", "mamba"])
@pytest.mark.parametrize("tol", [0.02, 0.2])
def test_an_output_error_is_the_smallest_order_within_the_tolerance(layer, tol):
    model = model_of(layer=layer, d_state=12).double()
    data = smooth(40, 50, 2).double().split(8)
    cuts = compress_(model, OutputError(tol), gramians="input", data=data, dry_run=True).layers
    assert any(cut.after < cut.before for cut in cuts)
    for cut in cuts:
        if cut.after == cut.before or cut.order == 1:
            continue
        assert cut.output_error <= tol * 1.001

        def less(hsv, stored, order=cut.order):
            return order - 1

        (event,) = preview(model, [less], gramians="input", data=data)
        (below,) = (other for other in event.layers if other.name == cut.name)
        assert below.after == cut.after or below.output_error > tol


def test_an_output_error_without_enough_sequences_leaves_the_layers_as_they_are():
    model = model_of()
    cut, _ = compress_(model, OutputError(0.1), data=[torch.randn(7, 20, 2)]).layers
    assert cut.after == 16 and "every eighth sequence" in cut.skipped
    assert compress_(model, OutputError(0.1)).layers[0].after == 16
    with pytest.raises(OptionError, match=r"must lie in \(0, 1\), got 1.0"):
        OutputError(1.0)


@pytest.mark.parametrize("layer", ["lru", "s5", "mamba"])
def test_the_default_is_an_output_error_where_one_is_measured(layer):
    data = smooth(40, 50, 2).split(8)
    default, given = preview(model_of(layer=layer), [None, OutputError(0.005)], data=data)
    assert [cut.after for cut in default.layers] == [cut.after for cut in given.layers]
    assert any(cut.after < cut.before for cut in default.layers)


@pytest.mark.parametrize(("data", "energy"), [((), 0.98), ([torch.randn(7, 20, 2)], 0.9995)])
def test_the_default_is_an_energy_fraction_where_no_output_error_is_measured(data, energy):
    default, given = preview(model_of(), [None, KeepEnergy(energy)], data=data)
    assert [cut.order for cut in default.layers] == [cut.order for cut in given.layers]
