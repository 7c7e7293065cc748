"""Compression as a callback of Lightning: ``Trainer(callbacks=[CompressionCallback(...)])``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, cast

import lightning.pytorch as pl
from torch.nn.parallel import DistributedDataParallel

from compressm.compression.compressor import Compressor
from compressm.errors import OptionError
from compressm.integrations.callbacks import Deferred
from compressm.systems.sizes import resize_on_load

__all__ = ["CompressionCallback"]


class CompressionCallback(Deferred, pl.Callback):
    """A `Compressor` around the module that a Lightning trainer fits, and its optimizer.

    Parameters
    ----------
    policy, schedule
        As in `Compressor`; steps are those of the optimizer, ``trainer.global_step``.
    conjugate, gramians, multiple_of, sizes, uniform, rollback
        As in `Compressor`.

    Attributes
    ----------
    events : list of CompressionEvent
        What the cuts in this process did.

    Notes
    -----
    After each cut the stored states and the energy kept of every layer go to the trainer's loggers,
    under the layer's name. A checkpoint holds the module at its present size and the state of the
    compressor; the weights of a compressed module load into one built at full size.

    It works with one optimizer, on one device or with ``DDPStrategy``; anything else is refused
    when the fit starts.

    Examples
    --------
    >>> from compressm import At
    >>> from compressm.integrations.lightning import CompressionCallback
    >>> callback = CompressionCallback(schedule=At(1_000))
    """

    _compressor: Compressor | None = None
    _state: Mapping[str, Any] = MappingProxyType({})

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let `pl_module` take the sizes of a checkpoint; `trainer` and `stage` do not matter."""
        resize_on_load(pl_module)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Build the compressor for `pl_module`, which `trainer` may have wrapped, or refuse it."""
        model = trainer.strategy.model
        alone = model is pl_module and trainer.world_size == 1
        if not alone and not isinstance(model, DistributedDataParallel):
            raise OptionError(
                "CompressionCallback works on one device or with DDPStrategy, got "
                f"{type(trainer.strategy).__name__}, which splits the module; use one of these"
            )
        if len(trainer.optimizers) != 1:
            raise OptionError(
                "CompressionCallback counts the steps of one optimizer, got "
                f"{len(trainer.optimizers)}; build a Compressor in the module, and step it there"
            )
        self._release()  # that of an earlier fit
        self._compressor = self._build(model, trainer.optimizers[0])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Continue at the step of `trainer`; `pl_module` does not change."""
        cast(Compressor, self._compressor).load_state_dict(
            {**self._state, "steps": trainer.global_step}
        )

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Step after each optimizer step of `trainer`: with accumulation, not after each `batch`.

        `pl_module`, `outputs` and `batch_idx` are not used.
        """
        compressor = cast(Compressor, self._compressor)
        while compressor.state_dict()["steps"] < trainer.global_step:
            event = self._step(compressor)
            if event is not None:
                for logger in trainer.loggers:  # now: self.log waits for every 50th step or so
                    logger.log_metrics(event.metrics(), trainer.global_step)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Observe `pl_module` no longer; `trainer` and `exception` do not matter."""
        self._release()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Observe `pl_module` no longer; `trainer` and `stage` do not matter."""
        self._release()

    def _release(self) -> None:
        self._state, self._compressor = self.state_dict(), None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds beside the module and its optimizer."""
        return dict(self._state) if self._compressor is None else self._compressor.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume from a checkpoint; Lightning calls this before the fit starts.

        Parameters
        ----------
        state_dict : dict
            What `state_dict` returned.
        """
        self._state, self._compressor = state_dict, None
