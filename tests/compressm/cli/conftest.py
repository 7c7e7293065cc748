"""What several test modules of the command line share."""

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
