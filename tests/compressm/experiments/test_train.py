"""Recipes and their runs: what is refused, that a seed and a checkpoint reproduce, what is kept."""

import json
import os
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from compressm import KeepEnergy, cli
from compressm.compression.policies import ENERGIES
from compressm.experiments.recipes import SHIPPED, RecipeError, load_data, read_recipe, to_yaml
from compressm.experiments.runs import RunError, _write, read_run, train
from compressm.experiments.training import Settings, TrainingError, _rate, model_of, run, to_record

TINY = ["d_model=4", "d_state=8", "n_layers=2", "batch_size=4", "steps=6", "eval_every=2"]
TINY += ["eval_size=20", "cuts=2", "cut_window=0.7", "checkpoint_every=2", "dropout=0.2"]
LISTOPS = ["data_options.n_train=20", "data_options.n_test=8", "data_options.min_length=3"]
LISTOPS += ["data_options.max_length=30"]


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a few sequences of every kind, in the formats of the real data."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (20, 28, 28), dtype=np.uint8), np.arange(20) % 10
    np.savez(tmp_path / "mnist.npz", x_train=x, y_train=y, x_test=x[:9], y_test=y[:9])
    length = rng.integers(50, 90, 60)
    audio = rng.integers(-999, 999, length.sum()).astype(np.int16)
    parts = {"digit": np.repeat(np.arange(10), 6), "index": np.tile(np.arange(6), 10)}
    np.savez(tmp_path / "fsdd.npz", audio=audio, length=length, **parts)
    batches = tmp_path / "cifar-10-batches-bin"
    batches.mkdir()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        records = rng.integers(0, 256, (4, 3073), dtype=np.uint8)
        records[:, 0] = np.arange(4) % 10
        (batches / f"{name}.bin").write_bytes(records.tobytes())
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as archive:
        archive.add(batches, batches.name)
    return tmp_path


@pytest.fixture(scope="module")
def recipe():
    return read_recipe("listops", [*TINY, *LISTOPS, "lr=1e-2"])


@pytest.fixture(scope="module")
def data(recipe):
    return load_data(recipe)


def measured(result):
    """Everything that a seed determines: all but the times."""
    found = [to_record(entry) for entry in result.log]
    for record in found:
        record.get("point", {}).pop("seconds", None)
    weights = [p.detach().numpy().tobytes() for p in result.model.parameters()]
    return found, weights, result.accuracy, result.orders


# ------------------------------------------------------------------ recipes


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_train(name, folder, capsys):
    short = {"spoken-digits": ["data_options.length=64"], "listops": LISTOPS}
    options = ["--data-dir", str(folder), "--output", str(folder / "run"), "--steps", "3"]
    assert cli.main(["train", name, "--set", *TINY, *short.get(name, []), *options]) == 0
    assert "compressed, 3 steps, seed 0" in capsys.readouterr().out
    found = read_run(folder / "run")
    assert found.finished and found.result.history[-1].step == 3
    assert found.result.events, "the schedule has a cut in three steps"


def test_a_recipe_survives_its_file(recipe, tmp_path):
    (tmp_path / "again.yaml").write_text(to_yaml(recipe))
    assert read_recipe(tmp_path / "again.yaml") == recipe


def test_changes_replace_what_the_file_says():
    changed = read_recipe("smnist", ["lr=3e-3", "layer_options.r_min=5e-1", "policy.n_stored=7"])
    assert changed.lr == 3e-3
    assert changed.layer_options == {"r_min": 0.5, "r_max": 0.999}
    assert repr(changed.how_far()) == "Order(n_stored=7)"
    assert repr(read_recipe("smnist").how_far()) == "KeepEnergy(energy=0.98)"


@pytest.mark.parametrize(
    "change, said",
    [
        ("d_stat=3", "there is no setting 'd_stat'; did you mean 'd_state'?"),
        ("layer_options.rmin=1", "there is no option of lru 'rmin'; did you mean 'r_min'?"),
        ("data_options.x=1", "there is no option of mnist 'x'"),
        ("layer=lrv", "did you mean 'lru'?"),
        ("data=mnst", "did you mean 'mnist'?"),
        ("policy.n_stord=1", "did you mean 'n_stored'?"),
        ("policy.n_stored=0", "n_stored must be an integer of at least 1"),
        ("steps=1.5", "steps: input should be a valid integer"),
        ("steps=0", "steps must be at least 1, got 0"),
        ("energy=2", "energy is a share"),
        ("lr=-1", "lr must be a positive number"),
        ("lr_floor=1", "lr_floor must lie in"),
        ("weight_decay=-1", "weight_decay must not be negative"),
        ("gramians=both", "gramians: input should be 'model', 'input' or 'data'"),
        ("lr", "not of the form name=value"),
        ("lr.x=3", "lr is .* and has no settings in it"),
        ("lr=[", "smnist: "),
    ],
)
def test_what_makes_no_sense_is_said_and_what_would(change, said):
    with pytest.raises(RecipeError, match=said.replace("?", r"\?")):
        read_recipe("smnist", [change])


def test_two_policies_at_once_are_refused():
    with pytest.raises(RecipeError, match="no policy has all of n_stored, tol"):
        read_recipe("smnist", ["policy.n_stored=3", "policy.tol=1"])


@pytest.mark.parametrize(
    "content, said", [("- 1", "holds no settings"), ("lr: 1", "must be given")]
)
def test_what_is_no_recipe_is_refused(tmp_path, content, said):
    (tmp_path / "x.yaml").write_text(content)
    with pytest.raises(RecipeError, match=said):
        read_recipe(tmp_path / "x.yaml")
    with pytest.raises(RecipeError, match="there is no recipe .*smnist"):
        read_recipe(tmp_path / "nothing.yaml")


# ------------------------------------------------------------------ runs


def test_a_seed_reproduces_a_run_to_the_last_bit(recipe, data, tmp_path):
    one, two, other = (
        train(recipe, data, tmp_path / str(i), seed=seed) for i, seed in enumerate((0, 0, 1))
    )
    assert measured(one) == measured(two)
    assert measured(one)[1] != measured(other)[1]


@pytest.mark.parametrize("stop", [1, 3, 5])
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
    assert [strip(line) for line in logs[0]] == [strip(line) for line in logs[1]]


def strip(line):
    record = json.loads(line)
    record.get("point", {}).pop("seconds", None)
    return record


def test_what_a_recipe_leaves_out_is_by_what_is_at_hand(recipe, data, tmp_path):
    left_out = replace(recipe, gramians=None, energy=None)
    assert left_out.how_far() == KeepEnergy(ENERGIES["input"])
    assert replace(left_out, gramians="model").how_far() == KeepEnergy(ENERGIES["model"])
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
    with pytest.raises(RunError, match="needs its order"):
        train(recipe, data, tmp_path / "small", arm="small")
    with pytest.raises(RunError, match="holds no run"):
        read_run(tmp_path / "nowhere")


def test_a_loss_that_is_not_finite_stops_the_run(data, recipe):
    with pytest.raises(TrainingError, match=r"is nan at step \d+: lower lr"):
        run(data, replace(recipe, lr=1e30, steps=50))


def test_the_penalty_and_the_rate_of_the_layers_have_an_effect(recipe, data, tmp_path):
    losses = [
        train(replace(recipe, **change), data, tmp_path / str(i)).model.head.weight
        for i, change in enumerate(({}, {"penalty_weight": 1.0}, {"ssm_lr": 0.1}))
    ]
    assert not torch.equal(losses[0], losses[1]) and not torch.equal(losses[0], losses[2])


def test_rates_start_and_end_at_the_floor(data, recipe):
    settings = replace(recipe, steps=1000, lr=1.0, lr_floor=0.1)
    factor = _rate(settings)
    assert factor(0) == pytest.approx(0.109) and factor(99) == 1.0
    assert factor(1000) == pytest.approx(0.1)
    assert _rate(replace(settings, lr_schedule="constant"))(7) == 1.0


def test_tokens_are_embedded(data, recipe):
    model = model_of(data, recipe)
    assert model.encoder.weight.shape == (16, 4)
    x = data.x_train[:2]
    assert torch.equal(model.encoder(x), model.encoder.weight[x.long()])


def test_tensorboard_files_tell_of_the_run(recipe, data, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = train(recipe, data, tmp_path, tensorboard=True)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [x.value for x in events.Scalars("states/1")][-1] == result.orders[1]
    assert "spectrum/blocks.0.layer" in events.Tags()["histograms"]


def test_the_command_line_says_what_is_wrong(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    command = ["train", "smnist", "--set", *TINY, "--data-dir", "."]
    assert cli.main(["train", "smnist", "--set", "lrr=1"]) == 1
    assert "did you mean 'lr'" in capsys.readouterr().err
    assert cli.main([*command, "--arm", "small", "--order", "nowhere"]) == 1
    assert "nowhere holds no run" in capsys.readouterr().err
    assert cli.main([*command, "--arm", "small", "--order", "3"]) == 0
    assert (folder / "runs" / "smnist-small-0" / "run.json").is_file()

    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "train", stopped)
    assert cli.main(command) == 130
    assert "--resume goes on" in capsys.readouterr().err


def test_settings_are_checked_in_python_too():
    with pytest.raises(ValueError, match="d_state must be at least 1, got 0"):
        Settings(d_model=1, d_state=0, n_layers=1, steps=1, batch_size=1, lr=1.0)


def test_a_record_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    _write(tmp_path, {"a": 1})

    def full(descriptor):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        _write(tmp_path, {"a": 2})
    assert json.loads((tmp_path / "run.json").read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["run.json"]
