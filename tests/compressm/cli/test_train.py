"""`compressm train`: shipped recipes, and what is wrong in one sentence."""

import json
import re
import tarfile

import numpy as np
import pytest
from safetensors.torch import load_file

from compressm import cli
from compressm.experiments.recipes import SHIPPED
from compressm.experiments.runs import read_run
from tests.compressm.experiments.helpers import (
    ETTH1,
    LISTOPS,
    TINY_RECIPE,
    write_etth1,
    write_mnist,
)


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a few sequences of every kind, in the formats of the real data."""
    rng = np.random.default_rng(0)
    write_mnist(tmp_path)
    write_etth1(tmp_path)
    length = rng.integers(50, 90, 60)
    audio = rng.integers(-999, 999, length.sum()).astype(np.int16)
    parts = {"digit": np.repeat(np.arange(10), 6), "index": np.tile(np.arange(6), 10)}
    np.savez(tmp_path / "fsdd.npz", audio=audio, length=length, **parts)
    length, parts = np.full(6, 50), {}
    for part in ("train", "test"):
        parts |= {f"x_{part}": rng.normal(size=300), f"length_{part}": length}
        parts |= {f"y_{part}": np.arange(6)}
    np.savez(tmp_path / "plaid.npz", **parts)
    batches = tmp_path / "cifar-10-batches-bin"
    batches.mkdir()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        records = rng.integers(0, 256, (4, 3073), dtype=np.uint8)
        records[:, 0] = np.arange(4) % 10
        (batches / f"{name}.bin").write_bytes(records.tobytes())
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as archive:
        archive.add(batches, batches.name)
    return tmp_path


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_train(name, folder, capsys):
    short = {"spoken-digits": ["data_options.length=64"], "listops": LISTOPS, "etth1": ETTH1}
    options = ["--data-dir", str(folder), "--output", str(folder / "run"), "--steps", "3"]
    assert cli.main(["train", name, "--set", *TINY_RECIPE, *short.get(name, []), *options]) == 0
    assert "compressed, 3 steps, seed 0" in capsys.readouterr().out
    found = read_run(folder / "run")
    assert found.finished and found.result.history[-1].step == 3
    assert found.result.events, "the schedule has a cut in three steps"


def test_a_forecast_is_trained_resumed_reported_inspected_and_compressed(
    folder, capsys, monkeypatch
):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COMPRESSM_DATA", str(folder))
    settings = ["--set", *TINY_RECIPE, *ETTH1]
    for arm in ("full", "compressed"):
        command = ["train", "etth1", *settings, "--arm", arm, "--output", arm]
        assert cli.main(command) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert re.search(r"MSE \d\.\d{4}, MAE \d\.\d{4} on all test sequences", out)
    about = json.loads((folder / "full" / "run.json").read_text())
    result = read_run("full").result
    assert result.measured == {name: about[name] for name in ("MSE", "MAE")}
    assert result.score == about["MSE"] and "accuracy" not in about
    assert cli.main([*command, "--resume"]) == 0
    assert read_run("compressed").result.measured.keys() == {"MSE", "MAE"}
    assert cli.main(["report", "full", "compressed", "--output", "page.html"]) == 0
    assert (folder / "page-MSE.png").is_file()
    page = (folder / "page.html").read_text()
    assert "MSE over time" in page and "accuracy" not in page.lower()
    assert cli.main(["inspect", "compressed", "--data", "etth1", "--sequences", "20"]) == 0
    assert cli.main(["compress", "full", "--states", "3", "--data", "etth1", "-o", "less"]) == 0
    assert load_file("less/model.safetensors")["head.bias"].shape == (4,)
    small = ["train", "digits.yaml", "--output", "digits"]
    write_recipe(folder, "pool: last\n")
    (folder / "own.yaml").rename(folder / "digits.yaml")
    assert cli.main(small) == 0 and capsys.readouterr()
    assert cli.main(["report", "full", "digits"]) == 2
    assert "measured by MSE and accuracy, which cannot be compared" in capsys.readouterr().err


def test_the_command_line_says_what_is_wrong(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    command = ["train", "smnist", "--set", *TINY_RECIPE, "--data-dir", "."]
    assert cli.main(["train", "smnist", "--set", "lrr=1"]) == 2
    assert "did you mean 'lr'" in capsys.readouterr().err
    assert cli.main([*command, "--arm", "small", "--order", "nowhere"]) == 2
    assert "nowhere holds no run" in capsys.readouterr().err
    assert cli.main([*command, "--arm", "small", "--order", "3"]) == 0
    assert (folder / "runs" / "smnist-small-0" / "run.json").is_file()

    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("compressm.cli.train.train", stopped)
    assert cli.main(command) == 130
    assert "--resume continues" in capsys.readouterr().err


def test_runs_in_folders_of_one_name_stay_two(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    command = ["train", "smnist", "--set", *TINY_RECIPE, "gramians=model", "--data-dir", "."]
    for name in ("a", "b"):
        assert cli.main([*command, "--output", f"{name}/run"]) == 0
    capsys.readouterr()
    assert cli.main(["report", "a/run", "b/run", "b/../b/run", "--output", "page.html"]) == 0
    assert {path.name for path in folder.glob("page-spectra-*")} == {
        "page-spectra-a-run.png",
        "page-spectra-b-run.png",
    }


LONG = "n" * 300


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--arm small --order 0", "0 is not a positive number"),
        ("--arm small --order -3", "-3 is not a positive number"),
        (f"--seed {10**30}", "is not from 0 to 2**32 - 1"),
        ("--seed -1", "is not from 0 to 2**32 - 1"),
        ("--device gpu", "did you mean 'cuda'?"),
        ("--device meta", "the device meta holds no numbers"),
        ("--device nowhere", "torch cannot use the device 'nowhere'"),
        ("--threads 1000000", "1000000 threads are more than"),
        (f"--output {LONG}", "File name too long"),
        ("--output own.yaml", "own.yaml is a file"),
        ("--set dropout=5", "dropout must lie in [0, 1), got 5"),
        ("--set dropout=.nan", "dropout must lie in [0, 1), got nan"),
        ("--set weight_decay=.nan", "weight_decay must be a number >= 0"),
        ("--set layer_options.r_min=1 layer_options.r_max=0.5", "0 <= r_min <= r_max <= 1"),
        ("--set layer=s5 layer_options.dt_min=1", "layer_options: "),
        ("--set policy.tol=0.1 gramians=input", "use gramians='model'"),
        ("--set d_state=10000000000", "GiB of memory"),
        ("--arm small --order 10000000000", "GiB of memory"),
    ],
)
def test_what_cannot_be_trained_is_said_before_data_are_loaded(
    call, capsys, monkeypatch, tmp_path, argv, message
):
    def loaded(*arguments):
        raise AssertionError("data were loaded")

    monkeypatch.setattr("compressm.cli.train.load_data", loaded)
    write_recipe(tmp_path)
    try:
        code, out, err = call("train", "own.yaml", "--set", *TINY_RECIPE, *argv.split())
    except SystemExit as refused:
        code, (out, err) = refused.code, capsys.readouterr()
    assert (code, out) == (2, "") and message in err
    assert [path.name for path in tmp_path.iterdir()] == ["own.yaml"]


def write_recipe(folder, more=""):
    """Write a recipe of digits into a folder."""
    text = "data: digits\nd_model: 4\nd_state: 8\nn_layers: 1\nsteps: 2\nbatch_size: 4\nlr: 0.01\n"
    (folder / "own.yaml").write_text(text + more)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("lr: 0.1\n", "lr is set twice"),
        ("data_options: " + 2000 * "[" + 2000 * "]", "nested too deeply"),
        ("lr_floor: [" + 99 * "1, " + "1]", "..."),
    ],
)
def test_a_recipe_that_makes_no_sense_is_one_line(call, tmp_path, more, message):
    write_recipe(tmp_path, more)
    code, out, err = call("train", "own.yaml")
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1
    assert len(err) < 200


def test_a_misspelt_recipe_is_guessed(call):
    assert "did you mean 'smnist'?" in call("train", "smnits")[2]
