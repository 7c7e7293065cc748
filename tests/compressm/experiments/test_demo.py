"""The runs of the demo: what they share, what they measure, that a seed reproduces them."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from compressm import Every, Order
from compressm.experiments.data import Dataset
from compressm.experiments.demo import demo
from compressm.experiments.training import Settings, _batches, run

TINY = Settings(
    d_model=4,
    d_state=12,
    n_layers=2,
    steps=12,
    batch_size=8,
    lr=1e-2,
    eval_every=5,
    eval_size=7,
    energy=0.9,
    cuts=2,
    cut_window=0.5,
)


@pytest.fixture(scope="module")
def data():
    """Return noise around three slopes, one for each class."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(60) % 3
    x = (y - 1.0)[:, None] * torch.linspace(-1, 1, 10)
    x = (x + 0.3 * torch.randn(60, 10, generator=generator)).unsqueeze(-1)
    return Dataset("slopes", x[:40], y[:40], x[40:], y[40:])


def measured(result):
    """Everything that a seed determines: all but the times."""
    found = result.to_dict()
    del found["seconds"]
    for point in found["history"]:
        del point["seconds"]
    return found


def test_a_seed_reproduces_a_run(data):
    one, two, other = (run(data, TINY, policy=Order(5), seed=seed) for seed in (0, 0, 1))
    assert measured(one) == measured(two)
    assert [p.loss for p in one.history] != [p.loss for p in other.history]


def test_a_run_leaves_the_callers_random_numbers_alone(data):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    run(data, TINY, seed=5)
    assert torch.equal(torch.rand(2), expected)


def test_runs_are_one_until_the_first_cut(data):
    losses = {"full": [], "cut": []}
    run(data, TINY, on_step=lambda s: losses["full"].append(s.loss))
    run(
        data,
        TINY,
        policy=Order(2),
        schedule=Every(1, start=6, stop=6),
        on_step=lambda s: losses["cut"].append(s.loss),
    )
    assert losses["full"][:6] == losses["cut"][:6]
    assert losses["full"][6] != losses["cut"][6]


def test_dropout_is_one_whatever_the_size(data):
    states = []
    for d_state in (12, 3):
        settings = replace(TINY, d_state=d_state, steps=1, dropout=0.5)
        run(data, settings, on_step=lambda step: states.append(torch.get_rng_state()))
    assert torch.equal(*states)


def test_the_model_learns(data):
    result = run(data, replace(TINY, steps=80, lr=3e-2))
    assert result.accuracy > 0.9 > 0.5 > result.history[0].accuracy


def test_history_and_events(data):
    result = run(data, TINY, policy=Order(5), spectra_at=(0, 12))
    assert [point.step for point in result.history] == [0, 3, 3, 5, 6, 6, 10, 12]
    assert [point.orders[0] for point in result.history] == [12, 12, 5, 5, 5, 5, 5, 5]
    assert [event.step for event in result.events] == [3, 6], "half of the steps hold both cuts"
    assert result.orders == (5, 5)
    assert result.parameters == sum(p.numel() for p in result.model.parameters())
    seconds = [point.seconds for point in result.history]
    assert seconds == sorted(seconds) and seconds[0] == 0 < seconds[-1] == result.seconds
    sizes = {step: [len(hsv) for hsv in layers.values()] for step, layers in result.spectra.items()}
    assert sizes == {0: [24, 24], 12: [10, 10]}, "real states: two for each stored one"


def test_only_training_is_timed(data):
    pause = 0.05
    result = run(data, TINY, on_step=lambda step: time.sleep(pause))
    assert result.seconds < pause * TINY.steps


@pytest.mark.parametrize("n_train", [5, 19])
def test_epochs_may_be_smaller_than_batches(data, n_train):
    few = replace(data, x_train=data.x_train[:n_train], y_train=data.y_train[:n_train])
    assert run(few, TINY).history[-1].step == TINY.steps


def test_an_epoch_is_a_permutation_that_the_seed_decides():
    one, two, other = ([*map(torch.Tensor.tolist, _batches(20, 6, 6, s))] for s in (0, 0, 1))
    assert one == two != other
    first, second = sum(one[:3], []), sum(one[3:], [])
    assert len(set(first)) == len(set(second)) == 18
    assert first != second


def test_accuracy_at_the_end_is_that_of_the_whole_test_set(data):
    result = run(data, TINY)
    model = result.model.eval()
    expected = (model(data.x_test).argmax(-1) == data.y_test).double().mean().item()
    assert result.accuracy == pytest.approx(expected)
    assert result.history[-1].accuracy * 7 == pytest.approx(round(result.history[-1].accuracy * 7))


def test_demo_composes_three_runs(data):
    seen = []
    full, compressed, small = demo(data, TINY, seed=2, on_step=lambda step: seen.append(step.run))
    assert [r.name for r in (full, compressed, small)] == list(dict.fromkeys(seen))
    assert len(seen) == 3 * TINY.steps
    assert full.orders == (12, 12) and not full.events
    assert len(compressed.events) == TINY.cuts
    assert full.history[0].accuracy == compressed.history[0].accuracy
    assert all(2 <= order < 12 for order in compressed.orders)
    assert small.orders == (round(sum(compressed.orders) / 2),) * 2 and not small.events


def test_results_survive_json(data):
    result = run(data, TINY, policy=Order(5), spectra_at=(0,))
    back = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert back["orders"] == [5, 5] and back["settings"]["lr"] == TINY.lr
    assert back["events"][0]["layers"][0]["after"] == 5
    assert len(back["events"][0]["layers"][0]["hsv"]) == 24
    assert back["history"][0]["loss"] is None


def test_the_plain_loop_of_the_examples():
    script = Path(__file__).resolve().parents[3] / "examples" / "plain_loop.py"
    done = subprocess.run([sys.executable, "-W", "error", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *cuts, last = done.stdout.splitlines()
    assert len(cuts) == 3 and all("->" in cut and "skipped" not in cut for cut in cuts)
    assert float(last.partition("%")[0]) > 95
