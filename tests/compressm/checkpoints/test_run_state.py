"""A run in a file: what is loaded is what was saved, or a sentence says why nothing was."""

import random

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from compressm import (
    CheckpointError,
    Compressor,
    Every,
    OptionError,
    States,
    compress_,
    keep_states_,
    load_checkpoint,
    random_state,
    save_checkpoint,
    set_random_state,
)
from compressm.checkpoints.file_format import load_tree, save_tree
from compressm.checkpoints.weights import layers_in, read_checkpoint
from compressm.models import LAYERS
from compressm.systems.find import selective_layers, ssm_layers
from tests.compressm.foreign_layers import MinimalLRU, PytorchLRU
from tests.compressm.helpers import OPTIMIZERS, bits, model_of, same, transformers_mamba
from tests.compressm.language_models import language_model


class Run:
    """All that a loop holds; a step draws its batch, and dropout, from the global generator."""

    def __init__(self, seed=0, optimizer="adamw", cut=3):
        self.model = model_of(seed, dropout=0.1)
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, [2, 5])
        self.compressor = Compressor(
            self.model, self.optimizer, policy=States(6), schedule=Every(cut, stop=cut)
        )
        self.parts = (self.model, self.optimizer, self.compressor)

    def train(self, steps):
        losses = []
        for _ in range(steps):
            loss = cross_entropy(self.model(torch.randn(8, 20, 2)), torch.randint(3, (8,)))
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.scheduler.step()
            self.compressor.step()
            losses.append(loss.item())
        return losses

    def save(self, path):
        extra = {"random": random_state(), "scheduler": self.scheduler.state_dict()}
        save_checkpoint(path, *self.parts, extra=extra)

    def load(self, path):
        extra = load_checkpoint(path, *self.parts)
        self.scheduler.load_state_dict(extra["scheduler"])
        set_random_state(extra["random"])


# ------------------------------------------------------------------ there and back


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("saved_at", [1, 5])  # before the cut, and after
def test_a_resumed_run_repeats_the_other_bit_for_bit(tmp_path, optimizer, saved_at):
    whole = Run(optimizer=optimizer)
    whole.train(saved_at)
    whole.save(tmp_path / "run.safetensors")
    expected = whole.train(4)
    resumed = Run(seed=1, optimizer=optimizer)
    identities = [id(p) for p in resumed.model.parameters()]
    resumed.load(tmp_path / "run.safetensors")
    assert resumed.train(4) == expected
    assert same(bits(*whole.parts), bits(*resumed.parts))
    assert [id(p) for p in resumed.model.parameters()] == identities
    assert [layer.d_state for _, layer in ssm_layers(resumed.model)] == [6, 6]


@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_gets_the_states_that_it_was_saved_with(tmp_path, layer):
    model, fresh = model_of(layer=layer), model_of(1, layer=layer)
    compress_(model, States(6), data=[torch.randn(2, 20, 2)] if layer == "mamba" else ())
    save_checkpoint(tmp_path / "run", model)
    load_checkpoint(tmp_path / "run", fresh)
    assert same(bits(model), bits(fresh))
    u = torch.randn(2, 20, 2)
    assert torch.equal(fresh.eval()(u), model.eval()(u))


def cut_linear(model):
    compress_(model, States(3))


def cut_mamba(model):
    for _, layer in selective_layers(model):
        keep_states_(layer, [0, 3, 5])


@pytest.mark.parametrize(
    ("make", "cut"),
    [
        (lambda: nn.Sequential(MinimalLRU(3, 8), nn.Linear(3, 3)), cut_linear),
        (lambda: nn.Sequential(PytorchLRU(3, 3, 8), nn.Linear(3, 3)), cut_linear),
        (transformers_mamba, cut_mamba),
        (lambda: language_model("FalconH1").model, cut_mamba),  # with a buffer that is not saved
    ],
    ids=["minimal-LRU", "LRU-pytorch", "transformers", "FalconH1"],
)
def test_so_do_layers_of_other_packages(tmp_path, make, cut):
    torch.manual_seed(0)
    model, fresh = make(), make()
    cut(model)
    save_checkpoint(tmp_path / "run", model)
    load_checkpoint(tmp_path / "run", fresh)
    assert same(bits(model), bits(fresh))
    for part, other in zip(model.modules(), fresh.modules(), strict=True):
        for name in ("state_features", "ssm_state_size"):
            assert getattr(part, name, None) == getattr(other, name, None)


def test_average_and_whatever_else_comes_back_as_it_was(tmp_path):
    model = model_of()
    model.head.weight = model.encoder.weight = nn.Parameter(torch.randn(4, 4))  # tied
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    extra = {
        "average": averaged.state_dict(),
        "complex": torch.randn(3, dtype=torch.complex128).conj(),
    }
    save_checkpoint(tmp_path / "run", model, extra=extra)
    found = load_checkpoint(tmp_path / "run", model)
    left, right = (torch.utils._pytree.tree_flatten(x) for x in (extra, found))
    assert left[1] == right[1] and same(left[0], right[0])
    averaged.load_state_dict(found["average"])


def test_random_numbers_go_on():
    state = random_state()
    numbers = torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()
    set_random_state(state)
    assert (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()) == numbers


def test_other_readers_find_the_weights(tmp_path):
    run = Run()
    run.train(4)
    run.save(tmp_path / "run.safetensors")
    found = layers_in(read_checkpoint(tmp_path / "run.safetensors"))
    assert [(name, layer.d_state) for name, layer in ssm_layers(found)] == [
        ("model.blocks.0.layer", 6),
        ("model.blocks.1.layer", 6),
    ]


# ------------------------------------------------------------------ what cannot be saved or loaded


def damaged(path):
    path.write_bytes(path.read_bytes()[:-100])


def foreign(path):
    path.write_bytes(b"hello" * 100)


def other_safetensors(path):
    save_file({"a": torch.ones(1)}, path)


def other_tree(path):
    save_tree(path, [1])


def without(name):
    def change(path):
        tree = load_tree(path)
        del tree[name]
        save_tree(path, tree)

    return change


def without_weights(path):
    tree = load_tree(path)
    del tree["model"]["blocks.1.layer.C"]
    save_tree(path, tree)


def with_inconsistent_layer(path):
    tree = load_tree(path)
    tree["model"]["blocks.1.layer.C"] = tree["model"]["blocks.1.layer.C"][:, :-1]
    save_tree(path, tree)


def with_strange_compressor(path):
    tree = load_tree(path)
    tree["compressor"] = {}
    save_tree(path, tree)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), "there is no file"),
        (damaged, "is truncated"),
        (foreign, "no safetensors file"),
        (other_safetensors, "not one of save_checkpoint"),
        (other_tree, "holds no model"),
        (without("optimizer"), "holds no optimizer"),
        (without("compressor"), "holds no compressor"),
        (without_weights, r"another model .*blocks\.1\.layer\.C"),
        (with_inconsistent_layer, "another model .*disagree on the number of states"),
        (with_strange_compressor, "another compressor .*steps"),
    ],
)
def test_what_cannot_be_loaded_changes_nothing(tmp_path, change, message):
    path, run = tmp_path / "run", Run()
    run.train(4)
    run.save(path)
    change(path)
    other = Run(seed=1, cut=20)
    other.train(2)
    before = bits(*other.parts)
    with pytest.raises(CheckpointError, match=message) as error:
        load_checkpoint(path, *other.parts)
    assert "\n" not in str(error.value)
    assert same(bits(*other.parts), before)
    other.train(1)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: model_of(1, d_model=5), "another model .*size mismatch"),
        (lambda: model_of(1, layer="s5"), "another model .*Missing key"),
        (lambda: nn.Sequential(MinimalLRU(3, 8)), "another model"),
    ],
)
def test_another_model_stays_as_it_is(tmp_path, other, message):
    model = model_of()
    compress_(model, States(6))
    save_checkpoint(tmp_path / "run", model)
    other = other()
    before = bits(other)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "run", other)
    assert same(bits(other), before)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: torch.optim.SGD(p, 1e-2), "the state of AdamW, got SGD"),
        (lambda p: torch.optim.AdamW(list(p)[::-1]), "in another order"),
        (lambda p: torch.optim.AdamW(list(p)[1:]), "other parameters"),
    ],
)
def test_another_optimizer_is_refused(tmp_path, make, message):
    run = Run()
    run.train(4)
    run.save(tmp_path / "run")
    other = model_of(1)
    optimizer = make(other.parameters())
    before = bits(other, optimizer)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "run", other, optimizer)
    assert same(bits(other, optimizer), before)


def test_moments_in_single_precision_of_parameters_in_half_stay(tmp_path):
    def parts(seed):
        model = model_of(seed).to(torch.bfloat16)
        optimizer = OPTIMIZERS["adamw"](model.parameters())
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        optimizer.step()
        for state in optimizer.state.values():
            state["exp_avg"] = torch.randn(state["exp_avg"].shape)
        return model, optimizer

    ours, others = parts(0), parts(1)
    save_checkpoint(tmp_path / "run", *ours)
    load_checkpoint(tmp_path / "run", *others)
    assert same(bits(*ours), bits(*others))
    wide = model_of(1)
    optimizer = OPTIMIZERS["adamw"](wide.parameters())
    load_checkpoint(tmp_path / "run", wide, optimizer)  # parameters of another dtype: as torch
    assert {x["exp_avg_sq"].dtype for x in optimizer.state.values()} == {torch.float32}


def test_a_list_of_optimizers_is_saved_and_loaded(tmp_path):
    def parts(seed):
        model = model_of(seed)
        own = list(model.parameters())
        optimizers = [torch.optim.SGD(own[::2], 1e-2, 0.9), torch.optim.Adam(own[1::2])]
        compressor = Compressor(model, optimizers, policy=States(6), schedule=Every(1))
        model(torch.randn(8, 20, 2)).sum().backward()
        for optimizer in optimizers:
            optimizer.step()
        compressor.step()
        return model, optimizers, compressor

    path, ours, others = tmp_path / "run", parts(0), parts(1)
    save_checkpoint(path, *ours)
    load_checkpoint(path, *others)
    assert same(bits(ours[0], *ours[1]), bits(others[0], *others[1]))
    before = bits(others[0], *others[1])
    for wrong in ([others[1][0]], others[1][::-1], [*others[1], None, others[1][0]]):
        with pytest.raises(CheckpointError, match="optimizer|SGD"):
            load_checkpoint(path, others[0], wrong)
        assert same(bits(others[0], *others[1]), before)


@pytest.mark.parametrize("make", [lambda x: [x], lambda x: (None, x)])
def test_a_list_of_one_is_that_one(tmp_path, make):
    run, other = Run(), Run(seed=1)
    run.train(1)
    save_checkpoint(tmp_path / "run", run.model, make(run.optimizer))
    load_checkpoint(tmp_path / "run", other.model, other.optimizer)
    load_checkpoint(tmp_path / "run", other.model, make(other.optimizer))
    assert same(bits(*run.parts[:2]), bits(*other.parts[:2]))


def test_a_list_of_none_is_none(tmp_path):
    save_checkpoint(tmp_path / "run", model_of(), [None])
    assert load_checkpoint(tmp_path / "run", model_of(1), []) is None


def test_what_is_no_optimizer_cannot_be_saved(tmp_path):
    with pytest.raises(OptionError, match=r"torch\.optim\.Optimizer"):
        save_checkpoint(tmp_path / "run", model_of(), ["adam"])
    assert not list(tmp_path.iterdir())
