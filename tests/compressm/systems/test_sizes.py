"""Layers of other packages take the number of states that their saved weights have."""

import copy

import pytest
import torch
from torch import nn

from compressm import Compressor, States, compress_, keep_states_, resize_on_load, save_checkpoint
from compressm.checkpoints import load_checkpoint
from compressm.compression.schedules import At
from compressm.systems.find import stored_states
from tests.compressm.foreign_layers import MinimalLRU, PublishedS4D, PytorchLRU, neural_lru, s5
from tests.compressm.selective_layers import FOREIGN, foreign

LINEAR = {
    "minimal-LRU": lambda: MinimalLRU(4, 8),
    "LRU-pytorch": lambda: PytorchLRU(4, 4, 8),
    "neural-ssm": lambda: neural_lru(4, 8),
    "S4D": lambda: PublishedS4D(4, 16),
    "S5": lambda: s5.S5(4, 8),
    "S5 of two directions": lambda: s5.S5(4, 8, bidir=True),
}
FAMILIES = [*LINEAR, *FOREIGN]


def model(name):
    layer = LINEAR[name]() if name in LINEAR else foreign(name)
    return nn.Sequential(nn.Identity(), layer)


def cut(full, name):
    """A copy with fewer states, as a cut leaves it."""
    small = copy.deepcopy(full)
    if name in LINEAR:
        layer = small[1]
        n = stored_states(layer)
        compress_(small, policy=States(n // 2), gramians="model")
        assert stored_states(layer) < n
    else:
        keep_states_(small[1], [0, 2, 3])
    return small


@torch.no_grad()
def run(model, name):
    dtype = next(p for p in model.parameters() if not p.is_complex()).dtype
    torch.manual_seed(0)
    u = torch.randn(2, 6, 8 if name in FOREIGN else 4, dtype=dtype)
    y = model.eval()(u[..., :4].mT if name == "S4D" else u)
    return y[0] if isinstance(y, tuple) else y


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_load_down_and_up(name):
    full = model(name)
    small = cut(full, name)
    for source, target in ((small, full), (full, small)):
        into = resize_on_load(copy.deepcopy(target))
        before = list(into.parameters())
        into.load_state_dict(source.state_dict())
        assert all(x is y for x, y in zip(before, into.parameters(), strict=True))
        assert stored_states(into[1]) == stored_states(source[1])
        torch.testing.assert_close(run(into, name), run(source, name), rtol=0, atol=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_without_it_torch_reports_the_sizes(name):
    full = model(name)
    with pytest.raises(RuntimeError, match="size mismatch"):
        full.load_state_dict(cut(full, name).state_dict())


@pytest.mark.parametrize("name", FAMILIES)
def test_a_compressor_and_a_checkpoint_load_both_ways(name, tmp_path):
    full = model(name)
    small = cut(full, name)
    save_checkpoint(tmp_path / "small", small)
    save_checkpoint(tmp_path / "full", full)
    into = copy.deepcopy(full)
    Compressor(into, torch.optim.Adam(into.parameters()), schedule=At(1))
    into.load_state_dict(small.state_dict())
    assert stored_states(into[1]) == stored_states(small[1])
    for path, source in (("full", full), ("small", small)):
        load_checkpoint(tmp_path / path, into)
        assert stored_states(into[1]) == stored_states(source[1])
        torch.testing.assert_close(run(into, name), run(source, name), rtol=0, atol=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_of_another_layer_stay_an_error_and_change_nothing(name):
    full = resize_on_load(model(name))
    state = full.state_dict()
    other = {key: x[..., :1] if x.ndim else x for key, x in state.items()}
    before = {key: x.clone() for key, x in state.items()}
    with pytest.raises(RuntimeError):
        full.load_state_dict(other)
    for key, x in full.state_dict().items():
        assert x.shape == before[key].shape


@pytest.mark.parametrize("name", FAMILIES)
def test_a_compressed_layer_takes_the_weights_from_before_the_cut(name):
    compressed = model(name)
    full = copy.deepcopy(compressed)
    if name in LINEAR:
        compress_(compressed, States(4), gramians="model")
    else:
        u = torch.randn(4, 9, 8, dtype=torch.float64)
        compress_(compressed, States(3), data=[u])
    assert stored_states(compressed[1]) < stored_states(full[1])
    compressed.load_state_dict(full.state_dict())
    torch.testing.assert_close(run(compressed, name), run(full, name), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["Mamba", "minimal-LRU"])
def test_an_optimizer_goes_on_with_the_state_that_belongs_to_the_weights(name):
    full = resize_on_load(model(name))
    small = cut(full, name)
    optimizer, saved = (torch.optim.Adam(x.parameters()) for x in (full, small))
    for owner, one in ((full, optimizer), (small, saved)):
        step(owner, one)
    full.load_state_dict(small.state_dict())
    optimizer.load_state_dict(saved.state_dict())
    step(full, optimizer)
    step(small, saved)
    for x, y in zip(full.parameters(), small.parameters(), strict=True):
        torch.testing.assert_close(x, y)  # memory layouts differ, and with them the rounding


def step(owner, optimizer):
    for p in owner.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()


def test_it_is_put_on_once_and_survives_a_copy():
    full = model("Mamba")
    for _ in range(3):
        resize_on_load(full)
    assert [len(m._load_state_dict_pre_hooks) for m in full] == [0, 1]
    twin = copy.deepcopy(full)
    twin.load_state_dict(cut(full, "Mamba").state_dict())
    assert stored_states(twin[1]) == 3 and stored_states(full[1]) != 3


@pytest.mark.parametrize("name", FAMILIES)
def test_layers_that_are_built_later_count_too(name):
    small, late = cut(model(name), name), nn.Sequential()
    resize_on_load(late)
    late.extend(model(name))
    late.load_state_dict(small.state_dict())
    assert torch.equal(run(late, name), run(small, name))
