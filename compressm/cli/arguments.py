"""Types of arguments that several commands take."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from compressm._optional import require

__all__ = ["energy_fraction", "name_value", "positive", "require_report", "writable_file"]


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
