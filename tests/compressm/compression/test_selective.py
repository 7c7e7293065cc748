"""The cut of a selective layer: the states of the largest scores stay."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from compressm import LRU, Budget, ErrorBound, KeepEnergy, MetricDrop, States, compress_, preview
from compressm.gramians.observe import observe
from compressm.gramians.types import state_values
from compressm.systems.find import selective_layers
from compressm.systems.selective.keep import keep_states_
from tests.compressm.selective_layers import GRAMIANS, N, own, signal, stack


@pytest.mark.parametrize("gramians", GRAMIANS)
def test_the_states_with_the_largest_scores_are_kept(gramians):
    model, u = stack(own(), own(seed=3)), signal().u
    full = copy.deepcopy(model)
    torch.manual_seed(5)
    signals = observe(model, [u], gramians == "data")
    values = {name: state_values(m, signals[name], gramians) for name, m in selective_layers(model)}
    torch.manual_seed(5)
    event = compress_(model, States(4), gramians=gramians, data=[u], multiple_of=2)
    for cut, layer, whole in zip(event.layers, model, full, strict=True):
        kept = np.sort(np.argsort(-values[cut.name])[:4])
        keep_states_(whole, kept)
        assert torch.equal(whole.A_log, layer.A_log)
        assert (cut.before, cut.after, cut.order, cut.skipped) == (N, 4, 4, None)
        assert cut.gramians == gramians
        assert np.allclose(cut.hsv, np.sort(values[cut.name])[::-1])
        assert cut.energy_kept == pytest.approx(cut.hsv[:4].sum() / cut.hsv.sum())
        assert cut.error_bound == float("inf")
        per_state = 16 + 2 * 16
        assert cut.parameters[0] - cut.parameters[1] == 2 * per_state
    assert torch.equal(model(u), full(u))


def test_preview_and_a_dry_run_say_so_and_change_nothing():
    model, u = stack(own(), LRU(8, 12)), signal().u
    before = copy.deepcopy(model.state_dict())
    few, all_ = preview(model, [States(3), KeepEnergy(1.0)], data=[u])
    assert [cut.after for cut in few.layers] == [3, 3]
    assert [(cut.after, cut.skipped) for cut in all_.layers][0] == (N, None)
    event = compress_(model, States(3), data=[u], dry_run=True)
    assert [(cut.after, cut.gramians) for cut in event.layers] == [(3, "output"), (3, "input")]
    event = compress_(model[0], lambda hsv, stored: 3, data=[u], multiple_of=4, dry_run=True)
    assert (event.layers[0].after, event.layers[0].order) == (4, 4)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("gramians", GRAMIANS)
def test_a_budget_is_shared_by_linear_and_selective_layers(gramians):
    model, u = stack(LRU(8, 12), own(), LRU(8, 12)), signal().u
    event = compress_(model, Budget(total=12), gramians=gramians, data=[u])
    after = [model[0].d_state, model[1].d_state, model[2].d_state]
    assert [cut.after for cut in event.layers] == after
    assert all(n >= 1 for n in after) and 6 <= sum(after) <= 12


def test_a_search_by_a_metric_cuts_copies_of_selective_layers():
    model, u = stack(own()), signal().u
    with torch.no_grad():
        model[0].x_proj.weight[1 + N + 2] = 0  # of this state C shows nothing: it can go
        y = model(u)
    event = compress_(model, MetricDrop(lambda m: -(m(u) - y).abs().max().item(), 1e-9), data=[u])
    assert event.layers[0].after == N - 1 and torch.allclose(model(u), y, rtol=0, atol=1e-9)


def test_without_data_selective_layers_are_refused_and_others_are_not():
    with pytest.raises(ValueError, match="no data reached the layers"):
        compress_(stack(LRU(8, 12), own()), States(3))
    assert compress_(stack(LRU(8, 12)), States(3)).layers[0].after == 3


def test_what_cannot_be_cut_is_left_alone_and_says_why():
    u = signal().u
    model = stack(own(), LRU(8, 12))
    ours, lru = compress_(model, ErrorBound(1e3), data=[u]).layers
    assert ours.after == N and "no bound" in ours.skipped and lru.after < 12
    layer = own()
    tied = nn.ModuleList([layer, own(seed=1)])
    tied[1].A_log = layer.A_log
    tied.forward = lambda u: tied[1](tied[0](u))
    for cut in compress_(tied, States(3), data=[u]).layers:
        assert cut.after == N and "A_log is also a parameter of another" in cut.skipped
    (cut,) = compress_(own(), States(3), data=[u * float("nan")]).layers
    assert cut.after == N and "not finite" in cut.skipped
    silent = own()
    nn.init.zeros_(silent.x_proj.weight)
    (cut,) = compress_(silent, States(3), data=[u]).layers
    assert cut.after == N and "all zero" in cut.skipped
