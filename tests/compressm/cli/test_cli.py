"""The command line as a whole: exit codes, errors, help."""

import pytest

import lti
from compressm import CompressmError, OptionError


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
def test_an_error_is_one_line_and_code_1(call, monkeypatch, error):
    def fails(*arguments):
        raise error("what was wrong")

    monkeypatch.setattr("compressm.cli.report.require_report", fails)
    assert call("report", "runs") == (1, "", "compressm: what was wrong\n")
