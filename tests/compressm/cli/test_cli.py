"""The command line as a whole: exit codes, errors, help."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import compressm
import lti
from compressm import LRU, CompressmError, OptionError


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


@pytest.mark.parametrize("error", [CompressmError, OptionError, lti.LTIError])
def test_an_error_is_one_line_and_code_2(call, monkeypatch, error):
    def fails(*arguments):
        raise error("what was wrong")

    monkeypatch.setattr("compressm.cli.report.require_report", fails)
    assert call("report", "runs") == (2, "", "compressm: what was wrong\n")


def test_an_escape_sequence_of_a_name_does_not_reach_the_terminal(call, monkeypatch):
    def fails(*arguments):
        raise CompressmError("no \x1b[2J name")

    monkeypatch.setattr("compressm.cli.report.require_report", fails)
    assert call("report", "runs")[2] == "compressm: no  [2J name\n"


def test_an_interrupt_is_one_word_and_code_130(call, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("compressm.cli.report.require_report", interrupted)
    assert call("report", "runs") == (130, "", "compressm: stopped\n")


@pytest.mark.parametrize("argv", [["inspect", "x" * 300], ["report", "x" * 300]])
def test_a_name_that_is_too_long_is_one_line(call, argv):
    code, _, err = call(*argv)
    assert code == 2 and err.count("\n") == 1


@pytest.mark.parametrize(
    "closed",
    ["pipe", *(pytest.param(x, marks=pytest.mark.slow) for x in ("descriptor", "/dev/full"))],
)
def test_a_closed_output_is_one_line(tmp_path, closed):
    torch.save(LRU(2, 4).state_dict(), tmp_path / "model.pt")
    command = [sys.executable, "-m", "compressm", "inspect", "model.pt"]
    if closed == "descriptor":
        command, target = ["sh", "-c", '"$@" >&-', "sh", *command], subprocess.DEVNULL
    elif closed == "pipe":
        reader, target = os.pipe()
        os.close(reader)
    else:
        target = os.open(closed, os.O_WRONLY)
    root = str(Path(compressm.__file__).parents[1])
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": root},
        stdout=target,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 2 and done.stderr.startswith("compressm: ")
    assert done.stderr.count("\n") == 1
