"""Compression as a callback of transformers: ``Trainer(callbacks=[CompressionCallback(...)])``."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from compressm.compressor import Compressor
from compressm.cutting import CompressionEvent, require_sense
from compressm.policies import Budget, MetricDrop, Policy
from compressm.schedules import Schedule

__all__ = ["CompressionCallback"]


class CompressionCallback(TrainerCallback):
    """A `Compressor` around the model that a ``transformers.Trainer`` trains, and its optimizer.

    Parameters
    ----------
    policy, schedule
        As in `Compressor`; steps are those of the optimizer, ``state.global_step``.
    system, gramians, multiple_of
        As in `Compressor`.

    Attributes
    ----------
    events : list of CompressionEvent
        What the cuts of this process did.

    Notes
    -----
    After each cut the stored states and the energy kept of every layer go to the log history, under
    the layer's name. The trainer's own checkpoints are enough to resume: all that is needed beside
    the model and the optimizer is the step, which ``trainer_state.json`` holds.

    One process: the trainer hands its ``DistributedDataParallel`` to no callback. Several are
    refused when training begins.

    Examples
    --------
    >>> from compressm import Every, KeepEnergy
    >>> from compressm.huggingface import CompressionCallback
    >>> callback = CompressionCallback(policy=KeepEnergy(0.99), schedule=Every(500, stop=5_000))
    """

    _compressor: Compressor

    def __init__(
        self,
        *,
        policy: Policy | Budget | MetricDrop,
        schedule: Schedule,
        system: Literal["real", "complex"] = "real",
        gramians: Literal["model", "input", "data"] = "model",
        multiple_of: int = 1,
    ) -> None:
        require_sense(policy, system, gramians, multiple_of)
        self.events: list[CompressionEvent] = []
        self._options: dict[str, Any] = {
            "policy": policy,
            "schedule": schedule,
            "system": system,
            "gramians": gramians,
            "multiple_of": multiple_of,
        }

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module,
        optimizer: Any = None,
        **kwargs: Any,
    ) -> None:
        """Build the compressor, or refuse.

        Parameters
        ----------
        args, state, control, model, optimizer, **kwargs
            As the trainer passes them.
        """
        if args.world_size > 1 or args.n_gpu > 1:
            raise ValueError(
                f"CompressionCallback works in one process on one device, got {args.world_size} "
                f"processes with {args.n_gpu} devices each; use a loop of your own with "
                "DistributedDataParallel and Compressor, or CUDA_VISIBLE_DEVICES=0"
            )
        self._compressor = Compressor(model, optimizer, **self._options)
        self._compressor.load_state_dict({"steps": state.global_step})

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Step: the optimizer has, its gradients are gone, and nothing has been saved yet.

        Parameters
        ----------
        args, state, control, **kwargs
            As the trainer passes them.
        """
        event = self._compressor.step()
        if event is not None:
            self.events.append(event)
            state.log_history.append({"step": state.global_step, **event.metrics()})
