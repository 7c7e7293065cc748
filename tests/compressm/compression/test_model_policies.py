"""Policies for the whole model: a budget, and a metric that decides."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compressm import (
    Budget,
    Compressor,
    Every,
    MetricDrop,
    OptionError,
    Rollback,
    States,
    compress_,
)
from tests.compressm.helpers import is_unchanged, model_of, parameters_of

# ------------------------------------------------------------------ Budget


@given(
    st.lists(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=12), min_size=1, max_size=4),
    st.integers(1, 40),
)
def test_a_budget_is_kept_and_used_up(spectra, total):
    spectra = [np.sort(np.array(x))[::-1] for x in spectra]
    stored = [lambda order: order] * len(spectra)
    orders = Budget(total=total).across(spectra, stored)
    assert all(1 <= r <= len(x) for r, x in zip(orders, spectra, strict=True))
    assert sum(orders) <= max(total, len(spectra))
    fractions = [(y := np.cumsum(x)) / y[-1] for x in spectra]
    reached = min(x[r - 1] for x, r in zip(fractions, orders, strict=True))
    for level in np.concatenate(fractions):
        needed = [min(int((x < level).sum()) + 1, len(x)) for x in fractions]
        assert sum(needed) > total or level <= reached


def test_a_fraction_is_a_budget_of_what_could_be_stored():
    flat = [np.ones(8), np.ones(8)]
    stored = [lambda order: order // 2] * 2
    assert Budget(fraction=0.5).across(flat, stored) == Budget(total=4).across(flat, stored)


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


def test_a_budget_is_shared_by_the_layers():
    model = model_of(d_state=32)
    with torch.no_grad():
        model.blocks[1].layer.B[4:] *= 1e-3  # its other states hardly matter
    equal = compress_(model, States(12), dry_run=True).layers
    first, second = compress_(model, Budget(total=24)).layers
    assert second.after < first.after and 20 <= first.after + second.after <= 24
    assert min(first.energy_kept, second.energy_kept) > min(cut.energy_kept for cut in equal)


# ------------------------------------------------------------------ MetricDrop


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
    for said in (float("nan"), float("inf"), torch.tensor(math.inf)):
        with pytest.raises(ValueError, match="return a finite number, got (nan|inf) for the model"):
            MetricDrop(lambda orders, said=said: said, 0.05).search(spectra, "model", list)
    with pytest.raises(ValueError, match="tol must"):
        MetricDrop(evaluate, -1.0)


@pytest.mark.parametrize("number", [torch.tensor, lambda x: torch.tensor([x]), np.float32])
def test_a_metric_may_return_a_tensor_of_one_element(number):
    def metric(model):
        return number(float(model.blocks[0].layer.d_state))

    model = model_of()
    compressor = Compressor(
        model, policy=States(4), schedule=Every(1, stop=1), rollback=Rollback(metric, 1, window=1)
    )
    assert compressor.step().layers[0].after == 4 and compressor.step().layers[0].after == 16
    compress_(model, MetricDrop(metric, 6))
    assert 10 <= model.blocks[0].layer.d_state < 16


@pytest.mark.parametrize("said", [None, "0.9", torch.ones(2), 1j, {}])
def test_a_metric_that_returns_no_number_is_refused(said):
    with pytest.raises(OptionError, match="metric must return a number, got"):
        compress_(model_of(), MetricDrop(lambda model: said, 0.1))
    rollback = Rollback(lambda model: said, 0)
    compressor = Compressor(model_of(), policy=States(4), schedule=Every(1), rollback=rollback)
    with pytest.raises(OptionError, match="metric must return a number, got"):
        compressor.step()


def test_the_smallest_order_that_the_metric_allows_is_found_on_copies():
    model = model_of(d_state=24).eval()
    u = torch.randn(6, 40, 2)
    y = model(u)
    before, seen = parameters_of(model), []

    def closeness(trial):
        seen.append(trial)
        assert is_unchanged(model, before)
        return closeness_of(trial, u, y)

    event = compress_(model, MetricDrop(closeness, 0.02))
    assert all(cut.after < 24 for cut in event.layers) and len(seen) < 10
    assert closeness_of(model, u, y) >= -0.02
    closest_refused = max(c for trial in seen if (c := closeness_of(trial, u, y)) < -0.02)
    assert -0.04 < closest_refused  # the search ended next to what the metric refuses


def closeness_of(model, u, y):
    return -((model(u) - y).norm() / y.norm()).item()


def test_a_metric_that_switches_to_evaluation_leaves_the_model_training():
    model = model_of(dropout=0.5)
    policy = MetricDrop(lambda trial: trial.eval()(torch.ones(1, 5, 2)).sum().item(), 1.0)
    compress_(model, policy)
    assert all(module.training for module in model.modules())
