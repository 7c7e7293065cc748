"""Spoken digits: both formats, the split, decimation."""

import wave

import numpy as np
import pytest

from compressm import DataError
from compressm.experiments.data import spoken_digits


def recordings():
    rng = np.random.default_rng(0)
    return [
        (digit, index, rng.integers(-3000, 3000, 40 + 7 * index).astype(np.int16))
        for digit in range(3)
        for index in range(8)
    ]


def write_wavs(folder, rate=8000):
    (folder / "recordings").mkdir()
    for digit, index, samples in recordings():
        path = folder / "recordings" / f"{digit}_ada_{index}.wav"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes(samples.astype("<i2").tobytes())


def write_npz(folder):
    digit, index, audio = zip(*recordings(), strict=True)
    np.savez(
        folder / "fsdd.npz",
        audio=np.concatenate(audio),
        length=[len(x) for x in audio],
        digit=digit,
        index=index,
    )


@pytest.mark.parametrize("write", [write_wavs, write_npz])
def test_recordings_are_cut_or_filled_up_and_split_by_their_index(tmp_path, write):
    write(tmp_path)
    got = spoken_digits(tmp_path, length=60)
    assert got.x_train.shape == (9, 60, 1) and got.x_test.shape == (15, 60, 1)
    assert got.y_test.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    samples = recordings()[1][2].astype(float)  # digit 0, index 1: of 47 samples
    silence = got.x_test[1, -1, 0].item()
    assert got.x_test[1, 47:, 0].tolist() == [silence] * 13
    ratio = (got.x_test[1, :47, 0].double().numpy() - silence) / samples
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)
    power = np.square((got.x_test[:, :40, 0] - silence).double().numpy()).mean(1)
    assert power.max() / power.min() < 2, "every recording is as loud"


def test_decimation_removes_what_would_fold(tmp_path):
    n = 400
    time = np.arange(n) / 8000
    low, high = (np.sin(2 * np.pi * f * time) for f in (500, 3500))
    audio = (1000 * np.concatenate([low, high])).astype(np.int16)
    parts = {"length": [n, n], "digit": [0, 1], "index": [7, 0]}
    np.savez(tmp_path / "fsdd.npz", audio=audio, **parts)
    got = spoken_digits(tmp_path, length=n, decimate=2)
    assert got.length == n // 2
    assert got.x_test.std() < 0.1 * got.x_train.std(), "3,500 Hz is above half of 4,000 Hz"


@pytest.mark.parametrize("rate", [16000])
def test_recordings_of_another_kind_are_refused(tmp_path, rate):
    write_wavs(tmp_path, rate)
    with pytest.raises(DataError, match="0_ada_0.wav cannot be read as one channel .* at 8 kHz"):
        spoken_digits(tmp_path)


def test_no_recordings_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match="neither fsdd.npz nor recordings.*: give --data-dir"):
        spoken_digits(tmp_path)
    with pytest.raises(ValueError, match="must be positive, got 0 and 1"):
        spoken_digits(tmp_path, length=0)


def test_recordings_of_one_part_alone_are_no_data_set(tmp_path):
    write_wavs(tmp_path)
    for path in (tmp_path / "recordings").glob("*.wav"):
        if int(path.stem.split("_")[2]) >= 5:
            path.unlink()
    with pytest.raises(DataError, match="0 sequences to train, 15 to test"):
        spoken_digits(tmp_path, length=60)


def test_the_real_recordings(data_file):
    got = spoken_digits(data_file("fsdd.npz").parent, decimate=2)
    assert got.x_train.shape == (2700, 2000, 1) and got.x_test.shape == (300, 2000, 1)
    assert got.y_test.bincount().tolist() == [30] * 10
