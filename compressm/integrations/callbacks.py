"""What the callbacks of all trainers share: a compressor that learns its model late."""

from __future__ import annotations

from typing import Any, Literal

from compressm.compression.compress import CompressionEvent, require_sense
from compressm.compression.compressor import Compressor
from compressm.compression.policies import Budget, Kind, MetricDrop, Policy
from compressm.compression.rollback import Rollback
from compressm.compression.schedules import Schedule

__all__ = ["Deferred"]


class Deferred:
    """A `Compressor` whose model and optimizer come later, and the events of its cuts.

    Parameters
    ----------
    policy, schedule, system, gramians, multiple_of, rollback
        As in `Compressor`.
    """

    def __init__(
        self,
        *,
        policy: Policy | Budget | MetricDrop | None = None,
        schedule: Schedule,
        system: Literal["real", "complex"] = "real",
        gramians: Kind | None = None,
        multiple_of: int = 1,
        rollback: Rollback | None = None,
    ) -> None:
        require_sense(policy, system, gramians, multiple_of)
        self.events: list[CompressionEvent] = []
        self._options: dict[str, Any] = {
            "policy": policy,
            "schedule": schedule,
            "system": system,
            "gramians": gramians,
            "multiple_of": multiple_of,
            "rollback": rollback,
        }

    def _build(self, model: Any, optimizer: Any) -> Compressor:
        return Compressor(model, optimizer, **self._options)

    def _step(self, compressor: Compressor) -> CompressionEvent | None:
        event = compressor.step()
        if event is not None:
            self.events.append(event)
        return event
