"""The loop: what a seed determines, what is measured and timed, that the model learns."""

from dataclasses import replace

import pytest
import torch

from compressm import Every, Order, TrainingError
from compressm.experiments.data import FORECASTING, Dataset, batches
from compressm.experiments.training import from_record, loop, model_of, run, to_record
from tests.compressm.experiments.helpers import TINY, measured


def test_a_seed_reproduces_a_run(slopes):
    one, two, other = (run(slopes, TINY, policy=Order(5), seed=seed) for seed in (0, 0, 1))
    assert measured(one) == measured(two)
    assert [p.loss for p in one.history] != [p.loss for p in other.history]


def test_a_run_leaves_the_callers_random_numbers_alone(slopes):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    run(slopes, TINY, seed=5)
    assert torch.equal(torch.rand(2), expected)


def test_runs_are_one_until_the_first_cut(slopes):
    losses = {"full": [], "cut": []}
    run(slopes, TINY, on_step=lambda s: losses["full"].append(s.loss))
    run(
        slopes,
        TINY,
        policy=Order(2),
        schedule=Every(1, start=6, stop=6),
        on_step=lambda s: losses["cut"].append(s.loss),
    )
    assert losses["full"][:6] == losses["cut"][:6]
    assert losses["full"][6] != losses["cut"][6]


def test_dropout_is_one_whatever_the_size(slopes):
    states = []
    for d_state in (12, 3):
        settings = replace(TINY, d_state=d_state, steps=1, dropout=0.5)
        run(slopes, settings, on_step=lambda step: states.append(torch.get_rng_state()))
    assert torch.equal(*states)


def test_the_model_learns(slopes):
    result = run(slopes, replace(TINY, steps=80, lr=3e-2))
    assert result.accuracy > 0.9 > 0.5 > result.history[0].accuracy


def test_history_and_events(slopes):
    result = run(slopes, TINY, policy=Order(5), spectra_at=(0, 12))
    assert [point.step for point in result.history] == [0, 3, 3, 5, 6, 6, 10, 12]
    assert [point.orders[0] for point in result.history] == [12, 12, 5, 5, 5, 5, 5, 5]
    assert [event.step for event in result.events] == [3, 6], "half of the steps hold both cuts"
    assert result.orders == (5, 5)
    assert result.parameters == sum(p.numel() for p in result.model.parameters())
    seconds = [point.seconds for point in result.history]
    assert seconds == sorted(seconds) and seconds[0] == 0 < seconds[-1] == result.seconds
    sizes = {step: [len(hsv) for hsv in layers.values()] for step, layers in result.spectra.items()}
    assert sizes == {0: [24, 24], 12: [10, 10]}, "real states: two for each stored one"


def test_only_training_steps_and_cuts_are_timed(slopes, monkeypatch):
    """On a clock that stands still, but for what the parts of a run take."""
    now, orders = [0.0], []

    def takes(seconds, value):
        now[0] += seconds
        return value

    def policy(hsv, slots):
        orders.append(takes(10, 5))
        return orders[-1]

    monkeypatch.setattr(loop, "perf_counter", lambda: now[0])
    for name in ("evaluate", "hankel_spectra", "orders"):
        function = getattr(loop, name)
        monkeypatch.setattr(loop, name, lambda *x, function=function: takes(1e4, function(*x)))
    result = run(
        slopes,
        TINY,
        policy=policy,
        penalty=lambda model: lambda: takes(1, 0.0),
        spectra_at=range(13),
        on_step=lambda step: takes(1e6, None),
    )
    assert len(result.events) == 2 and len(orders) >= 4
    assert result.seconds == TINY.steps + 10 * len(orders)
    assert [p.seconds for p in result.history if p.step == 3] == [3, 3 + 10 * len(orders) / 2]


@pytest.mark.parametrize("n_train", [5, 19])
def test_epochs_may_be_smaller_than_batches(slopes, n_train):
    few = replace(slopes, x_train=slopes.x_train[:n_train], y_train=slopes.y_train[:n_train])
    assert run(few, TINY).history[-1].step == TINY.steps


def test_accuracy_at_the_end_is_that_of_the_whole_test_set(slopes):
    result = run(slopes, TINY)
    model = result.model.eval()
    expected = (model(slopes.x_test).argmax(-1) == slopes.y_test).double().mean().item()
    assert result.accuracy == pytest.approx(expected)
    assert result.history[-1].accuracy * 7 == pytest.approx(round(result.history[-1].accuracy * 7))


@pytest.fixture
def ramps():
    """Return lines of any slope; the value two steps after the end is to be forecast."""
    x = torch.randn(60, 1, generator=torch.Generator().manual_seed(0)) * torch.linspace(-1, 0, 10)
    return Dataset("ramps", x[:40, :, None], -0.2 * x[:40, :2], x[40:, :, None], -0.2 * x[40:, :2],
                   task=FORECASTING)  # fmt: skip


def test_a_forecast_is_learned_and_measured_by_its_errors(ramps):
    result = run(ramps, replace(TINY, steps=80, lr=3e-2, pool="last"))
    assert result.metric.name == "MSE" and result.model.pool == "last"
    error = result.model.eval()(ramps.x_test) - ramps.y_test
    expected = {"MSE": error.square().mean().item(), "MAE": error.abs().mean().item()}
    assert result.measured == pytest.approx(expected)
    assert result.score < 0.2 * result.history[0].score
    assert [from_record(to_record(p)) for p in result.history] == result.history
    losses = []
    run(ramps, replace(TINY, steps=1), on_step=lambda step: losses.append(step.loss))
    torch.manual_seed(0)
    model = model_of(ramps, TINY)
    y, x = ramps.train(next(batches(40, TINY.batch_size, 1, 0)))
    assert losses == [pytest.approx((model(x) - y).square().mean().item())]


def test_a_metric_that_is_not_finite_stops_the_run(ramps):
    far = replace(ramps, y_test=torch.full_like(ramps.y_test, float("inf")))
    with pytest.raises(TrainingError, match="the MSE of the run 'full size' is inf at step 0"):
        run(far, TINY)


def test_a_loss_that_is_not_finite_stops_the_run(slopes):
    with pytest.raises(TrainingError, match=r"is nan at step \d+: lower lr"):
        run(slopes, replace(TINY, lr=1e30, steps=50))
