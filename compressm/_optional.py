"""Packages that only some features need."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from compressm.errors import MissingPackageError

__all__ = []


def require(module: str, package: str | None = None) -> ModuleType:
    """Import an optional module, or say in one sentence how to install it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = package or module.partition(".")[0]
        raise MissingPackageError(
            f"{package} is needed here and is not installed: run 'pip install {package}'."
        ) from error
