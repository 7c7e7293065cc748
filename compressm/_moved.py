"""Old module paths, each an alias of the module that holds its names now."""

from lti._moved import keep_old_paths

__all__ = ["MOVED", "keep_old_paths"]

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
    "policies": "compression",
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
    "trees": "checkpoints.file_format",
    "weights": "checkpoints.weights",
}
