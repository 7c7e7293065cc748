"""CIFAR, spoken digits, ListOps: the formats, the splits, and an evaluation of its own."""

import io
import re
import tarfile
import wave

import numpy as np
import pytest
import torch

from compressm.experiments.data import DataError, cifar, spoken_digits
from compressm.experiments.listops import TOKENS, listops

SMALL = {"n_train": 300, "n_test": 40, "min_length": 3, "max_length": 60, "max_args": 5}

# ------------------------------------------------------------------ CIFAR


def archive(path, names, records):
    with tarfile.open(path / "cifar-10-binary.tar.gz", "w:gz") as file:
        for name in names:
            content = records.tobytes()
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))


BATCHES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]


def test_cifar_is_the_archive_pixel_by_pixel(tmp_path):
    records = np.random.default_rng(0).integers(0, 256, (3, 3073), dtype=np.uint8)
    records[:, 0] = (4, 9, 0)
    archive(tmp_path, BATCHES, records)
    got = cifar(tmp_path)
    assert got.x_train.shape == (15, 1024, 3) and got.x_test.shape == (3, 1024, 3)
    assert got.y_test.tolist() == [4, 9, 0] and got.n_classes == 10
    pixels = records[:, 1:].astype(float)
    expected = (pixels[1, 1024 + 7] - pixels.mean()) / pixels.std()
    assert got.x_test[1, 7, 1].item() == pytest.approx(expected, abs=1e-5), "green of pixel 7"


@pytest.mark.parametrize("names, size", [(BATCHES[:-1], 3073), (BATCHES, 3072)])
def test_a_corrupt_archive_is_one_sentence(tmp_path, names, size):
    archive(tmp_path, names, np.zeros((2, size), dtype=np.uint8))
    with pytest.raises(DataError, match="cannot be read as CIFAR-10 .*: give --data-dir") as caught:
        cifar(tmp_path)
    assert "\n" not in str(caught.value)


def test_no_archive_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match="there is no file .*cifar-10-binary.tar.gz: give"):
        cifar(tmp_path)


# ------------------------------------------------------------------ spoken digits


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


def test_the_real_recordings(data_file):
    got = spoken_digits(data_file("fsdd.npz").parent, decimate=2)
    assert got.x_train.shape == (2700, 2000, 1) and got.x_test.shape == (300, 2000, 1)
    assert got.y_test.bincount().tolist() == [30] * 10


# ------------------------------------------------------------------ ListOps


def value(expression):
    """The value of an expression, by rewriting its innermost operation until none is left."""
    meaning = {"MIN": min, "MAX": max, "SM": lambda x: sum(x) % 10}
    meaning["MED"] = lambda x: int(np.median(x))
    while not expression.isdigit():
        expression = re.sub(
            r"\[(MIN|MAX|MED|SM)((?: \d)+) \]",
            lambda match: str(meaning[match[1]]([int(x) for x in match[2].split()])),
            expression,
        )
    return int(expression)


def texts(x):
    return [" ".join(TOKENS[token] for token in row if token) for row in x.tolist()]


def test_the_labels_are_the_values():
    data = listops(**SMALL)
    expressions = texts(data.x_train)
    assert [value(text) for text in expressions] == data.y_train.tolist()
    for operator in ("[MIN", "[MAX", "[MED", "[SM"):
        assert any(operator in text for text in expressions)
    assert value("[MAX 2 9 [MIN 4 7 ] 0 ]") == 9, "the example of the paper"


def test_the_limits_hold():
    data = listops(**SMALL, max_depth=3)
    texts_ = texts(data.x_train)
    assert all(3 <= len(text.split()) <= 60 for text in texts_)
    deepest = max(max(np.cumsum([("[" in t) - (t == "]") for t in x.split()])) for x in texts_)
    assert deepest == 2, "operations within operations; their digits are the third level"
    assert data.x_train.shape == (300, 60) and data.x_train.dtype == torch.uint8
    arguments = [len(x[2].split()) for x in re.finditer(r"\[(\w+)((?: \d)+) \]", " ".join(texts_))]
    assert min(arguments) == 2 and max(arguments) == 5


def test_a_seed_decides_and_the_test_part_is_apart():
    one, two, other = listops(**SMALL), listops(**{**SMALL, "n_train": 5}), listops(**SMALL, seed=1)
    assert torch.equal(one.x_test, two.x_test) and torch.equal(one.x_train[:5], two.x_train)
    assert not torch.equal(one.x_test, other.x_test)
    every = texts(one.x_train) + texts(one.x_test)
    assert len(set(every)) == len(every) == 340


def test_a_published_length_is_reached():
    data = listops(n_train=3, n_test=2)
    assert data.length == 2000
    assert ((data.x_train > 0).sum(1) >= 500).all() and ((data.x_train > 0).sum(1) <= 2000).all()


def test_what_cannot_be_drawn_is_said(monkeypatch):
    monkeypatch.setattr("compressm.experiments.listops.TRIES", 500)
    with pytest.raises(DataError, match="500 expressions in a row were shorter than 50 tokens"):
        listops(n_train=1, n_test=1, min_length=50, max_length=60, max_depth=2, max_args=3)
    with pytest.raises(ValueError, match="min_length at most max_length"):
        listops(min_length=9, max_length=8)


def test_recordings_of_one_part_alone_are_no_data_set(tmp_path):
    write_wavs(tmp_path)
    for path in (tmp_path / "recordings").glob("*.wav"):
        if int(path.stem.split("_")[2]) >= 5:
            path.unlink()
    with pytest.raises(DataError, match="0 sequences to train, 15 to test"):
        spoken_digits(tmp_path, length=60)
