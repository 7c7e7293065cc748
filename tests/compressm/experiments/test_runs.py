"""Runs in folders: seeds and checkpoints reproduce them, arms, and what is kept."""

import json
import os
from dataclasses import replace

import pytest
import torch

import lti
from compressm import CheckpointError, KeepEnergy, OptionError, OutputError, RunError
from compressm.compression.policies import as_policy
from compressm.experiments.runs import _write, read_run, train
from compressm.experiments.training import to_record
from tests.compressm.experiments.helpers import measured, without_seconds


def test_a_seed_reproduces_a_run_to_the_last_bit(recipe, data, tmp_path):
    one, two, other = (
        train(recipe, data, tmp_path / str(i), seed=seed) for i, seed in enumerate((0, 0, 1))
    )
    assert measured(one) == measured(two)
    assert measured(one)[1] != measured(other)[1]


@pytest.mark.parametrize("stop", [3, *(pytest.param(x, marks=pytest.mark.slow) for x in (1, 5))])
@pytest.mark.parametrize(("gramians", "weight"), [("model", 0.0), ("input", 0.0), ("model", 0.1)])
def test_a_run_that_was_stopped_goes_on_to_the_same_result(
    recipe, data, tmp_path, stop, gramians, weight
):
    if weight:  # one cut, so that a balancing is in use when a run stops
        recipe = replace(recipe, penalty_weight=weight, cuts=1)
    recipe = replace(recipe, gramians=gramians)
    whole = train(recipe, data, tmp_path / "whole")
    assert [event.step for event in whole.events] == ([4] if weight else [2, 4])

    def interrupted(step):
        if step.step == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, data, tmp_path / "part", on_step=interrupted)
    steps = []
    part = train(
        recipe, data, tmp_path / "part", resume=True, on_step=lambda step: steps.append(step.step)
    )
    assert steps[0] == {1: 1, 3: 3, 5: 5}[stop], "the last checkpoint is every other step"
    assert measured(part) == measured(whole)
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("whole", "part")]
    assert [without_seconds(json.loads(line)) for line in logs[0]] == [
        without_seconds(json.loads(line)) for line in logs[1]
    ]


def test_what_a_recipe_leaves_out_is_by_what_is_at_hand(recipe, data, tmp_path):
    left_out = replace(recipe, gramians=None, energy=None)
    assert left_out.make_policy() == as_policy(None)
    assert replace(left_out, output_error=0.1).make_policy() == OutputError(0.1)
    assert replace(left_out, energy=0.9).make_policy() == KeepEnergy(0.9)
    with pytest.raises(OptionError, match="set one of them"):
        replace(left_out, energy=0.9, output_error=0.1)
    with pytest.raises(OptionError, match="relative output error"):
        replace(left_out, output_error=2.0)
    for i, (policy, kind) in enumerate((({}, "input"), ({"tol": 0.1}, "model"))):
        result = train(replace(left_out, policy=policy), data, tmp_path / str(i))
        assert {cut.gramians for event in result.events for cut in event.layers} == {kind}


def test_arms(recipe, data, tmp_path):
    full = train(recipe, data, tmp_path / "full", arm="full")
    after = train(recipe, data, tmp_path / "after", arm="after")
    compressed = train(recipe, data, tmp_path / "compressed")
    order = read_run(tmp_path / "compressed").mean_order
    small = train(recipe, data, tmp_path / "small", arm="small", order=order)
    assert full.orders == (8, 8) and not full.events
    assert [event.step for event in after.events] == [6] and max(after.orders) < 8
    before = [point for point in after.history if point.step == 6][0]
    assert before.accuracy == full.accuracy, "uncut until then, and on all of the test set"
    assert len(compressed.events) == 2 and small.orders == (order, order) and not small.events
    for name in ("full", "after", "compressed", "small"):
        found = read_run(tmp_path / name)
        assert found.arm == name and found.finished
    back, kept = read_run(tmp_path / "after").result, [to_record(entry) for entry in after.log]
    assert [to_record(entry) for entry in back.log] == kept and back.orders == after.orders
    assert back.events[0].layers[0].parameters == after.events[0].layers[0].parameters


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_torch_does_not_have_leaves_no_folder(recipe, data, tmp_path, device):
    with pytest.raises(RunError, match=f"cannot use the device {device}"):
        train(recipe, data, tmp_path / "run", device=device)
    assert not (tmp_path / "run").exists()


def test_a_folder_is_one_runs_own(recipe, data, tmp_path):
    train(recipe, data, tmp_path, arm="full")
    with pytest.raises(RunError, match="holds a run already: give --resume"):
        train(recipe, data, tmp_path, arm="full")
    with pytest.raises(RunError, match="another run, with arm full, seed 0"):
        train(recipe, data, tmp_path, seed=1, resume=True)
    with pytest.raises(RunError, match="settings of its recipe.yaml"):
        train(replace(recipe, lr=1.0), data, tmp_path, arm="full", resume=True)
    with pytest.raises(RunError, match="needs its order, a number"):
        train(recipe, data, tmp_path / "small", arm="small")
    with pytest.raises(RunError, match="holds no run"):
        read_run(tmp_path / "nowhere")


def test_the_penalty_and_the_rate_of_the_layers_have_an_effect(recipe, data, tmp_path):
    losses = [
        train(replace(recipe, **change), data, tmp_path / str(i)).model.head.weight
        for i, change in enumerate(({}, {"penalty_weight": 1.0}, {"ssm_lr": 0.1}))
    ]
    assert not torch.equal(losses[0], losses[1]) and not torch.equal(losses[0], losses[2])


def test_a_record_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    _write(path, "1")

    def full(descriptor):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left"):
        _write(path, "2")
    assert path.read_text() == "1"
    assert os.listdir(tmp_path) == ["run.json"]


def stopped_at(step):
    def stop(now):
        if now.step == step:
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize("stop", [5, None])
def test_a_checkpoint_knows_its_run(recipe, data, tmp_path, stop):
    try:
        train(recipe, data, tmp_path, on_step=stopped_at(stop))
    except KeyboardInterrupt:
        pass
    (tmp_path / "run.json").unlink()
    with pytest.raises(RunError, match="holds a run already"):
        train(recipe, data, tmp_path, seed=7)
    with pytest.raises(RunError, match="another run, with seed 0"):
        train(recipe, data, tmp_path, seed=7, resume=True)
    with pytest.raises(RunError, match="another run, with lr"):
        train(replace(recipe, lr=0.5), data, tmp_path, resume=True)
    assert not (tmp_path / "run.json").exists()
    train(recipe, data, tmp_path, resume=True)
    assert read_run(tmp_path).finished


def test_a_folder_is_one_process_own(recipe, data, tmp_path):
    def second(step):
        with pytest.raises(RunError, match="another process trains in"):
            train(recipe, data, tmp_path, resume=True)

    train(recipe, data, tmp_path, on_step=second)
    train(recipe, data, tmp_path, resume=True)  # free again


@pytest.mark.parametrize("lines", [0, 1, None])
def test_the_log_is_that_of_the_checkpoint(recipe, data, tmp_path, lines):
    whole = train(recipe, data, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(recipe, data, tmp_path / "part", on_step=stopped_at(5))
    path = tmp_path / "part" / "log.jsonl"
    kept = path.read_text().splitlines(keepends=True)
    path.write_text("".join(kept[:lines]) + ("" if lines is not None else kept[-1]))

    def lines_so_far(step):
        expected = [entry for entry in whole.log if entry.step <= step.step]
        assert len(path.read_text().splitlines()) == len(expected)

    train(recipe, data, tmp_path / "part", resume=True, on_step=lines_so_far)
    path.unlink()
    train(recipe, data, tmp_path / "part", resume=True)  # the finished run
    assert len(path.read_text().splitlines()) == len(whole.log)


def test_a_start_that_failed_leaves_a_folder_to_another_run(recipe, data, tmp_path):
    with pytest.raises(lti.OptionError, match="r_min and r_max"):
        train(replace(recipe, layer_options={"r_min": 3.0}), data, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} <= {".lock"}
    train(recipe, data, tmp_path, seed=1)


def test_a_full_disk_is_a_sentence_and_the_run_goes_on_later(recipe, data, tmp_path, monkeypatch):
    whole = train(recipe, data, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises((RunError, CheckpointError)) as error:

        def full(step):
            if step.step == 3:
                patch.setattr(os, "fsync", no_space)

        train(recipe, data, tmp_path / "part", on_step=full)
    assert "cannot be written" in str(error.value) and "No space" in str(error.value)
    part = train(recipe, data, tmp_path / "part", resume=True)
    assert measured(part) == measured(whole)


def no_space(descriptor):
    raise OSError(28, "No space left on device")
