"""A folder that is written whole or not at all: beside its place, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compressm._optional import require
from compressm.errors import CheckpointError

__all__ = ["new_folder"]


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A folder beside `path` to write to, which gets that name when it is complete.

    Parameters
    ----------
    path : str or Path
        Where nothing is yet. The folders above it are made.

    Raises
    ------
    CheckpointError
        If something is there, or it cannot be written. Nothing is left then.
    """
    path = Path(os.path.abspath(path))
    if os.path.lexists(path):
        raise CheckpointError(f"{path} exists; give the name of a folder that does not exist yet")
    full = require("safetensors").SafetensorError  # what a disk that is full becomes there
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.partial-", dir=path.parent))
        yield partial
        partial.chmod(0o777 & ~_umask())
        for file in partial.rglob("*"):
            if file.is_file():
                with file.open("rb+") as stream:
                    os.fsync(stream.fileno())
        partial.rename(path)
    except (OSError, full) as error:
        raise CheckpointError(
            f"{path} cannot be written ({error}); make room or choose another folder; nothing is "
            "left there"
        ) from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
