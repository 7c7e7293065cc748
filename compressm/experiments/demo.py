"""Three runs from one seed: full size, compressed during training, the small size from scratch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from compressm.experiments.data import Dataset
from compressm.experiments.training import RunResult, Settings, Step, run

__all__ = ["demo"]

DIGITS = Settings(
    d_model=16,
    d_state=256,
    n_layers=1,
    steps=1000,
    batch_size=50,
    lr=1e-2,
    eval_every=25,
    energy=0.9,
    cuts=4,
    cut_window=0.2,
    gramians="model",
)
MNIST = Settings(
    d_model=8,
    d_state=256,
    n_layers=1,
    steps=3000,
    batch_size=50,
    lr=4e-3,
    layer_options={"max_phase": 0.7},
    energy=0.9995,
    gramians="input",
)


def demo(
    data: Dataset,
    settings: Settings,
    *,
    seed: int = 0,
    on_step: Callable[[Step], None] | None = None,
) -> list[RunResult]:
    """Train at full size, compressed during training, and at the compressed size from scratch."""
    full = run(data, settings, seed=seed, on_step=on_step)
    compressed = run(
        data,
        settings,
        name="compressed",
        policy=settings.make_policy(),
        seed=seed,
        spectra_at=(0, settings.steps) if settings.gramians == "model" else (),
        on_step=on_step,
    )
    size = round(sum(compressed.orders) / len(compressed.orders))  # the mean, for every layer
    small = run(
        data,
        replace(settings, d_state=size),
        name="small from scratch",
        seed=seed,
        on_step=on_step,
    )
    return [full, compressed, small]
