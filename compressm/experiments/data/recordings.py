"""Recordings as sequences: spoken digits, sample by sample."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
from scipy.signal import decimate as decimated

from compressm.errors import DataError, OptionError
from compressm.experiments.data.dataset import Dataset, standardized
from compressm.experiments.data.files import Folder, arrays_in, data_folder, reading

__all__ = ["spoken_digits"]

REMEDY = (
    "give --data-dir (or COMPRESSM_DATA) a clone of "
    "https://github.com/Jakobovski/free-spoken-digit-dataset, or a folder with fsdd.npz."
)
Recording = tuple[int, int, np.ndarray]  # digit, index, samples


def spoken_digits(folder: Folder = None, length: int = 4000, decimate: int = 1) -> Dataset:
    """Free Spoken Digit Dataset, raw audio at 8 kHz: 2,700 recordings to train, 300 to test.

    Each recording has a mean square of 1. Those of index 0 to 4, of every speaker and every digit,
    are the test part, as published.

    Parameters
    ----------
    folder
        Folder that holds ``fsdd.npz`` (arrays ``audio``, ``length``, ``digit`` and ``index``:
        recordings end to end), or a clone of the public repository
        (``recordings/{digit}_{speaker}_{index}.wav``). Without it the environment variable
        ``COMPRESSM_DATA`` names the folder.
    length
        Samples of each recording: longer ones are cut off, shorter ones filled up with silence.
    decimate
        Factor by which the sampling rate is reduced, after a low-pass filter.

    Raises
    ------
    DataError
        If there are no recordings, or they cannot be read.
    ValueError
        If `length` or `decimate` is not positive.
    """
    if min(length, decimate) < 1:
        raise OptionError(f"length and decimate must be positive, got {length} and {decimate}")
    place = data_folder(folder) or Path(".")
    file = place / "fsdd.npz"
    recordings = _read_npz(file) if file.is_file() else _read_wavs(place / "recordings")
    if not recordings:
        raise DataError(f"there is neither fsdd.npz nor recordings/*.wav in {place}: {REMEDY}")
    x = np.zeros((len(recordings), length), dtype=np.float32)
    for row, (_, _, samples) in zip(x, recordings, strict=True):
        samples = samples[:length].astype(np.float32)
        power = float(np.square(samples).mean()) if len(samples) else 0.0
        row[: len(samples)] = samples / power**0.5 if power else samples
    if decimate > 1:
        x = decimated(x, decimate, ftype="fir").astype(np.float32)
    y = np.array([digit for digit, _, _ in recordings])
    test = np.array([index < 5 for _, index, _ in recordings])
    x = x[..., None]
    return standardized("spoken digits", x[~test], y[~test], x[test], y[test])


def _read_npz(path: Path) -> list[Recording]:
    with reading(path, "spoken digits", REMEDY):
        audio, length, digit, index = arrays_in(path, "audio", "length", "digit", "index")
        pieces = np.split(audio, np.cumsum(length)[:-1])
        return list(zip(digit.tolist(), index.tolist(), pieces, strict=True))


def _read_wavs(folder: Path) -> list[Recording]:
    """Every ``{digit}_{speaker}_{index}.wav`` of a folder."""
    recordings = []
    for path in sorted(folder.glob("*_*_*.wav")):
        with reading(path, "one channel of 16 bits at 8 kHz", REMEDY):
            digit, _, index = path.stem.split("_")
            with wave.open(str(path)) as file:
                if (file.getnchannels(), file.getsampwidth(), file.getframerate()) != (1, 2, 8000):
                    raise ValueError(file.getparams())
                samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
            recordings.append((int(digit), int(index), samples))
    return recordings
