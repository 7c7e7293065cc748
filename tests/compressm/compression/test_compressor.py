"""The compressor in a training loop: the loop goes on, the schedule is obeyed, runs resume."""

import copy

import pytest
import torch
from torch import nn

from compressm import CheckpointError, Compressor, Every, KeepEnergy, Rollback, States
from tests.compressm.helpers import model_of, parameters_of


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
def test_the_loop_of_the_readme_trains_on_and_moves_every_parameter(make):
    model = model_of()
    options = {"momentum": 0.9} if make is torch.optim.SGD else {}
    optimizer = make(model.parameters(), lr=1e-2, **options)
    compressor = Compressor(model, optimizer, policy=States(6), schedule=Every(2, stop=2))
    identities = [id(p) for p in model.parameters()]
    u, target = torch.randn(8, 20, 2), torch.randint(0, 3, (8,))
    events = []
    for _ in range(4):
        loss = nn.functional.cross_entropy(model(u), target)  # held, as loops do, across the cut
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        events.append(compressor.step())
        before = parameters_of(model)
    assert [event is not None for event in events] == [False, True, False, False]
    assert [(cut.before, cut.after, cut.skipped) for cut in events[1].layers] == [(16, 6, None)] * 2
    assert events[1].step == 2
    assert [id(p) for p in model.parameters()] == identities
    loss = nn.functional.cross_entropy(model(u), target)
    loss.backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        assert (parameter != before[name]).any(), f"{name} is frozen"
        assert torch.isfinite(parameter).all()


def test_the_schedule_is_obeyed_and_resumes():
    def cuts(compressor, steps):
        return [event.step for _ in range(steps) if (event := compressor.step())]

    def fresh():
        return Compressor(model_of(), policy=KeepEnergy(0.9), schedule=Every(3, start=4, stop=10))

    assert cuts(fresh(), 20) == [4, 7, 10]
    first, second = fresh(), fresh()
    assert cuts(first, 5) == [4]
    second.load_state_dict(first.state_dict())
    assert cuts(second, 15) == [7, 10]


def test_model_optimizer_and_compressor_resume_to_the_same_run():
    def build():
        model = model_of()
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        policy, schedule = KeepEnergy(0.9), Every(2, stop=6)
        return model, optimizer, Compressor(model, optimizer, policy=policy, schedule=schedule)

    u, target = torch.randn(8, 20, 2), torch.randint(0, 3, (8,))

    def train(parts, steps):
        model, optimizer, compressor = parts
        for _ in range(steps):
            nn.functional.cross_entropy(model(u), target).backward()
            optimizer.step()
            optimizer.zero_grad()
            compressor.step()

    whole, half, resumed = build(), build(), build()
    train(whole, 8)
    train(half, 3)
    for to, source in zip(resumed, half, strict=True):
        to.load_state_dict(copy.deepcopy(source.state_dict()))
    train(resumed, 5)
    for a, b in zip(whole[0].parameters(), resumed[0].parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "state",
    [
        {},
        None,
        {"steps": -5},
        {"steps": 2.7},
        {"steps": "x"},
        {"steps": None},
        {"steps": True},
        {"steps": 1, "rollback": {}},
        {"steps": 1, "rollback": None},
        {"steps": 1, "rollback": {"refused": {}, "pending": {"step": 1}}},
    ],
)
def test_what_is_no_state_of_a_compressor_is_refused_and_changes_nothing(state):
    compressor = Compressor(model_of(), schedule=Every(9), rollback=Rollback(lambda model: 1.0, 0))
    compressor.step()
    before = compressor.state_dict()
    with pytest.raises(CheckpointError, match=r"got .*; load what Compressor.state_dict\(\)"):
        compressor.load_state_dict(state)
    assert compressor.state_dict() == before
