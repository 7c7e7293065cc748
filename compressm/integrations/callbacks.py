"""Common part of the callbacks: a compressor that is built when training starts."""

from __future__ import annotations

from typing import Any

from compressm._renamed import system_alias
from compressm.compression.compressor import Compressor
from compressm.compression.event import CompressionEvent
from compressm.compression.options import Options
from compressm.compression.policies import AnyPolicy
from compressm.compression.rollback import Rollback
from compressm.compression.schedules import Schedule, require_schedule
from compressm.gramians.types import GramianType
from compressm.sizes import AnySizes

__all__ = ["Deferred"]


@system_alias
class Deferred:
    """Options of a `Compressor` that is built later, and the events of its cuts.

    Parameters
    ----------
    policy, schedule, conjugate, gramians, multiple_of, sizes, uniform, rollback
        As in `Compressor`.
    """

    def __init__(
        self,
        *,
        policy: AnyPolicy | None = None,
        schedule: Schedule,
        conjugate: bool = True,
        gramians: str | GramianType | None = None,
        multiple_of: int = 1,
        sizes: AnySizes | None = None,
        uniform: bool = False,
        rollback: Rollback | None = None,
    ) -> None:
        # A mistake is reported here
        Options(policy, conjugate, gramians, multiple_of, sizes, uniform)
        require_schedule(schedule)
        self.events: list[CompressionEvent] = []
        self._options: dict[str, Any] = {
            "policy": policy,
            "schedule": schedule,
            "conjugate": conjugate,
            "gramians": gramians,
            "multiple_of": multiple_of,
            "sizes": sizes,
            "uniform": uniform,
            "rollback": rollback,
        }

    def _build(self, model: Any, optimizer: Any) -> Compressor:
        return Compressor(model, optimizer, **self._options)

    def _step(self, compressor: Compressor) -> CompressionEvent | None:
        event = compressor.step()
        if event is not None:
            self.events.append(event)
        return event
