"""Old module paths, each an alias of the module that holds its names now."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType
from typing import Any

MOVED = {
    "adapters": "systems.convert",
    "callbacks": "integrations.callbacks",
    "compressor": "compression.compressor",
    "cutting": "compression.compress",
    "data": "experiments.data",
    "demo": "experiments.demo",
    "distributed": "compression.distributed",
    "empirical": "gramians.moments",
    "families": "systems.foreign",
    "hankel": "systems.batches",
    "hippo": "layers.hippo",
    "html": "experiments.report.html",
    "huggingface": "integrations.huggingface",
    "lightning": "integrations.lightning",
    "listops": "experiments.data.listops",
    "observations": "gramians.observe",
    "policies": "compression.policies",
    "rebuilding": "experiments.rebuilding",
    "recipes": "experiments.recipes",
    "recurrence": "ops.recurrence",
    "report": "experiments.report",
    "rollback": "compression.rollback",
    "runs": "experiments.runs",
    "scan": "ops.scan",
    "schedules": "compression.schedules",
    "selection": "systems.selective",
    "selective": "ops.selective_scan",
    "signals": "gramians.signals",
    "snapshots": "compression.snapshot",
    "surgery": "ops.resize",
    "tables": "experiments.tables",
    "tensorboard": "experiments.tensorboard",
    "training": "experiments.training",
    "trees": "checkpoints.trees",
    "weights": "checkpoints.weights",
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


def keep_old_paths(package: str, moved: Mapping[str, str]) -> None:
    """import package.old <- the module package.new."""
    sys.meta_path.append(_Aliases(package, moved))
