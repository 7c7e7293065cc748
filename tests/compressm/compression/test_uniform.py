"""Sizes of a grid, and one size for all layers of a type."""

import pytest
import torch
from torch import nn

from compressm import (
    LRU,
    S4D,
    Budget,
    Compressor,
    Every,
    KeepEnergy,
    Mamba,
    OptionError,
    Rollback,
    States,
    compress_,
    preview,
)
from compressm.sizes import MAMBA2
from compressm.systems.find import stored_states
from tests.compressm.helpers import is_unchanged, model_of, parameters_of
from tests.compressm.selective_layers import language_model, tokens


def uneven(d_state=32):
    """A model whose first layer needs more states than the second."""
    model = model_of(d_state=d_state)
    with torch.no_grad():
        model.blocks[1].layer.C[:, 4:] *= 1e-3
    return model


def sizes(model):
    return [block.layer.d_state for block in model.blocks]


# ------------------------------------------------------------------ sizes


@pytest.mark.parametrize("allowed", [[5, 11, 23], lambda n: n % 7 == 0, range(6, 40, 6)])
def test_layers_end_at_allowed_sizes(allowed):
    model, free = uneven(), uneven()
    plain = compress_(free, KeepEnergy(0.9))
    event = compress_(model, KeepEnergy(0.9), sizes=allowed)
    fits = allowed if callable(allowed) else lambda n: n in allowed
    for cut, needed in zip(event.layers, plain.layers, strict=True):
        assert cut.after == next(n for n in range(needed.after, 33) if n == 32 or fits(n))
        assert cut.energy_kept >= needed.energy_kept
    assert sizes(model) == [cut.after for cut in event.layers] != [32, 32]


@pytest.mark.parametrize("kind", [LRU, S4D])
@pytest.mark.parametrize("n", [7, 12])
def test_a_size_is_met_exactly_and_changes_nothing_but_the_states(kind, n):
    torch.manual_seed(0)
    layer = kind(4, 16)
    compress_(layer, lambda hsv, stored: 5, sizes=[n])  # fewer modes than states to store
    assert stored_states(layer) == n
    torch.manual_seed(0)
    free = kind(4, 16)
    event = compress_(free, States(n))
    u = torch.randn(2, 30, 4)
    assert (layer(u) - free(u)).norm() < 2e-3 * free(u).norm() + event.layers[0].error_bound


def test_states_that_fill_up_a_size_learn():
    layer = model_of(d_state=24, n_layers=1).blocks[0].layer
    with torch.no_grad():
        layer.C[:, 5:] = 0
    u = torch.randn(3, 20, 4)
    before = layer(u).detach()
    compress_(layer, KeepEnergy(0.999999), sizes=[16])
    assert layer.d_state == 16
    assert torch.allclose(layer(u), before, atol=1e-4 * float(before.abs().max()))
    assert 1 <= int((layer.C == 0).all(2).all(0).sum()) < 16
    layer(u).square().mean().backward()
    assert (layer.C.grad.abs().sum((0, 2)) > 0).all()


def test_a_size_that_no_layer_can_store_is_refused():
    model = uneven()
    with pytest.raises(OptionError, match=r"no layer can store 64 or 128 states.*layer 32"):
        compress_(model, KeepEnergy(0.9), sizes=[64, 128])
    with pytest.raises(OptionError, match="no layer can store 64 states"):
        preview(model, sizes=[64])
    with pytest.raises(OptionError, match="no layer can store a multiple of 48 states"):
        Compressor(model, schedule=Every(1), multiple_of=48)


# ------------------------------------------------------------------ uniform


@pytest.mark.parametrize("allowed", [None, range(4, 33, 4)])
def test_all_layers_take_the_smallest_size_that_serves_them_all(allowed):
    model, free = uneven(), uneven()
    needed = [cut.after for cut in compress_(free, KeepEnergy(0.95), sizes=allowed).layers]
    assert len(set(needed)) == 2
    event = compress_(model, KeepEnergy(0.95), sizes=allowed, uniform=True)
    assert sizes(model) == [max(needed)] * 2
    assert all(cut.skipped is None and cut.energy_kept >= 0.95 for cut in event.layers)


@pytest.mark.parametrize("policy", [Budget(total=30), Budget(fraction=0.45)], ids=str)
def test_a_budget_is_kept(policy):
    model, free = uneven(), uneven()
    compress_(free, policy)
    compress_(model, policy, uniform=True, sizes=range(2, 40, 2))
    assert sizes(model) == [14, 14] and max(sizes(free)) > 14


def test_types_have_sizes_of_their_own():
    torch.manual_seed(0)
    model = nn.Sequential(LRU(4, 24), S4D(4, 16), LRU(4, 32), S4D(4, 16))
    compress_(model, KeepEnergy(0.9), uniform=True)
    lru, s4d, other, same = map(stored_states, model)
    assert lru == other < 24 and s4d == same < 16


def test_one_layer_that_cannot_be_cut_holds_all_of_its_type():
    model = nn.Sequential(*(block.layer for block in uneven().blocks), S4D(4, 16))
    with torch.no_grad():
        model[1].nu_log.fill_(-40.0)  # on the unit circle
    before = parameters_of(model[0])
    first, second, other = compress_(model, KeepEnergy(0.9), uniform=True).layers
    assert first.after == second.after == 32 and is_unchanged(model[0], before)
    assert "no size serves all 2 layers of its type: 1 stays as it is" in first.skipped
    assert other.after < 16


def test_layers_that_cannot_be_equal_say_so():
    torch.manual_seed(0)
    model = nn.Sequential(LRU(4, 4), LRU(4, 32))
    event = compress_(model, KeepEnergy(0.99), uniform=True)
    assert [cut.after for cut in event.layers] == [4, 32]
    assert "they store 4 to 32" in event.layers[1].skipped


@pytest.mark.parametrize("name", ["Mamba", "Mamba2"])
def test_a_language_model_can_be_loaded_at_one_size(name, tmp_path):
    model = language_model(name).eval()
    compress_(model, KeepEnergy(0.6), data=[tokens()], uniform=True)
    n = model.config.state_size
    assert 0 < n < 6 and {stored_states(x.mixer) for x in model.backbone.layers} == {n}


def test_a_veto_holds_all_layers_of_a_type():
    model = uneven()
    values = iter([1.0, 0.0, 0.0])
    compressor = Compressor(
        model,
        policy=KeepEnergy(0.9),
        schedule=Every(1),
        uniform=True,
        rollback=Rollback(lambda model: next(values), tol=0.1, window=1),
    )
    first = compressor.step()
    assert first.removed and len(set(sizes(model))) == 1
    compressor._monitor.pending = {}
    compressor._monitor.refused = {"blocks.0.layer": 31}
    event = compressor.step()
    assert not event.removed and all(cut.skipped for cut in event.layers)


def test_uniform_is_a_flag():
    with pytest.raises(OptionError, match="uniform must be True or False"):
        compress_(uneven(), uniform="yes")


def test_a_preset_is_refused_where_the_layers_are_smaller():
    with pytest.raises(OptionError, match="a power of two of at least 16"):
        compress_(language_model(), States(16), data=[tokens()], sizes=MAMBA2)


def test_one_size_for_layers_of_several_sizes_is_an_allowed_one():
    model, u = nn.Sequential(Mamba(8, 16), Mamba(8, 12)), torch.randn(16, 12, 8)
    event = compress_(model, States(13), data=[u], sizes=[8, 16], uniform=True)
    assert [cut.after for cut in event.layers] == [8, 8]
