"""Types of arguments that several commands take."""

from __future__ import annotations

import argparse
import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from compressm._optional import require
from compressm.sizes import PRESETS, Sizes

__all__ = [
    "WEIGHTS",
    "add_model_options",
    "console",
    "device",
    "energy_fraction",
    "folder",
    "name_value",
    "order_or_run",
    "picture_file",
    "positive",
    "require_report",
    "seed",
    "stored_sizes",
    "threads",
    "weights_file",
    "writable_file",
]

WEIGHTS = ("checkpoint.safetensors", "model.safetensors", "pytorch_model.bin")
MOST_THREADS = 1024  # torch takes any number, and the system ends the process


def positive(text: str) -> int:
    """An integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value


def threads(text: str) -> int:
    """A number of threads."""
    value = positive(text)
    if value > MOST_THREADS:
        raise argparse.ArgumentTypeError(f"{value} threads are more than {MOST_THREADS}")
    return value


def seed(text: str) -> int:
    """An integer that seeds NumPy and torch."""
    value = int(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"{value:g} is not from 0 to 2**32 - 1")
    return value


def order_or_run(text: str) -> int | str:
    """A positive number of states, or the folder of a run."""
    return positive(text) if text.lstrip("+-").isdecimal() else text


def device(text: str) -> str:
    """A device of torch that can be used on this machine."""
    if text == "gpu":
        raise argparse.ArgumentTypeError("there is no device 'gpu'; did you mean 'cuda'?")
    if text.partition(":")[0] == "meta":
        raise argparse.ArgumentTypeError("the device meta holds no numbers; take cpu or cuda")
    try:
        torch.empty(0, device=text)
    except Exception as error:  # each backend of torch has its own
        raise argparse.ArgumentTypeError(
            f"torch cannot use the device {text!r} ({str(error).splitlines()[0]}); take cpu, or "
            "install a torch that is built for it"
        ) from error
    return text


def weights_file(path: Path) -> Path:
    """A file of weights, or the one in a folder of `compressm train` or of transformers."""
    return next((path / name for name in WEIGHTS if (path / name).is_file()), path)


def stored_sizes(text: str) -> Sizes:
    """Numbers of stored states with commas between them, or the name of a preset."""
    if text in PRESETS:
        return PRESETS[text]
    try:
        return Sizes([positive(part) for part in text.split(",")])
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise argparse.ArgumentTypeError(
            f"{text} is no list such as 16,32,64, and none of {', '.join(PRESETS)}"
        ) from error


def energy_fraction(text: str) -> float:
    """A number in (0, 1]."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{value:g} is not in (0, 1]")
    return value


def writable_file(text: str) -> Path:
    """A path at which a file can be written, which is checked before the training starts."""
    path = Path(text)
    with _told(f"no file can be written at {path}"):
        new = not path.exists()
        if new or path.is_file() or path.is_dir():  # a pipe would wait for its reader
            path.open("ab").close()
        if new:
            path.unlink()
    return path


def folder(text: str) -> Path:
    """A folder that exists or can be made."""
    path = Path(text)
    with _told(f"no folder can be made at {path}"):
        with suppress(FileNotFoundError):
            os.stat(path)  # a name that is too long
        nearest = next(x for x in (path, *path.absolute().parents) if x.exists())
        if not nearest.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{nearest} is a file")
        if not os.access(nearest, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return path


@contextmanager
def _told(what: str) -> Iterator[None]:
    """An OSError as an error of the argument."""
    try:
        yield
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{what} ({error.strerror})") from error


def picture_file(text: str) -> Path:
    """A path at which a picture can be written, in a format that its name shows."""
    backend = require("matplotlib.backend_bases", "matplotlib")
    formats = sorted(backend.FigureCanvasBase.get_supported_filetypes())
    if Path(text).suffix.lower().removeprefix(".") not in formats:
        raise argparse.ArgumentTypeError(
            f"{text} is no picture that can be written: its name must end with one of "
            f".{', .'.join(formats)}"
        )
    return writable_file(text)


def name_value(text: str) -> tuple[str, Any]:
    """NAME=VALUE, where numbers, true and false are read as JSON and all else is a string."""
    name, equals, value = text.partition("=")
    if not (name.isidentifier() and equals):
        raise argparse.ArgumentTypeError(f"{text} is not of the form NAME=VALUE")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def add_model_options(parser: argparse.ArgumentParser, *, sequences: int) -> None:
    """The options that say how weights become a model, and which inputs it gets.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    sequences : int
        How many sequences are read unless it is said.
    """
    option = parser.add_argument
    option("--key", help="name of the array in FILE (the only one, else x_train or x_test)")
    option(
        "--sequences",
        type=positive,
        default=sequences,
        metavar="N",
        help="number of sequences that are used, from the first one (%(default)s)",
    )
    option(
        "--model",
        metavar="MODULE:FUNCTION",
        help="function without arguments that builds the model, if it is not a SequenceModel; "
        "this runs the code of MODULE",
    )
    option(
        "--option",
        type=name_value,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the layers that their tensors do not show, "
        "such as discretization=bilinear",
    )
    option(
        "--multiple-of",
        type=positive,
        default=1,
        metavar="K",
        help="round the number of stored states up to a multiple of K",
    )


def console() -> Any:
    """A console of rich that prints names as they are, and raises if nobody reads it."""
    rich = require("rich.console", "rich")

    class Plain(rich.Console):
        def on_broken_pipe(self) -> None:  # which would end the process without a word
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    return Plain(highlight=False, markup=False)


def require_report() -> None:
    """MissingPackageError unless rich and matplotlib are installed."""
    for package in ("rich", "matplotlib"):
        require(package)
