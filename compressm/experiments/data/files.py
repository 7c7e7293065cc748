"""Files of data: where they are, how they are downloaded, and what is wrong with them."""

from __future__ import annotations

import os
import tarfile
import wave
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from compressm._optional import require
from compressm.errors import DataError

__all__ = ["arrays_in", "data_file", "data_folder", "file_in", "reading", "remedy"]

Folder = str | os.PathLike[str] | None


def data_folder(folder: Folder) -> Path | None:
    """`folder`, or the one that the environment variable COMPRESSM_DATA names, if any."""
    folder = folder or os.environ.get("COMPRESSM_DATA")
    return Path(folder) if folder else None


def data_file(what: str, folder: Folder, url: str, sha256: str) -> Path:
    """The file in the data folder; without such a folder, the file downloaded from `url`."""
    place = data_folder(folder)
    return file_in(place, Path(url).name) if place else _download(what, url, sha256)


def file_in(folder: Path, name: str) -> Path:
    """The file of that name in the folder, or in its folder `series`."""
    path, inner = folder / name, folder / "series" / name
    return inner if inner.is_file() and not path.is_file() else path


def _download(what: str, url: str, sha256: str) -> Path:
    """The file at `url`, from the cache of the operating system if it was downloaded before."""
    pooch = require("pooch")
    require("tqdm")
    pooch.get_logger().setLevel("WARNING")
    cache = pooch.os_cache("compressm")
    name = Path(url).name
    try:
        return Path(
            pooch.retrieve(
                url,
                known_hash=f"sha256:{sha256}",
                fname=name,
                path=cache,
                downloader=pooch.HTTPDownloader(timeout=30, progressbar=True),
            )
        )
    except OSError as error:  # a full disk, and all errors of requests
        raise DataError(
            f"{what} could not be downloaded from {url} to {cache} "
            f"({type(error).__name__}): check the network, or give --data-dir a folder with "
            f"{name}."
        ) from error
    except ValueError as error:
        raise DataError(
            f"the file at {url} is not the {what} expected (its SHA-256 differs): "
            f"try again, or give --data-dir a folder with {name}."
        ) from error


def remedy(path: Path) -> str:
    """What to do if there is no such file, or a damaged one."""
    return f"give --data-dir (or COMPRESSM_DATA) a folder with {path.name}, or neither to download."


@contextmanager
def reading(path: Path, what: str, remedy: str) -> Iterator[None]:
    """DataError in place of all that can go wrong when a file is read."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}: {remedy}") from error
    # A plain .npy file makes np.load return an array, which is no context manager: TypeError.
    except (
        OSError,
        EOFError,
        KeyError,
        TypeError,
        ValueError,
        tarfile.TarError,
        wave.Error,
        zipfile.BadZipFile,
        zlib.error,
    ) as e:
        raise DataError(f"{path} cannot be read as {what} ({type(e).__name__}): {remedy}") from e


def arrays_in(path: Path, *names: str) -> tuple[np.ndarray, ...]:
    """The arrays of these names in a file .npz."""
    # From pickles numpy would run code of the file's choosing.
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        return tuple(file[name] for name in names)
