"""What a run measured, as values, and as records that JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import inf, isfinite
from typing import Any

import numpy as np
from torch import nn

from compressm.compression.event import CompressionEvent, LayerCut
from compressm.experiments.data import METRICS, Metric
from compressm.experiments.training.settings import Settings

__all__ = ["Point", "RunResult", "Spectra", "Step", "from_record", "to_record"]


class Measured:
    """Whatever has metrics by name, in `measured`; the first compares runs."""

    measured: Mapping[str, float]

    @property
    def metric(self) -> Metric:
        """The metric that compares runs."""
        return METRICS[next(iter(self.measured))]

    @property
    def score(self) -> float:
        """Its value."""
        return self.measured[self.metric.name]

    @property
    def accuracy(self) -> float:
        """The score of a classification."""
        return self.measured["accuracy"]


@dataclass(frozen=True)
class Point(Measured):
    """A measurement of the model after `step` steps, on the test subset."""

    step: int
    seconds: float
    loss: float | None  # on the batch of that step; None before the first
    measured: Mapping[str, float]
    orders: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Spectra:
    """Hankel singular values of each layer after `step` steps."""

    step: int
    layers: dict[str, np.ndarray]


Entry = Point | CompressionEvent | Spectra
"""An entry in the log of a run; the log is in the order of time."""


@dataclass(frozen=True)
class Step(Measured):
    """One training step, as `on_step` receives it."""

    run: str
    step: int
    steps: int
    seconds: float
    loss: float
    measured: Mapping[str, float]  # at the last measurement
    orders: tuple[int, ...]
    event: CompressionEvent | None
    news: tuple[Entry, ...]  # entries of the log since the step before


@dataclass(frozen=True)
class RunResult(Measured):
    """The result of a run, `measured` on the whole test set; accuracies are fractions."""

    name: str
    seed: int
    settings: Settings
    measured: Mapping[str, float]
    orders: tuple[int, ...]
    parameters: int
    seconds: float
    log: list[Entry] = field(repr=False)
    model: nn.Module | None = field(default=None, repr=False)  # None if read from a file

    @property
    def history(self) -> list[Point]:
        """The measurements of loss and metrics."""
        return [entry for entry in self.log if isinstance(entry, Point)]

    @property
    def events(self) -> list[CompressionEvent]:
        """The cuts."""
        return [entry for entry in self.log if isinstance(entry, CompressionEvent)]

    @property
    def spectra(self) -> dict[int, dict[str, np.ndarray]]:
        """Hankel singular values by step, then by layer."""
        return {entry.step: entry.layers for entry in self.log if isinstance(entry, Spectra)}

    def to_dict(self) -> dict[str, Any]:
        """Everything but the model, in types that JSON can hold."""
        return {
            "name": self.name,
            "seed": self.seed,
            "settings": asdict(self.settings),
            **self.measured,
            "orders": self.orders,
            "parameters": self.parameters,
            "seconds": self.seconds,
            "history": [_point_to_dict(point) for point in self.history],
            "events": [_event_to_dict(event) for event in self.events],
            "spectra": {step: _to_lists(layers) for step, layers in self.spectra.items()},
        }


def to_record(entry: Entry) -> dict[str, Any]:
    """An entry of a log in types that JSON can hold; `from_record` is the inverse."""
    if isinstance(entry, Point):
        return {"point": _point_to_dict(entry)}
    if isinstance(entry, CompressionEvent):
        return {"event": _event_to_dict(entry)}
    return {"spectra": {"step": entry.step, "layers": _to_lists(entry.layers)}}


def from_record(record: Mapping[str, Any]) -> Entry:
    """The entry of a log that `to_record` turned into `record`."""
    ((name, fields),) = record.items()
    if name == "point":
        measured = {metric: fields[metric] for metric in METRICS if metric in fields}
        own = {key: value for key, value in fields.items() if key not in measured}
        return Point(**{**own, "orders": tuple(fields["orders"])}, measured=measured)
    if name == "event":
        return CompressionEvent(fields["step"], tuple(map(_cut_from_dict, fields["layers"])))
    return Spectra(fields["step"], {k: np.array(hsv) for k, hsv in fields["layers"].items()})


def _point_to_dict(point: Point) -> dict[str, Any]:
    fields = asdict(point)
    return fields.pop("measured") | fields


def _to_lists(layers: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
    return {name: hsv.tolist() for name, hsv in layers.items()}


def _event_to_dict(event: CompressionEvent) -> dict[str, Any]:
    layers = [
        {
            **vars(cut),
            "hsv": cut.hsv.tolist(),
            "error_bound": cut.error_bound if isfinite(cut.error_bound) else None,
        }
        for cut in event.layers
    ]
    return {"step": event.step, "layers": layers}


def _cut_from_dict(fields: Mapping[str, Any]) -> LayerCut:
    bound = fields["error_bound"]
    names = ("parameters", "flops", "state_bytes", "step_seconds")  # older logs have only two
    pairs = {name: tuple(fields[name]) for name in names if fields.get(name)}
    read = {"hsv": np.array(fields["hsv"]), "error_bound": inf if bound is None else bound}
    return LayerCut(**{**fields, **read, **pairs})
