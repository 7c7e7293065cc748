"""The old argument ``system=`` of everything that now takes ``conjugate=``."""

from __future__ import annotations

from typing import Any

from compressm.errors import OptionError
from lti._renamed import renamed

__all__ = ["renamed", "system_alias"]


def _is_real(system: Any) -> bool:
    if system not in ("real", "complex"):
        raise OptionError(f"system must be 'real' or 'complex', got {system!r}")
    return system == "real"


system_alias = renamed({"system": _is_real}, system="conjugate")
"""Decorator: the old ``system="real"`` or ``"complex"`` is ``conjugate=True`` or False."""
