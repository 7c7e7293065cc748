"""Plug loads: series of any length, and that what follows them does not count."""

import numpy as np
import pytest
import torch

from compressm import DataError, States, compress_
from compressm.experiments.data import plaid
from compressm.experiments.rebuilding import inputs_of
from compressm.experiments.training import Settings, accuracy, model_of, run

LENGTHS = [5, 9, 20, 7]


def write(folder, **changes):
    rng, arrays = np.random.default_rng(0), {}
    for part in ("train", "test"):
        arrays |= {f"x_{part}": 30 * rng.normal(size=sum(LENGTHS)).astype(np.float32)}
        arrays |= {f"length_{part}": np.array(LENGTHS), f"y_{part}": np.arange(4)}
    np.savez(folder / "plaid.npz", **(arrays | changes))
    return arrays


def test_series_are_scaled_and_filled_up(tmp_path):
    x = write(tmp_path)["x_train"]
    data = plaid(tmp_path, length=12)
    assert data.x_train.shape == (4, 12, 2) and data.lengths_train.tolist() == [5, 9, 12, 7]
    assert data.y_test.tolist() == [0, 1, 2, 3] and data.n_outputs == 4
    second, largest = x[5:14], np.abs(x[5:14]).max()
    np.testing.assert_allclose(data.x_train[1, :9, 0], second / largest, rtol=1e-6)
    np.testing.assert_allclose(data.x_train[1, :9, 1], np.log(largest), rtol=1e-6)
    assert not data.x_train[1, 9:].any()
    (tmp_path / "series").mkdir()
    (tmp_path / "plaid.npz").rename(tmp_path / "series" / "plaid.npz")
    assert torch.equal(plaid(tmp_path).x_train[:, :12], data.x_train)


def test_padding_does_not_count(tmp_path):
    write(tmp_path)
    short, long = plaid(tmp_path, length=20), plaid(tmp_path, length=40)
    settings = Settings(4, 6, 1, steps=3, batch_size=4, lr=1e-2, eval_every=1)
    runs = [run(data, settings) for data in (short, long)]
    for a, b in zip(*(result.history for result in runs), strict=True):
        assert a.loss == b.loss or a.loss == pytest.approx(b.loss, rel=1e-4)
        assert a.accuracy == b.accuracy
    model = model_of(short, settings)
    y, x, lengths = short.test()
    alone = [model.eval()(one[None, :n]).argmax().item() for one, n in zip(x, lengths, strict=True)]
    assert accuracy(model, x, y, lengths) == np.mean(np.array(alone) == y.numpy())


def test_a_model_is_inspected_without_the_padding(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.setenv("COMPRESSM_DATA", str(tmp_path))
    model = model_of(plaid(), Settings(4, 6, 1, steps=3, batch_size=4, lr=1e-2))
    (batch,) = inputs_of(model, "plaid")
    assert batch["u"].shape == (4, 1344, 2) and batch["lengths"].tolist() == LENGTHS
    (cut,) = compress_(model, States(3), data=[batch], dry_run=True).layers
    alone = [batch["u"][i : i + 1, :n] for i, n in enumerate(LENGTHS)]
    (other,) = compress_(model, States(3), data=alone, dry_run=True).layers
    np.testing.assert_allclose(cut.hsv, other.hsv, rtol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"length_train": np.array([5, 9, 20])},
        {"length_train": np.array([5.0, 9.0, 20.0, 7.0])},
        {"y_test": np.arange(3)},
        {"x_test": "no"},
        {"x_test": np.ones((sum(LENGTHS), 1))},
        {"x_test": np.full(sum(LENGTHS), np.nan)},
    ],
    ids=str,
)
def test_a_file_that_is_not_plaid_is_refused(tmp_path, changes):
    write(tmp_path, **changes)
    with pytest.raises(DataError, match="cannot be read as PLAID"):
        plaid(tmp_path)


def test_no_file(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="there is no file"):
        plaid(tmp_path)
    with pytest.raises(ValueError, match="length must be positive"):
        plaid(tmp_path, length=0)
    monkeypatch.delenv("COMPRESSM_DATA", raising=False)
    with pytest.raises(DataError, match="are not downloaded"):
        plaid()


def test_the_real_file(data_file):
    data = plaid(data_file("series/plaid.npz").parent)
    assert data.x_train.shape == data.x_test.shape == (537, 1344, 2)
    assert data.n_outputs == 11 and data.lengths_train.min() == 100
