"""Compression in training: attach a `Compressor`, `step()` it, save its `state_dict()`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from compressm._renamed import system_alias
from compressm.compression.decide import (
    Signals,
    apply_,
    propose,
    require_layers,
    require_sizes,
)
from compressm.compression.distributed import from_first, propose_together, replica_of, rewrap_
from compressm.compression.event import CompressionEvent
from compressm.compression.options import Options
from compressm.compression.policies import AnyPolicy, Policy
from compressm.compression.proposal import Proposal
from compressm.compression.rollback import Rollback, RollbackMonitor
from compressm.compression.schedules import Schedule, require_schedule
from compressm.compression.uniform import refuse_unequal
from compressm.errors import CheckpointError, OptionError
from compressm.gramians.batches import without_padding
from compressm.gramians.observe import Observer
from compressm.gramians.types import GramianType
from compressm.ops.optimizers import refuse_forgotten, require_optimizers, states_of_others
from compressm.sizes import AnySizes
from compressm.systems.find import compressible_layers, layer_parameters, selective_layers
from compressm.systems.sizes import resize_on_load

__all__ = ["Compressor"]


@system_alias
class Compressor:
    """Balanced truncation of a model's state-space layers while it trains.

    Call `step` once after each ``optimizer.step()``; the loop stays yours.

    Parameters
    ----------
    model : nn.Module
        Its state-space layers are compressed: each layer that `to_lti` takes, and selective layers
        (Mamba), from which states are removed. Nothing else changes.
        A ``DistributedDataParallel`` is cut alike on all ranks: pass it, not the model inside.
    optimizer : torch.optim.Optimizer, sequence of these, or None
        All that train the layers, wrappers such as SAM included; their state of the parameters that
        are cut is reset, see `resize_`. LBFGS is refused, as its history is not kept parameter by
        parameter, and so are optimizers sharded over processes. One that is missing is refused at
        the cut, before anything is changed.
    policy : Policy, optional
        How far to cut: ``KeepEnergy(0.99)``, ``ErrorBound(1e-2)``, ``States(32)``,
        ``Budget(256)``. If left out, ``OutputError(0.005)``, or
        `KeepEnergy` by the Gramian type for a layer of which fewer than eight sequences were seen.
    schedule : Schedule
        When to cut: ``At(1_000)``, ``Every(500, stop=5_000)``. Start with one cut, at about a tenth
        of the training.
    conjugate : bool, optional
        Which system a layer ``y = Re(C x)`` is reduced as. True: the real one that it computes.
        False: the complex one of the CompreSSM paper, which spends states on an imaginary output
        that nobody reads. The old ``system="real"`` or ``"complex"`` means the same.
    gramians : {"model", "input", "data", "output"} or GramianType, optional
        By which Gramians states are scored. "model": the exact ones, with an error bound. "input":
        the second moment of the states that the layer's own inputs drive, over the forward passes
        of the step, and the exact observability Gramian; without a bound. "data": the same, with
        the second moment of the adjoint states (the gradient covariance) over the backward passes
        as observability Gramian; where the reduced system would not be stable, the exact one
        replaces it. "output": as "input", but of a selective layer a set of states is chosen, the
        one without which the layer's output changes least, and in Mamba those that stay take over
        what they can predict of the others. If left out: "output" for selective layers, "input" for
        all others, or "model" where inputs were not observed, and always "model" with `ErrorBound`,
        which promises a bound.
        Selective layers need the inputs of the step in every case, and have no bound, see
        `state_values`.
    sizes : Sizes, sequence of int, or callable, optional
        The numbers of stored states that a cut may leave, such as `compressm.sizes.MAMBA2`,
        ``[16, 32, 64]``, ``multiples(8)``, or a function from a number to whether it is allowed. A
        layer gets the smallest that holds what the policy selects, or stays as it is.
    uniform : bool, optional
        Whether all layers of a type end at one size, as ``from_pretrained`` and servers need it:
        the smallest that serves them all; with a policy that bounds the states from above, the
        largest that it allows. If one of them cannot be cut to it, none of them is.
    multiple_of : int, optional
        ``multiple_of=k`` is ``sizes=multiples(k)``.
    rollback : Rollback, optional
        When to undo a cut; never if left out.

    References
    ----------
    Chahine et al., "The Curious Case of In-Training Compression of State Space Models", ICLR 2026,
    arXiv:2510.02823.

    Examples
    --------
    >>> import torch
    >>> from compressm import At, Compressor, SequenceModel, States
    >>> model = SequenceModel(d_input=1, d_output=2, d_model=4, d_state=16, n_layers=1)
    >>> optimizer = torch.optim.AdamW(model.parameters())
    >>> compressor = Compressor(model, optimizer, policy=States(8), schedule=At(2))
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
        policy: AnyPolicy | None = None,
        schedule: Schedule,
        conjugate: bool = True,
        gramians: str | GramianType | None = None,
        multiple_of: int = 1,
        sizes: AnySizes | None = None,
        uniform: bool = False,
        rollback: Rollback | None = None,
    ) -> None:
        self.options = Options(policy, conjugate, gramians, multiple_of, sizes, uniform)
        require_schedule(schedule)
        if rollback is not None and not isinstance(rollback, Rollback):
            raise OptionError(f"rollback must be a Rollback(metric, tol), got {rollback!r}")
        require_layers(model, [self.options.gramians])
        require_optimizers(optimizer, layer_parameters(model))
        self._replica = replica_of(model)
        require_sizes(model, self.options.sizes)
        self.model = resize_on_load(model if self._replica is None else self._replica.module)
        self.optimizer = optimizer
        self._idle = states_of_others(layer_parameters(model), optimizer) if optimizer else {}
        self.schedule = schedule
        self._steps = 0
        self.rollback = rollback
        self._monitor = rollback and RollbackMonitor(
            rollback, self.model, optimizer, partial(_on_first_rank, self._replica)
        )
        scored = self.options.gramians
        self._observer = Observer(
            self.model,
            gradients=scored is not None and scored.needs_gradients,
            training=True,
            layers=compressible_layers
            if scored is None or scored.needs_inputs
            else selective_layers,
        )
        self._observe_if_due()

    @property
    def policy(self) -> Policy:
        """How far; may be replaced between two cuts."""
        return self.options.policy

    @policy.setter
    def policy(self, policy: AnyPolicy | None) -> None:
        self.options = replace(self.options, policy=policy)

    @torch.inference_mode(False)
    def step(self) -> CompressionEvent | None:
        """Count one optimizer step, and cut if one is due.

        Returns
        -------
        CompressionEvent or None
            None if no cut was due. A layer that cannot be reduced safely (unstable, not finite,
            ill-conditioned, tied to another) is left as it is, and its `LayerCut` says why. If a
            cut was undone, layers are larger ``after`` than ``before``, and ``skipped`` says why;
            no layer is cut at such a step.
        """
        step = self._steps + 1
        due, judged = self.schedule(step), self._monitor and self._monitor.is_due(step)
        if not (due or judged):
            self._steps = step
            self._observe_if_due()
            return None
        observed, kept, grad = self._observer.signals, self.state_dict(), torch.is_grad_enabled()
        try:
            self._steps = step
            event = self._monitor.judge(step, self._finish) if self._monitor else None
            if event is None and due:
                event = self._cut()
            elif event is None:
                self._observe_if_due()
        except BaseException:  # as before the call, so that it can be tried again
            torch.set_grad_enabled(grad)  # torch.no_grad may have been interrupted on its way out
            self.load_state_dict(kept)
            self._observer.restart(observed)
            self._rewrap_()
            raise
        return event

    def _cut(self) -> CompressionEvent:
        """observe -> plan and select (propose) -> veto -> snapshot -> apply."""
        refuse_forgotten(layer_parameters(self.model), self.optimizer, self._idle)
        signals = without_padding(self._observer.stop())
        if self._replica is None:
            proposals = self._proposals(signals)
        else:
            proposals = propose_together(self._replica, self._steps, signals, self._proposals)
        event = CompressionEvent(self._steps, tuple(cut for cut, _ in proposals))
        if self._monitor:
            self._monitor.snapshot(event)
        apply_(self.model, proposals, self.optimizer, self._finish)
        return event

    def _finish(self) -> None:
        """What follows a change of shapes."""
        self._observer.stop()  # it may have observed a model that was taken back
        self._rewrap_()
        self._observe_if_due()

    def _proposals(self, signals: Signals) -> list[Proposal]:
        proposals = propose(self.model, signals, self.options)
        proposals = self._monitor.veto(proposals) if self._monitor else proposals
        return refuse_unequal(self.model, proposals) if self.options.uniform else proposals

    def _rewrap_(self) -> None:
        if self._replica is not None:
            rewrap_(self._replica)

    def _observe_if_due(self) -> None:
        """Observe the layers if the step that begins now ends in a cut."""
        if self.schedule(self._steps + 1):
            self._observer.start()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs beside the state dicts of model and optimizer.

        With a `Rollback` and a cut that is not judged yet, it holds their values before that cut.
        """
        state: dict[str, Any] = {"steps": self._steps}
        return state | {"rollback": self._monitor.state_dict()} if self._monitor else state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from what `state_dict` returned.

        Parameters
        ----------
        state : dict
            Load those of the model and the optimizer as well.

        Raises
        ------
        CheckpointError
            If it is none; nothing has changed then.
        """
        steps = state.get("steps") if isinstance(state, Mapping) else None
        if not isinstance(steps, int) or isinstance(steps, bool) or steps < 0:
            raise CheckpointError(
                "the state of a compressor holds steps, an integer of at least 0; got "
                f"{state!r:.60}; load what Compressor.state_dict() returned"
            )
        if self._monitor:
            self._monitor.load_state_dict(state.get("rollback", {"refused": {}, "pending": {}}))
        self._steps = steps
        self._observer.stop()
        self._observe_if_due()


def _on_first_rank(replica: Any, measure: Callable[[], float]) -> float:
    return measure() if replica is None else from_first(replica, measure)
