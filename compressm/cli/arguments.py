"""Types of arguments that several commands take."""

from __future__ import annotations

import argparse
import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from compressm._optional import require

__all__ = [
    "device",
    "energy_fraction",
    "name_value",
    "order",
    "positive",
    "require_report",
    "seed",
    "threads",
    "writable_file",
    "writable_picture",
]

PICTURES = ("eps", "jpeg", "jpg", "pdf", "png", "svg", "tif", "tiff", "webp")
MOST_THREADS = 1024


def positive(text: str) -> int:
    """An integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value


def energy_fraction(text: str) -> float:
    """A number in (0, 1]."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{value:g} is not in (0, 1]")
    return value


def writable_file(text: str) -> Path:
    """A path at which a file can be written, which is checked before the training starts."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"no file can be written at {path}")
    return path


def writable_picture(text: str) -> Path:
    """A path at which a picture can be written, of a format that matplotlib knows."""
    path = writable_file(text)
    if path.suffix.lower().removeprefix(".") not in PICTURES:
        raise argparse.ArgumentTypeError(
            f"{path.name} has no ending of a picture; use one of {', '.join(PICTURES)}"
        )
    return path


def seed(text: str) -> int:
    """An integer that seeds NumPy and torch."""
    value = int(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"{value:g} is not from 0 to 2**32 - 1")
    return value


def threads(text: str) -> int:
    """A number of threads."""
    value = positive(text)
    if value > MOST_THREADS:
        raise argparse.ArgumentTypeError(f"{value} threads are more than {MOST_THREADS}")
    return value


def order(text: str) -> str:
    """A number of states of at least 1, or the folder of a run."""
    if text.lstrip("-").isdecimal() and int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number of states")
    return text


def device(text: str) -> str:
    """A device of torch on which a model can be trained here."""
    try:
        torch.empty(1, device=text).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        near = get_close_matches(text, ("cpu", "cuda", "mps"), 1, 0.0)
        raise argparse.ArgumentTypeError(
            f"torch cannot train on {text!r} here; did you mean {(near or ['cpu'])[0]!r}?"
            if text.partition(":")[0] not in ("cuda", "mps")
            else f"{text!r} is not available here; use cpu"
        ) from error
    return text


def name_value(text: str) -> tuple[str, Any]:
    """NAME=VALUE, where numbers, true and false are read as JSON and all else is a string."""
    name, equals, value = text.partition("=")
    if not (name.isidentifier() and equals):
        raise argparse.ArgumentTypeError(f"{text} is not of the form NAME=VALUE")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def require_report() -> None:
    """MissingPackageError unless rich and matplotlib are installed."""
    for package in ("rich", "matplotlib"):
        require(package)
