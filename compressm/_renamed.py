"""The old argument ``system="real"`` or ``"complex"``, now ``conjugate=True`` or False."""

from __future__ import annotations

from typing import Any

from compressm.errors import OptionError
from lti._renamed import renamed

__all__ = ["as_conjugate", "renamed", "system_alias"]

system_alias = renamed(system="conjugate")
"""Decorator: ``system=`` is the old name of ``conjugate=``; `as_conjugate` takes its values."""


def as_conjugate(conjugate: Any) -> bool:
    """True or "real", False or "complex"."""
    if isinstance(conjugate, bool):
        return conjugate
    if isinstance(conjugate, str) and conjugate in ("real", "complex"):
        return conjugate == "real"
    raise OptionError(
        f"conjugate must be True (the real system) or False (the complex one), or the old system "
        f"must be 'real' or 'complex', got {conjugate!r}"
    )
