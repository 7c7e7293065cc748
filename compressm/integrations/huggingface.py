"""Compression as a callback of transformers: ``Trainer(callbacks=[CompressionCallback(...)])``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from compressm.checkpoints.file_format import load_tree, save_tree
from compressm.compression.compressor import Compressor
from compressm.errors import CheckpointError, OptionError
from compressm.integrations.callbacks import Deferred
from compressm.systems.sizes import resize_on_load

__all__ = ["CompressionCallback"]


class CompressionCallback(Deferred, TrainerCallback):
    """A `Compressor` around the model that a ``transformers.Trainer`` trains, and its optimizer.

    Parameters
    ----------
    policy, schedule
        As in `Compressor`; steps are those of the optimizer, ``state.global_step``.
    conjugate, gramians, multiple_of, sizes, uniform, rollback
        As in `Compressor`.

    Attributes
    ----------
    events : list of CompressionEvent
        What the cuts in this process did.

    Notes
    -----
    After each cut the stored states and the energy kept of every layer go to the log history, under
    the layer's name. The trainer's own checkpoints are enough to resume: beside the model and the
    optimizer only the step is needed, which ``trainer_state.json`` holds. With a `Rollback` each
    checkpoint gets a file ``compressor.safetensors``; a resumed run reads it from ``output_dir``.

    It works in one process only, since the trainer does not pass its ``DistributedDataParallel`` to
    callbacks. Several processes are refused when training begins.

    Examples
    --------
    >>> from compressm import At
    >>> from compressm.integrations.huggingface import CompressionCallback
    >>> callback = CompressionCallback(schedule=At(1_000))
    """

    _compressor: Compressor | None = None

    def on_init_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **kwargs: Any,
    ) -> None:
        """Let the model take the sizes of a checkpoint, which is loaded before training begins.

        Parameters
        ----------
        args, state, control, model, **kwargs
            As the trainer passes them.
        """
        if isinstance(model, nn.Module):
            resize_on_load(model)

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module,
        optimizer: Any = None,
        **kwargs: Any,
    ) -> None:
        """Build the compressor; several processes or devices are refused.

        Parameters
        ----------
        args, state, control, model, optimizer, **kwargs
            As the trainer passes them.
        """
        if args.world_size > 1 or args.n_gpu > 1:
            raise OptionError(
                f"CompressionCallback works in one process on one device, got {args.world_size} "
                f"processes with {args.n_gpu} devices each; use a loop of your own with "
                "DistributedDataParallel and Compressor, or CUDA_VISIBLE_DEVICES=0"
            )
        compressor = self._compressor = self._build(model, optimizer)
        path, saved = self._path(args, state), {}
        if compressor.rollback and state.global_step:
            if not path.is_file():
                raise CheckpointError(
                    f"there is no file {path}, without which a run with a Rollback cannot resume; "
                    "give the output_dir that it was saved in"
                )
            saved = load_tree(path)
        compressor.load_state_dict({**saved, "steps": state.global_step})

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Step the compressor, after the optimizer and before a checkpoint is saved.

        Parameters
        ----------
        args, state, control, **kwargs
            As the trainer passes them.
        """
        event = self._step(cast(Compressor, self._compressor))
        if event is not None:
            state.log_history.append({"step": state.global_step, **event.metrics()})

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Save the state of a `Rollback` beside the trainer's checkpoint.

        Parameters
        ----------
        args, state, control, **kwargs
            As the trainer passes them.
        """
        if self._compressor and self._compressor.rollback:
            save_tree(self._path(args, state), self._compressor.state_dict())

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Observe the model no longer.

        Parameters
        ----------
        args, state, control, **kwargs
            As the trainer passes them.
        """
        self._compressor = None

    def _path(self, args: TrainingArguments, state: TrainerState) -> Path:
        folder = f"checkpoint-{state.global_step}"
        return Path(str(args.output_dir)) / folder / "compressor.safetensors"
