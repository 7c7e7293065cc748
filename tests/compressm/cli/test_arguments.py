"""Arguments that make no sense: a sentence and exit 2, and no folder is made."""

import pytest

from compressm import cli

TRAIN = ["train", "digits-is-not-read"]


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ([*TRAIN, "--order", "0"], "0 is not a positive number of states"),
        ([*TRAIN, "--order", "-3"], "-3 is not a positive number of states"),
        ([*TRAIN, "--seed", str(10**30)], "is not from 0 to 2**32 - 1"),
        ([*TRAIN, "--seed", "-1"], "is not from 0 to 2**32 - 1"),
        ([*TRAIN, "--device", "gpu"], "cannot train on 'gpu' here; did you mean 'cpu'"),
        ([*TRAIN, "--device", "meta"], "cannot train on 'meta' here"),
        ([*TRAIN, "--device", "cuda:99"], "'cuda:99' is not available here"),
        ([*TRAIN, "--threads", "1000000"], "1000000 threads are more than 1024"),
        (["demo", "--seed", str(10**30)], "is not from 0 to 2**32 - 1"),
        (["demo", "--threads", "1000000"], "1000000 threads are more than 1024"),
        (["demo", "--output", "x.xyz"], "x.xyz has no ending of a picture; use one of eps"),
        (["demo", "--output", "absent/x.png"], "no file can be written at absent/x.png"),
    ],
)
def test_it_is_refused(arguments, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2 and sentence in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
