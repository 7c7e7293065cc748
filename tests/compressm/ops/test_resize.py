"""Resizing a parameter under a live optimizer and a live graph."""

import copy

import pytest
import torch
from torch import nn

from compressm import resize_

OPTIMIZERS = {
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
