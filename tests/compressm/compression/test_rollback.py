"""A cut whose loss training does not repair is taken back, to the bit, and not made again."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from compressm import (
    Compressor,
    Every,
    KeepEnergy,
    Rollback,
    States,
    load_checkpoint,
    save_checkpoint,
)
from compressm.models import LAYERS
from compressm.systems.find import compressible_layers, stored_states
from tests.compressm.checkpoints.test_run_state import OPTIMIZERS, bits, same
from tests.compressm.foreign_layers import MinimalLRU, PytorchLRU
from tests.compressm.helpers import model_of, transformers_mamba


class Metric:
    """Falls with each cut, or gives the numbers it is told; keeps what it was called with."""

    def __init__(self, *values):
        self.values, self.modes, self.sizes = list(values), [], []

    def __call__(self, model):
        self.modes.append(model.training)
        model.eval()
        self.sizes.append([stored_states(layer) for _, layer in compressible_layers(model)])
        assert not torch.is_grad_enabled()
        return self.values.pop(0) if self.values else sum(self.sizes[-1])


class Run:
    """A loop whose batches depend on the step alone."""

    def __init__(self, rollback, seed=0, optimizer="adamw", policy=None, n=3, stop=3, **options):
        self.model = model_of(seed, **options)
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.compressor = Compressor(
            self.model,
            self.optimizer,
            policy=policy or States(6),
            schedule=Every(n, stop=stop),
            gramians="input",
            rollback=rollback,
        )
        self.parts = (self.model, self.optimizer, self.compressor)
        self.step = 0

    def train(self, steps):
        """Events, and everything in the state dicts of model and optimizer before each."""
        events, states = [], []
        for _ in range(steps):
            self.step += 1
            generator = torch.Generator().manual_seed(self.step)
            u = torch.randn(8, 20, 2, generator=generator)
            target = torch.randint(3, (8,), generator=generator)
            cross_entropy(self.model(u), target).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            states.append(bits(self.model, self.optimizer))
            events.append(self.compressor.step())
        return events, states

    @property
    def sizes(self):
        return [layer.d_state for _, layer in compressible_layers(self.model)]


@pytest.mark.parametrize(
    ("layer", "optimizer"),
    [(layer, "adamw") for layer in LAYERS] + [("lru", optimizer) for optimizer in OPTIMIZERS],
)
def test_model_and_optimizer_go_back_to_the_bit_and_train_on(layer, optimizer):
    run = Run(Rollback(Metric(), 0.5, window=2), optimizer=optimizer, layer=layer)
    identities = [id(p) for p in run.model.parameters()]
    events, states = run.train(5)
    assert [event is not None for event in events] == [False, False, True, False, True]
    assert run.sizes == [16, 16] and same(bits(run.model, run.optimizer), states[2])
    assert [id(p) for p in run.model.parameters()] == identities
    assert [(cut.before, cut.after) for cut in events[4].layers] == [(6, 16)] * 2
    assert events[4].step == 5
    assert "after step 3 was taken back, as the metric fell from 32 to 12, by more than 0.5" in str(
        events[4]
    )
    before = [p.detach().clone() for p in run.model.parameters()]
    run.train(1)
    assert all((p != q).any() for p, q in zip(run.model.parameters(), before, strict=True))


def test_after_a_rollback_training_goes_on_as_if_there_had_been_no_cut():
    run, other = Run(Rollback(Metric(), 0, window=2)), Run(None, n=99, stop=99)
    run.train(5)
    other.train(3)
    other.step = run.step
    assert all(map(same, run.train(4)[1], other.train(4)[1]))


def test_a_drop_within_tolerance_or_repaired_in_time_stays():
    for metric in (Metric(0.9, 0.8), Metric(0.9, 0.95)):
        run = Run(Rollback(metric, 0.1, window=4))
        events, _ = run.train(8)
        assert [event is not None for event in events] == [step == 3 for step in range(1, 9)]
        assert run.sizes == [6, 6]
        assert metric.sizes == [[16, 16], [6, 6]]  # just before the cut, and at the window's end
        assert metric.modes == [True, True] and run.model.training


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_metric_that_is_not_finite_has_fallen(value):
    run = Run(Rollback(Metric(1.0, value), 1e9, window=1))
    assert "from 1 to" in str(run.train(4)[0][3])
    assert run.sizes == [16, 16]


def test_learning_rates_go_on():
    run = Run(Rollback(Metric(), 0, window=2))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(run.optimizer, 0.5)
    for _ in range(5):
        run.train(1)
        scheduler.step()
    assert run.optimizer.param_groups[0]["lr"] == pytest.approx(1e-2 / 2**5)


def test_a_size_that_was_taken_back_is_refused_from_then_on_and_no_other():
    sizes = iter([6, 6, 5, 7])
    policy = lambda hsv, stored: States(size)(hsv, stored)  # noqa: E731
    run = Run(Rollback(Metric(2, 1, 2, 2), 0, window=1), policy=policy, n=2, stop=None)
    found = []
    for size in sizes:  # noqa: B007
        events, _ = run.train(2)
        found.append(events[1])
    assert [[cut.after for cut in event.layers] for event in found] == [
        [6, 6],
        [16, 16],
        [16, 16],
        [7, 7],
    ]
    for event in found[1:3]:
        assert "cuts to 6 states or fewer have been taken back" in str(event)
        assert all(len(cut.hsv) and cut.parameters[0] for cut in event.layers)
    assert not any(cut.skipped for cut in found[3].layers)


def test_layers_that_were_not_cut_are_not_refused():
    run = Run(Rollback(Metric(2, 1), 0, window=1))
    keep_states_of_first = iter([16, 6])
    run.compressor.policy = lambda hsv, stored: States(next(keep_states_of_first))(hsv, stored)
    run.train(4)
    assert run.compressor.state_dict()["rollback"]["refused"] == {"blocks.1.layer": 6}
    assert run.sizes == [16, 16]


def test_a_cut_that_is_due_earlier_ends_the_window():
    metric = Metric(5, 4, 4, 4)
    run = Run(Rollback(metric, 0, window=100), policy=KeepEnergy(0.9), n=2, stop=4)
    events, states = run.train(4)
    assert "taken back" in str(events[3]) and run.sizes == [16, 16]
    assert same(bits(run.model, run.optimizer), states[1])
    kept = Metric(5, 5, 5)
    run = Run(Rollback(kept, 0, window=100), policy=KeepEnergy(0.9), n=2, stop=4)
    events, _ = run.train(4)
    assert events[3] and "taken back" not in str(events[3])
    assert len(kept.sizes) == 2  # the judgement of one cut is the measure for the next


@pytest.mark.parametrize(
    "saved_at", [2, 4, 6, *(pytest.param(x, marks=pytest.mark.slow) for x in (3, 5))]
)
@pytest.mark.parametrize("values", [(3, 2), (3, 3)])
def test_a_run_that_stops_within_the_window_resumes_to_the_same(tmp_path, saved_at, values):
    whole = Run(Rollback(Metric(*values), 0, window=2), stop=9)
    whole.train(saved_at)
    save_checkpoint(tmp_path / "run", *whole.parts)
    left = list(whole.compressor.rollback.metric.values)
    resumed = Run(Rollback(Metric(*left), 0, window=2), seed=1, stop=9)
    load_checkpoint(tmp_path / "run", *resumed.parts)
    resumed.step = saved_at
    events, states = whole.train(7)
    again, found = resumed.train(7)
    assert list(map(str, again)) == list(map(str, events))
    assert all(map(same, found, states)) and same(bits(*whole.parts[:2]), bits(*resumed.parts[:2]))


def test_a_state_that_was_loaded_replaces_the_snapshot():
    run = Run(Rollback(Metric(), 0, window=2))
    run.train(4)
    run.compressor.load_state_dict({"steps": 4})
    assert run.train(3)[0] == [None] * 3 and run.sizes == [6, 6]


def test_a_metric_that_fails_leaves_everything_as_it_was():
    def failing(model):
        raise RuntimeError("no data")

    run = Run(Rollback(failing, 0))
    _, states = run.train(2)
    with pytest.raises(RuntimeError, match="no data"):
        run.train(1)
    assert run.sizes == [16, 16] and run.model.training


def minimal():
    return nn.Sequential(MinimalLRU(3, 8), nn.BatchNorm1d(5)), torch.randn(2, 5, 3)


def mamba():
    return transformers_mamba(), torch.randint(7, (2, 5))


def pytorch():
    return nn.Sequential(PytorchLRU(3, 3, 8), nn.BatchNorm1d(5)), torch.randn(2, 5, 3)


@pytest.mark.parametrize("make", [minimal, pytorch, mamba])
def test_layers_of_other_packages_go_back_too(make):
    torch.manual_seed(0)
    model, u = make()
    output = lambda: getattr(y := model(u), "last_hidden_state", y)  # noqa: E731
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    compressor = Compressor(
        model,
        optimizer,
        policy=States(3),
        schedule=Every(2, stop=2),
        rollback=Rollback(Metric(1, 0), 0, window=1),
    )
    for step in range(4):
        output().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if step == 1:
            before, config = bits(model, optimizer), str(getattr(model, "config", ""))
            counts = [{k: v for k, v in vars(m).items() if type(v) is int} for m in model.modules()]
        event = compressor.step()
        if step == 1:
            assert all(cut.after == 3 for cut in event.layers)
        if step == 2:
            assert all((cut.before, cut.after) == (3, 8) for cut in event.layers)
            assert same(bits(model, optimizer), before)
            assert str(getattr(model, "config", "")) == config
            assert counts == [
                {k: v for k, v in vars(m).items() if type(v) is int} for m in model.modules()
            ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tol": -1}, "tol must be"),
        ({"tol": math.nan}, "tol must be"),
        ({"tol": 0, "window": 0}, "window must be at least 1 step, got 0"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Rollback(Metric(), **options)
