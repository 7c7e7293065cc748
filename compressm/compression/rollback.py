"""Rollback: undo a cut after which a metric stays lower."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from compressm._renamed import renamed
from compressm.compression.event import CompressionEvent
from compressm.compression.proposal import Proposal, unscored
from compressm.compression.snapshot import restore_, snapshot
from compressm.compression.whole import Saved
from compressm.errors import CheckpointError, OptionError
from compressm.ops.checks import as_number, require_number
from compressm.systems.find import compressible_layers, stored_states

__all__ = ["Rollback", "RollbackMonitor"]

PENDING = {"step", "metric", "sizes", "saved"}


@renamed(tolerance="tol")
@dataclass(frozen=True)
class Rollback:
    """Undo a cut unless metric(before it) - metric(`window` steps after it) <= tol.

    Training continues in between, so a drop that it repairs in time does not count. (The policy
    `MetricDrop` limits the drop right after a cut.) Restored bit for bit are parameters, buffers
    such as the statistics of a BatchNorm, and the optimizer state of each parameter; not restored
    are the data, the random numbers and the learning rate. From then on the layers that had been
    cut are not cut again to those numbers of states or fewer.

    Parameters
    ----------
    metric : callable
        From the model to a number, the larger the better, such as its accuracy on held-out data. It
        must set the mode that it needs (``model.eval()``); afterwards modes are as they were.
    tol : float
        By how much the number may fall, non-negative. NaN counts as too low.
    window : int, optional
        Steps from a cut to its judgement, at least 1; the next cut, if due earlier, ends it.
        Meanwhile a copy of the model and of the optimizer's state is kept.

    Raises
    ------
    OptionError
        If `tol` is negative or not finite, or `window` below 1.

    Examples
    --------
    >>> from compressm import At, Compressor, Rollback, SequenceModel, States
    >>> model = SequenceModel(d_input=1, d_output=2, d_model=4, d_state=16, n_layers=1)
    >>> size = Rollback(lambda model: model.blocks[0].layer.d_state, tol=0, window=3)
    >>> compressor = Compressor(model, policy=States(4), schedule=At(2), rollback=size)
    >>> for step in range(5):
    ...     event = compressor.step()
    ...     if event:
    ...         print(event)
    step 2: blocks.0.layer: 16 -> 4 by model
    step 5: blocks.0.layer: 4 -> 16 (skipped: the cut after step 2 was taken back, as the metric \
fell from 16 to 4, by more than 0)
    """

    metric: Callable[[Any], float]
    tol: float
    window: int = 100

    def __post_init__(self) -> None:
        if not callable(self.metric):
            raise OptionError(f"metric must be a function of the model, got {self.metric!r}")
        require_number("tol", self.tol)
        if not 0 <= self.tol < math.inf:
            raise OptionError(f"tol must be a finite number >= 0, got {self.tol}")
        if isinstance(self.window, bool) or not isinstance(self.window, int) or self.window < 1:
            raise OptionError(
                f"window must be at least 1 step, got {self.window}; use the policy MetricDrop to "
                "limit the drop right after a cut"
            )


class RollbackMonitor:
    """Keeps the model as it was before a cut, until a metric says whether the cut may stay.

    Parameters
    ----------
    rollback : Rollback
    model : nn.Module
    optimizer : torch.optim.Optimizer or None
    on_first_rank : callable
        ``on_first_rank(f)`` is ``f()``, the same in all processes.
    """

    def __init__(
        self,
        rollback: Rollback,
        model: nn.Module,
        optimizer: Any,
        on_first_rank: Callable[[Callable[[], float]], float],
    ) -> None:
        self.rollback = rollback
        self.model = model
        self.optimizer = optimizer
        self.on_first_rank = on_first_rank
        self.refused: dict[str, int] = {}
        self.pending: dict[str, Any] = {}
        self._known = (-1, math.nan)  # step and metric, for a judgement and a cut at one step

    def veto(self, proposals: Sequence[Proposal]) -> list[Proposal]:
        """The proposals without cuts to numbers of states that were undone before, or fewer."""
        return [
            Proposal(
                cut.refused(
                    f"cuts to {self.refused[cut.name]} states or fewer have been taken back"
                )
            )
            if write is not None and cut.after <= self.refused.get(cut.name, 0)
            else Proposal(cut, write)
            for cut, write in proposals
        ]

    def snapshot(self, event: CompressionEvent) -> None:
        """Save model and optimizer as they are, before the cut of `event`."""
        sizes = {cut.name: cut.after for cut in event.layers if cut.after < cut.before}
        if sizes:
            self.pending = {
                "step": event.step,
                "metric": self._measure(event.step),
                "sizes": sizes,
                "saved": snapshot(self.model, self.optimizer),
            }

    def is_due(self, step: int) -> bool:
        """Whether the window of the last cut is over."""
        return bool(self.pending) and step >= self.pending["step"] + self.rollback.window

    def judge(self, step: int, then: Callable[[], None]) -> CompressionEvent | None:
        """Undo the last cut if the metric has fallen by more than `tol`, and do `then`; or None."""
        if not self.pending:
            return None
        pending, now = self.pending, self._measure(step)
        self.pending = {}
        if now >= pending["metric"] - self.rollback.tol:
            return None
        reason = (
            f"the cut after step {pending['step']} was taken back, as the metric fell from "
            f"{pending['metric']:.6g} to {now:.6g}, by more than {self.rollback.tol:g}"
        )
        trained = Saved(self.model, self.optimizer, [""])
        try:
            event = self._taken_back(step, pending, reason)
            then()
        except BaseException:
            trained.restore_()
            raise
        return event

    def _taken_back(self, step: int, pending: dict[str, Any], reason: str) -> CompressionEvent:
        layers = list(compressible_layers(self.model))
        before = [stored_states(layer) for _, layer in layers]
        restore_(self.model, pending["saved"], self.optimizer)
        for name, size in pending["sizes"].items():
            self.refused[name] = max(size, self.refused.get(name, 0))
        cuts = [
            replace(
                unscored(name, layer, reason if name in pending["sizes"] else None).cut, before=n
            )
            for (name, layer), n in zip(layers, before, strict=True)
        ]
        return CompressionEvent(step, tuple(cuts))

    def _measure(self, step: int) -> float:
        if self._known[0] != step:
            self._known = step, self.on_first_rank(self._measured)
        return self._known[1]

    @torch.no_grad()
    def _measured(self) -> float:
        modes = {module: module.training for module in self.model.modules()}
        try:
            return as_number(self.rollback.metric(self.model))
        finally:
            for module, mode in modes.items():
                module.training = mode

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to judge the last cut, and to veto others."""
        return {"refused": dict(self.refused), "pending": self.pending}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from what `state_dict` returned."""
        refused, pending = (
            state.get(x) if isinstance(state, Mapping) else None for x in ("refused", "pending")
        )
        whole = isinstance(pending, Mapping) and (not pending or pending.keys() >= PENDING)
        if not (isinstance(refused, Mapping) and isinstance(pending, Mapping) and whole):
            raise CheckpointError(
                f"the state of a rollback holds refused and pending; got {state!r:.60}; load what "
                "Compressor.state_dict() returned"
            )
        self.refused, self.pending = dict(refused), dict(pending)
        self._known = (-1, math.nan)
