"""`compressm demo`: what is said on which stream, what is saved."""

import json
import sys

import pytest

from tests.compressm.experiments.helpers import write_mnist


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


@pytest.mark.slow
def test_demo_that_cuts_nothing(call, tmp_path):
    code, out, _ = call(*"demo --steps 1 --energy 1".split())
    assert code == 0 and "256 → 256 states" in out
    assert (tmp_path / "compressm-demo.png").is_file()


def test_demo_on_mnist(call, tmp_path):
    write_mnist(tmp_path)
    code, out, _ = call(*"demo --data mnist --data-dir . --steps 2 --seed 3 --output m.png".split())
    assert code == 0 and "length 784" in out and "seed 3" in out
    assert (tmp_path / "m.png").is_file()


@pytest.mark.parametrize(
    "path, message",
    [
        ("x.xyz", "x.xyz is no picture that can be written: its name must end with one of"),
        ("x", "x is no picture"),
        (300 * "n" + ".png", "File name too long"),
        ("/proc/x.png", "no file can be written at /proc/x.png"),
    ],
)
def test_an_output_that_cannot_be_written_is_said_before_training(call, capsys, path, message):
    with pytest.raises(SystemExit) as caught:
        call("demo", "--output", path)
    assert caught.value.code == 2 and message in capsys.readouterr().err


def test_missing_data_is_one_sentence_and_code_2(call):
    code, out, err = call("demo", "--data", "mnist", "--data-dir", "nowhere")
    assert (code, out) == (2, "")
    assert err.startswith("compressm: there is no file nowhere") and err.count("\n") == 1


@pytest.mark.parametrize(
    "module, package",
    [("rich", "rich"), ("matplotlib", "matplotlib"), ("sklearn.datasets", "scikit-learn")],
)
def test_missing_package_is_one_sentence_and_code_2(call, monkeypatch, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    code, out, err = call("demo")
    assert (code, out) == (2, "")
    assert f"'pip install {package}'" in err and err.count("\n") == 1


def test_an_interrupt_is_one_line(call, monkeypatch, tmp_path):
    def interrupted(data, settings, *, seed, on_step):
        raise KeyboardInterrupt

    monkeypatch.setattr("compressm.cli.demo.demo", interrupted)
    code, _, err = call("demo")
    assert code == 130
    assert err == "compressm: stopped before the first step; nothing was saved.\n"
    assert not list(tmp_path.iterdir())
