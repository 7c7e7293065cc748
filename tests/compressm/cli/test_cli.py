"""The command line: exit codes, what is said on which stream, what is saved."""

import json
import sys

import numpy as np
import pytest
import torch

from compressm import cli


@pytest.fixture(autouse=True)
def threads():
    """Give torch its threads back, which the command line sets."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Return a function that runs the command line in an empty folder: code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COMPRESSM_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "80")

    def call(*argv):
        code = cli.main(argv)
        return code, *capsys.readouterr()

    return call


def test_demo_on_digits(call, tmp_path):
    code, out, err = call(*"demo --steps 8 --energy 0.8 --seed 3 --json all.json".split())
    assert code == 0 and err == ""
    for name in ("full size", "compressed", "small from scratch"):
        assert sum(line.startswith(name) for line in out.splitlines()) == 2, "bar and table"
    assert f"Picture: {tmp_path / 'compressm-demo.png'}" in out
    assert (tmp_path / "compressm-demo.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads((tmp_path / "all.json").read_text())
    for run in report["runs"]:
        assert (run["settings"]["steps"], run["settings"]["energy"], run["seed"]) == (8, 0.8, 3)
    full, compressed, small = (run["orders"][0] for run in report["runs"])
    assert small == compressed < full
    assert f"{full} → {compressed}" in out
    assert all(
        len(line) <= 80
        for line in out.splitlines()
        if not line.startswith(("Picture", "Measurements"))
    )


def test_demo_that_cuts_nothing(call, tmp_path):
    code, out, _ = call(*"demo --steps 1 --energy 1".split())
    assert code == 0 and "256 → 256 states" in out
    assert (tmp_path / "compressm-demo.png").is_file()


def test_demo_on_mnist(call, tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (20, 28, 28), dtype=np.uint8), np.arange(20) % 10
    np.savez(tmp_path / "mnist.npz", x_train=x, y_train=y, x_test=x[:9], y_test=y[:9])
    code, out, _ = call(*"demo --data mnist --data-dir . --steps 2 --seed 3 --output m.png".split())
    assert code == 0 and "length 784" in out and "seed 3" in out
    assert (tmp_path / "m.png").is_file()


def test_missing_data_is_one_sentence_and_code_1(call):
    code, out, err = call("demo", "--data", "mnist", "--data-dir", "nowhere")
    assert (code, out) == (1, "")
    assert err.startswith("compressm: there is no file nowhere") and err.count("\n") == 1


@pytest.mark.parametrize(
    "module, package",
    [("rich", "rich"), ("matplotlib", "matplotlib"), ("sklearn.datasets", "scikit-learn")],
)
def test_missing_package_is_one_sentence_and_code_1(call, monkeypatch, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    code, out, err = call("demo")
    assert (code, out) == (1, "")
    assert f"'pip install {package}'" in err and err.count("\n") == 1


def test_an_interrupt_is_one_line(call, monkeypatch, tmp_path):
    def interrupted(data, settings, *, seed, on_step):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "demo", interrupted)
    code, _, err = call("demo")
    assert code == 130
    assert err == "compressm: stopped before the first step; nothing was saved.\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "argv",
    [
        "",
        "undo",
        "demo --data cifar",
        "demo --steps 0",
        "demo --steps many",
        "demo --energy 0",
        "demo --energy 1.5",
        "demo --threads 0",
        "demo --output no/such/folder.png",
        "demo --json .",
    ],
)
def test_wrong_arguments_are_code_2(call, capsys, argv):
    with pytest.raises(SystemExit) as caught:
        call(*argv.split())
    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_help_says_what_the_demo_does(call, capsys):
    with pytest.raises(SystemExit) as caught:
        call("demo", "--help")
    assert caught.value.code == 0
    assert "compressed while training" in " ".join(capsys.readouterr().out.split())
