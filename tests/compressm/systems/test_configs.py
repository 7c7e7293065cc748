"""A configuration follows the layers of its model, and of no other."""

import copy

import pytest
import torch
from torch import nn

from compressm import At, Compressor, Rollback, States, compress_
from compressm.compression.decide import apply_, propose
from compressm.compression.options import Options
from compressm.gramians.observe import observe
from compressm.systems.configs import agree_on_states_, held_configs, with_config
from tests.compressm.language_models import N, language_model, tokens
from tests.compressm.selective_layers import own, signal

NAMES = {"Mamba": "state_size", "Qwen3Next": "linear_key_head_dim"}


@pytest.mark.parametrize("family", NAMES)
def test_a_teacher_keeps_its_configuration(tmp_path, family):
    student = language_model(family)
    teacher, name = type(student)(student.config), NAMES[family]
    held = student.config
    compress_(student, States(4), data=[tokens()])
    assert (getattr(student.config, name), getattr(teacher.config, name)) == (4, N)
    assert all(config is student.config for _, config in with_config(student))
    assert not any(x is held for m in student.modules() for x in vars(m).values())
    assert held is teacher.config and type(student.config) is type(held)
    for model, n in ((student, 4), (teacher, N)):
        model.save_pretrained(tmp_path / str(n))
        loaded = type(model).from_pretrained(tmp_path / str(n)).eval()
        assert getattr(loaded.config, name) == n
        assert torch.equal(loaded(tokens()).logits, model.eval()(tokens()).logits)


def test_both_in_one_module_and_what_is_around_them():
    student = language_model("Mamba")
    both = nn.ModuleDict({"teacher": type(student)(student.config), "student": student})
    for at in (student, student.backbone, both["student"]):
        compress_(at, States(4), data=[tokens()])
        sizes = [both[x].config.state_size for x in both]
        assert sizes == [N, 4] and student.backbone.config is student.config


def test_two_models_in_one_are_cut_to_sizes_of_their_own():
    first = language_model("Mamba")
    both = nn.ModuleDict({"first": first, "second": type(first)(first.config)})
    both.forward = lambda input_ids: [both[x](input_ids).logits for x in both]
    signals = observe(both, [{"input_ids": tokens()}], False)
    for n, part in ((4, "first"), (6, "second")):
        proposals = propose(both, signals, Options(States(n)))
        apply_(both, [x for x in proposals if x.cut.name.startswith(part)])
    assert [both[x].config.state_size for x in both] == [4, 6]


class Config:
    """A configuration that may be nested in another one."""

    def __init__(self, n, text=None):
        self.d_state, self.text = n, text

    def to_dict(self):
        return vars(self)


class Saved(nn.Module):
    """A model with a configuration and a layer, or with a model and more around it."""

    def __init__(self, config, inner=None):
        super().__init__()
        self.config, self.again = config, config.text
        self.inner = own() if inner is None else inner

    def save_pretrained(self, *_):
        pass

    def forward(self, u):
        return self.inner(u)


@pytest.mark.parametrize("whole", [False, True])
def test_a_nested_configuration_stays_nested(whole):
    config = Config(7, Config(6))
    inner = Saved(config.text)
    outer = Saved(config, inner)
    compress_(outer if whole else inner, States(3), data=[signal().u])
    assert outer.config.text is outer.again is inner.config and inner.config.d_state == 3
    assert config.text.d_state == 6 and config is not outer.config
    assert outer.config.d_state == (3 if whole else 7)


def test_what_agrees_already_is_not_copied():
    model = language_model("Mamba")
    held = model.config
    agree_on_states_(model)
    assert model.config is held
    assert {name for _, name, _ in held_configs(model)} == {"config"}
    assert held_configs(own()) == []


def test_an_exception_leaves_the_configuration_itself():
    model = language_model("Mamba")
    held, before = model.config, copy.deepcopy(vars(model.config))

    def fails():
        raise KeyboardInterrupt

    signals = observe(model, [tokens()], False)
    proposals = propose(model, signals, Options(States(4)))
    with pytest.raises(KeyboardInterrupt):
        apply_(model, proposals, None, fails)
    assert model.config is model.backbone.config is held and vars(held) == before


def test_a_cut_that_is_taken_back_takes_the_configuration_back():
    model = language_model("Mamba")
    teacher = type(model)(model.config)
    fallen = Rollback(lambda model: model.config.state_size, tol=0, window=1)
    compressor = Compressor(model, policy=States(4), schedule=At(1), rollback=fallen)
    for n in (4, N):
        model.train()(tokens()).logits.sum().backward()
        compressor.step()
        assert (model.config.state_size, teacher.config.state_size) == (n, N)
