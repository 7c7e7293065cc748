"""Layers of other packages: one file for each origin, and the registry of their families."""

from compressm.systems.foreign import lru, s4d, s5  # noqa: F401, each registers its families
from compressm.systems.foreign.family import FAMILIES, Family, family_of, register_family

__all__ = ["FAMILIES", "Family", "family_of", "register_family"]
