"""Resizing a parameter under a live optimizer and a live graph."""

import copy

import pytest
import torch
from torch import nn

from compressm import resize_


class Built(torch.optim.Optimizer):
    """Momentum, second moments and master weights, all built in ``__init__``."""

    def __init__(self, params, *, lr=1e-2, start=0.0):
        super().__init__(params, {"lr": lr, "start": start})
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p] = {
                    "m": torch.zeros_like(p),
                    "v": torch.full_like(p, group["start"]),
                    "master": p.detach().double().clone(),
                }

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                state["m"].lerp_(p.grad, 0.1)
                state["v"].addcmul_(p.grad, p.grad)
                way = state["m"] / (state["v"].sqrt() + 1e-8)
                state["master"].sub_(way.double(), alpha=group["lr"])
                p.copy_(state["master"])


class Plain(Built):
    """One that takes nothing but parameters."""

    def __init__(self, parameters):
        super().__init__(list(parameters), start=0.5)


class Around(torch.optim.Optimizer):
    """A wrapper whose groups and state are those of what it holds."""

    def __init__(self, inner):
        self.inner, self.param_groups = inner, inner.param_groups

    state = property(lambda self: self.inner.state)

    def step(self):
        self.inner.step()

    def zero_grad(self):
        self.inner.zero_grad()


OPTIMIZERS = {
    "built": lambda p: Built(p, start=0.25),
    "built-plain": Plain,
    "built-groups": lambda p: Built([{"params": p, "lr": 0.02, "start": 2.0}]),
    "built-inside": lambda p: Around(Built(p)),
    "adam": lambda p: torch.optim.Adam(p, 1e-2),
    "adamw": lambda p: torch.optim.AdamW(p, 1e-2, amsgrad=True),
    "adamw-foreach": lambda p: torch.optim.AdamW(p, 1e-2, foreach=True),
    "sgd": lambda p: torch.optim.SGD(p, 1e-2, momentum=0.9, nesterov=True),
    "sgd-plain": lambda p: torch.optim.SGD(p, 1e-2),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 1e-2, momentum=0.5),
    "adagrad": lambda p: torch.optim.Adagrad(p, 1e-2),
    "adamax": lambda p: torch.optim.Adamax(p, 1e-2),
    "nadam": lambda p: torch.optim.NAdam(p, 1e-2),
    "adafactor": lambda p: torch.optim.Adafactor(p, 1e-2),
}


@pytest.fixture
def parameter():
    torch.manual_seed(0)
    return nn.Parameter(torch.randn(6, 3))


def loss_of(parameter):
    return (parameter**3).sum() + parameter.sum()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_while_the_loop_still_holds_the_loss(parameter, name):
    optimizer = OPTIMIZERS[name]([parameter])
    for step in range(6):
        loss = loss_of(parameter)  # the previous graph dies only here, after the backward below
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step == 2:
            resize_(parameter, parameter.detach()[:4].clone(), optimizer)
        before = parameter.detach().clone()
    assert parameter.shape == (4, 3)
    loss_of(parameter).backward()
    optimizer.step()
    assert (parameter != before).all()
    for value in optimizer.state[parameter].values():
        assert not isinstance(value, torch.Tensor) or torch.isfinite(value).all()


def test_identity_groups_and_the_state_of_others_survive(parameter):
    other = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW(
        [
            {"params": [parameter], "lr": 1e-3, "weight_decay": 0.0},
            {"params": [other], "lr": 0.5, "weight_decay": 0.2},
        ]
    )
    for _ in range(3):
        (loss_of(parameter) + loss_of(other)).backward()
        optimizer.step()
    untouched = copy.deepcopy(optimizer.state[other])
    assert resize_(parameter, torch.zeros(2, 3), optimizer) is parameter
    assert parameter.grad is None
    groups = optimizer.param_groups
    assert groups[0]["params"][0] is parameter and groups[1]["params"][0] is other
    assert [(g["lr"], g["weight_decay"]) for g in groups] == [(1e-3, 0.0), (0.5, 0.2)]
    assert parameter not in optimizer.state
    for key, value in untouched.items():
        assert torch.equal(optimizer.state[other][key], value)


def test_a_fresh_optimizer_and_none_are_fine(parameter):
    optimizer = torch.optim.Adam([parameter])
    resize_(parameter, torch.ones(2, 3), optimizer)
    assert parameter not in optimizer.state
    resize_(parameter, torch.ones(1, 3))
    assert parameter.shape == (1, 3)


def test_to_no_states_and_dtype_of_the_data():
    parameter = nn.Parameter(torch.randn(3, 2, dtype=torch.float64))
    optimizer = torch.optim.Adam([parameter])
    loss_of(parameter).backward()
    optimizer.step()
    resize_(parameter, torch.empty(0, 2, dtype=torch.float64), optimizer)
    loss_of(parameter).backward()
    optimizer.step()
    assert optimizer.state[parameter]["exp_avg_sq"].shape == (0, 2)
    assert parameter.dtype == torch.float64


@pytest.mark.parametrize(
    ("make", "start"),
    [(Plain, 0.5), (lambda p: Built([{"params": p, "start": 2.0}]), 2.0),
     (lambda p: Around(Built(p)), 0.0)],
)  # fmt: skip
def test_a_state_that_is_built_with_the_optimizer_is_built_anew(parameter, make, start):
    optimizer = make([parameter])
    loss_of(parameter).backward()
    optimizer.step()
    random, data = torch.get_rng_state(), torch.randn(2, 3)
    torch.set_rng_state(random)
    resize_(parameter, data, optimizer)
    assert torch.equal(torch.get_rng_state(), random)
    state = optimizer.state[parameter]
    assert torch.equal(state["m"], torch.zeros(2, 3))
    assert torch.equal(state["v"], torch.full((2, 3), start))
    assert torch.equal(state["master"], data.double())
    assert len(optimizer.state) == 1


@pytest.mark.parametrize("name", [x for x in OPTIMIZERS if "built" not in x and x != "adagrad"])
def test_a_state_that_is_built_in_a_step_is_empty_until_then(parameter, name):
    optimizer = OPTIMIZERS[name]([parameter])
    loss_of(parameter).backward()
    optimizer.step()
    resize_(parameter, torch.ones(2, 3), optimizer)
    assert parameter not in optimizer.state


def test_an_optimizer_that_does_not_hold_the_parameter_gets_no_state(parameter):
    other = Built([nn.Parameter(torch.zeros(2))])
    resize_(parameter, torch.ones(2, 3), [Built([parameter]), other])
    assert len(other.state) == 1


def test_one_that_cannot_be_built_again_is_reset(parameter):
    class Needs(Built):
        def __init__(self, params, schedule):
            super().__init__(params)

    optimizer = Needs([parameter], lambda step: 1.0)
    resize_(parameter, torch.ones(2, 3), optimizer)
    assert parameter not in optimizer.state
