"""ETTh1: split, scaling and windows, and one sentence if the file is not what it should be."""

import numpy as np
import pytest
import torch

from compressm import DataError
from compressm.experiments.data import FORECASTING, etth1, files
from compressm.experiments.data.series import SHA256, URL
from tests.compressm.experiments.helpers import write_etth1

MONTH = 720


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def scaled(folder):
    """Return what the file holds, scaled by its training part."""
    values = write_etth1(folder, rows=20 * MONTH + 30)
    return (values - values[: 12 * MONTH].mean(0)) / values[: 12 * MONTH].std(0)


def windows_of(data, part):
    """Return the windows (n, past + horizon) of a part, as a set of rounded rows."""
    x, y = (getattr(data, f"{name}_{part}") for name in "xy")
    rows = torch.cat([x[..., 0], y], 1).numpy()
    return {tuple(row) for row in rows.round(3).tolist()}, len(rows)


@pytest.mark.parametrize(
    ("part", "begin", "end"), [("train", 0, 12), ("test", 16, 20)], ids=["train", "test"]
)
def test_windows_are_those_of_the_usual_split(folder, scaled, part, begin, end):
    data = etth1(folder, past=8, horizon=4)
    first = begin * MONTH - (8 if part == "test" else 0)  # forecasts begin with the part
    series = scaled[first : end * MONTH]
    rows = np.lib.stride_tricks.sliding_window_view(series, 12, 0).reshape(-1, 12)
    expected = {tuple(row) for row in (rows - rows[:, 7:8]).astype(np.float32).round(3).tolist()}
    found, count = windows_of(data, part)
    assert count == 7 * ((end - begin) * MONTH - 3 - (8 if part == "train" else 0))
    assert len(found & expected) > 0.99 * len(expected), "all but those whose rounding differs"
    assert data.task is FORECASTING and data.n_outputs == 4
    assert data.x_test.dtype == data.y_test.dtype == torch.float32


def test_the_first_training_windows_stand_for_all_months_and_are_the_same_again(folder, scaled):
    data = etth1(folder, past=8, horizon=4)
    assert torch.equal(data.x_train, etth1(folder, past=8, horizon=4).x_train)
    series = torch.tensor(scaled[:MONTH]).float().unfold(0, 8, 1).flatten(0, 1)
    month = series - series[:, 7:]
    distance = torch.cdist(data.x_train[:300, :, 0], month).min(1).values
    assert 0 < (distance < 1e-5).sum() < 60, "a twelfth of them, not all, are of the first month"


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: write_etth1(folder, rows=14_399),
        lambda folder: write_etth1(folder, OT=np.nan),
        lambda folder: write_etth1(folder, OT=3.0),
        lambda folder: (folder / "ETTh1.csv").write_text("404: Not Found"),
        lambda folder: (folder / "ETTh1.csv").write_bytes(bytes(range(256))),
    ],
    ids=["short", "nan", "constant", "no csv", "no text"],
)
@pytest.mark.filterwarnings("error")
def test_a_file_that_is_not_etth1_is_refused(tmp_path, write):
    write(tmp_path)
    with pytest.raises(DataError, match="cannot be read as ETTh1"):
        etth1(tmp_path)


@pytest.mark.parametrize("sizes", [(0, 4), (4, 0), (8, 2881), (8000, 700)])
def test_sizes_that_do_not_fit_are_refused_before_anything_is_read(tmp_path, sizes):
    with pytest.raises(ValueError, match="past and horizon must be positive"):
        etth1(tmp_path, *sizes)


def test_without_a_folder_the_file_is_downloaded(folder, scaled, monkeypatch):
    monkeypatch.delenv("COMPRESSM_DATA", raising=False)
    asked = []

    def download(what, url, sha256):
        asked.append((what, url, sha256))
        return folder / "ETTh1.csv"

    monkeypatch.setattr(files, "_download", download)
    assert etth1(past=8, horizon=4).n_outputs == 4
    assert asked == [("ETTh1", URL, SHA256)]
    with pytest.raises(DataError, match=r"there is no file .*ETTh1.csv: give --data-dir"):
        etth1(folder / "nowhere")


def test_the_real_file(data_file):
    path = data_file("series/ETTh1.csv")
    data = etth1(path.parent.parent)
    assert data.x_train.shape == (7 * (8640 - 431), 336, 1)
    assert data.y_test.shape == (7 * (2880 - 95), 96)
    last = data.y_test.square().mean().item()
    assert last == pytest.approx(1.29, abs=0.02), "MSE of the last value, as published for 96 hours"
