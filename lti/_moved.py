"""Old module paths, each an alias of the module that holds its names now."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType
from typing import Any

__all__ = ["MOVED", "keep_old_paths"]

MOVED = {
    "algebra": "systems.algebra",
    "balancing": "reduction",
    "discretize": "systems.discretize",
    "empirical": "gramians.supplied",
    "hankel_approximation": "reduction.hankel_norm",
    "interop": "systems.convert",
    "limited": "gramians.limited",
    "lyapunov": "gramians.lyapunov",
    "modal": "reduction.modal",
    "response": "systems.response",
    "split": "systems.split",
    "system": "systems.statespace",
    "weighting": "gramians.weighted",
}


class _Aliases(MetaPathFinder, Loader):
    """Imports the new module where the old one is asked for, and nothing before."""

    def __init__(self, package: str, moved: Mapping[str, str]) -> None:
        self.new = {f"{package}.{old}": f"{package}.{new}" for old, new in moved.items()}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: Any = None
    ) -> ModuleSpec | None:
        return spec_from_loader(fullname, self) if fullname in self.new else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(self.new[spec.name])
        spec.loader_state = module.__spec__  # the import system is about to overwrite it
        return module

    def exec_module(self, module: ModuleType) -> None:
        spec: Any = module.__spec__
        module.__spec__ = spec.loader_state


def keep_old_paths(package: str, moved: Mapping[str, str]) -> Callable[[str], ModuleType]:
    """``package.old`` <- the module ``package.new``; to be assigned to its ``__getattr__``."""
    sys.meta_path.append(_Aliases(package, moved))

    def old_attribute(name: str) -> ModuleType:
        if name in moved:
            return import_module(f"{package}.{moved[name]}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return old_attribute
