"""Layers that shrink while they train: attach, `step()`, `state_dict()`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from torch import nn

from compressm.compression.compress import (
    CompressionEvent,
    Writes,
    carry_out_,
    decide,
    kind_for,
    observed_layers,
    require_layers,
    require_optimizer,
    require_sense,
)
from compressm.compression.distributed import decide_together, from_first, replica_of, rewrap_
from compressm.compression.policies import Budget, Kind, MetricDrop, Policy
from compressm.compression.rollback import Net, Rollback
from compressm.compression.schedules import Schedule
from compressm.errors import OptionError
from compressm.gramians.observe import Observer
from compressm.gramians.signals import Signal

__all__ = ["Compressor"]


class Compressor:
    """Balanced truncation of a model's state-space layers while it trains.

    Call `step` once after each ``optimizer.step()``; the loop stays yours.

    Parameters
    ----------
    model : nn.Module
        Its state-space layers are compressed: each `SSMLayer`, and what `to_lti` was taught. So are
        selective layers (Mamba), by a choice of states. Everything else is left alone.
        A ``DistributedDataParallel`` is cut alike on all ranks: pass it, not the model inside.
    optimizer : torch.optim.Optimizer or None
        Trains the model; what it knows of parameters that are cut is forgotten, see `resize_`.
        LBFGS is refused: it knows nothing of single parameters.
    policy : Policy, optional
        How far: ``KeepEnergy(0.99)``, ``ErrorBound(1e-2)``, ``Order(32)``, ``Budget(256)``. If left
        out, `KeepEnergy` with the default energy of the layer's Gramian type.
    schedule : Schedule
        When: ``At(1_000)``, ``Every(500, stop=5_000)``. Start with one cut, at about a tenth of the
        training.
    system : {"real", "complex"}, optional
        Which system a layer ``y = Re(C x)`` is reduced as: the real one that it computes, or the
        complex one of the CompreSSM paper, which spends states on an imaginary output nobody reads.
    gramians : {"model", "input", "data"}, optional
        How states are weighed. "model": by what any input of unit energy can drive and any output
        shows, the exact Gramians, with an error bound. "input": by what the layer's own inputs
        drive, their second moment over the last forward passes of the step, with the exact
        observability Gramian, without a bound. "data": by that, and by what the loss feels, the
        second moment of the adjoint states over the backward passes; where the reduced system would
        not be stable, the exact observability Gramian takes its place. If left out, each layer is
        weighed by what is at hand: "input", or "model" where no input of it was observed, and
        throughout with `ErrorBound`, which promises a bound. Selective layers need the
        inputs of the step in every case, and have no bound, see `state_values`.
    multiple_of : int, optional
        Number of stored states to round up to, for the hardware's sake.
    rollback : Rollback, optional
        When to take a cut back; never if left out.

    References
    ----------
    Chahine et al., "The Curious Case of In-Training Compression of State Space Models", ICLR 2026,
    arXiv:2510.02823.

    Examples
    --------
    >>> import torch
    >>> from compressm import At, Compressor, Order, SequenceModel
    >>> model = SequenceModel(d_input=1, d_output=2, d_model=4, d_state=16, n_layers=1)
    >>> optimizer = torch.optim.AdamW(model.parameters())
    >>> compressor = Compressor(model, optimizer, policy=Order(8), schedule=At(2))
    >>> for step in range(3):
    ...     model(torch.randn(5, 7, 1)).square().mean().backward()
    ...     optimizer.step(); optimizer.zero_grad()
    ...     event = compressor.step()
    ...     if event:
    ...         print(event.step, event.layers[0].before, event.layers[0].after)
    2 16 8
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any = None,
        *,
        policy: Policy | Budget | MetricDrop | None = None,
        schedule: Schedule,
        system: Literal["real", "complex"] = "real",
        gramians: Kind | None = None,
        multiple_of: int = 1,
        rollback: Rollback | None = None,
    ) -> None:
        require_sense(policy, system, gramians, multiple_of)
        if isinstance(schedule, type) or not callable(schedule):
            raise OptionError(f"schedule says when to cut, such as At(1_000), got {schedule!r}")
        require_layers(model)
        require_optimizer(optimizer)
        self._replica = replica_of(model)
        self.model = model if self._replica is None else self._replica.module
        self.optimizer = optimizer
        self.policy = policy
        self.schedule = schedule
        self.system: Literal["real", "complex"] = system
        self.gramians: Kind | None = gramians
        self.multiple_of = multiple_of
        self._steps = 0
        self.rollback = rollback
        self._net = rollback and Net(rollback, self.model, optimizer, self._share)
        self._observer = Observer(
            self.model,
            gradients=gramians == "data",
            training=True,
            layers=observed_layers(kind_for(policy, gramians)),
        )
        self._watch()

    def step(self) -> CompressionEvent | None:
        """Count one optimizer step, and cut if one is due.

        Returns
        -------
        CompressionEvent or None
            None if no cut was due. A layer that cannot be reduced safely (unstable, not finite,
            ill-conditioned, tied to another) is left as it is, and its `LayerCut` says why. Where a
            cut was taken back, layers are larger ``after`` than ``before``, and ``skipped`` says
            why; none is cut at such a step.
        """
        self._steps += 1
        due, event = self.schedule(self._steps), None
        if self._net and (due or self._net.is_due(self._steps)):
            event = self._net.judge(self._steps)
        if event is not None:
            self._observer.stop()  # it has seen the model that is gone
            self._rewrap_()
        elif due:
            event = replace(self._cut(), step=self._steps)
        self._watch()
        return event

    def _cut(self) -> CompressionEvent:
        signals = self._observer.stop()
        if self._replica is None:
            event, writes = self._decide(signals)
        else:
            event, writes = decide_together(self._replica, self._steps, signals, self._decide)
        if self._net:
            self._net.spread(self._steps, event)
        carry_out_(self.model, writes, self.optimizer)
        self._rewrap_()
        return event

    def _decide(self, signals: Mapping[str, Sequence[Signal]]) -> tuple[CompressionEvent, Writes]:
        event, writes = decide(
            self.model, self.policy, self.system, signals, self.gramians, self.multiple_of
        )
        return self._net.spare(event, writes) if self._net else (event, writes)

    def _rewrap_(self) -> None:
        if self._replica is not None:
            rewrap_(self._replica)

    def _share(self, find: Callable[[], float]) -> float:
        return find() if self._replica is None else from_first(self._replica, find)

    def _watch(self) -> None:
        """Observe the layers if the step that begins now ends in a cut."""
        if self.schedule(self._steps + 1):
            self._observer.start()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs beside the state dicts of model and optimizer.

        With a `Rollback`, from a cut to its judgement, that is also what they were before the cut.
        """
        state: dict[str, Any] = {"steps": self._steps}
        return state | {"rollback": self._net.state_dict()} if self._net else state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from what `state_dict` returned.

        Parameters
        ----------
        state : dict
            Load the model and the optimizer as well.
        """
        self._steps = int(state["steps"])
        if self._net:
            self._net.load_state_dict(state.get("rollback", {"refused": {}, "pending": {}}))
        self._observer.stop()
        self._watch()
