"""What a model is told is padding does not count among the inputs that a training step observes."""

from __future__ import annotations

import inspect
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from compressm.gramians.batches import valid_steps, without_padding
from compressm.gramians.observe import Observer
from compressm.gramians.signals import Signal

__all__ = ["Unpadded"]

NAMES = ("attention_mask", "lengths")
Observed: TypeAlias = tuple[dict[str, list[Signal]], dict[Signal, dict[str, Any]]]


class Unpadded:
    """An `Observer` that leaves out the steps which an argument of the model calls padding.

    Those are ``attention_mask`` and ``lengths`` of ``model.forward``; see `valid_steps`. They are
    not read where a compiler traces the whole model.

    Parameters
    ----------
    observer : Observer
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._hook: RemovableHandle | None = None
        self._arguments: dict[Signal, dict[str, Any]] = {}

    @property
    def signals(self) -> dict[str, list[Signal]]:
        """What has been observed so far, padding included."""
        return self._observer.signals

    @property
    def observed(self) -> Observed:
        """What has been observed so far, for `restart`."""
        return self.signals, dict(self._arguments)

    def start(self) -> None:
        """Start recording; no effect if it has started."""
        self._observer.start()
        if self._hook is None:
            model = self._observer.model
            self._hook = model.register_forward_hook(self._remember, with_kwargs=True)

    def stop(self) -> dict[str, list[Signal]]:
        """Stop recording, and return the valid steps of the signals by the layers' names."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        arguments, self._arguments = self._arguments, {}
        return {
            name: [part for x in signals for part in _valid(x, arguments.get(x))]
            for name, signals in self._observer.stop().items()
        }

    def restart(self, observed: Observed) -> None:
        """Observe as if it had never been stopped.

        Parameters
        ----------
        observed : tuple
            What `observed` had been.
        """
        self.stop()
        signals, self._arguments = observed
        self._observer.restart(signals)
        self.start()

    def _remember(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        if torch.compiler.is_compiling():
            return
        given = inspect.signature(model.forward).bind_partial(*args).arguments | kwargs
        marks = {name: given[name] for name in NAMES if name in given}
        for signals in self.signals.values() if marks else ():
            for signal in signals:
                self._arguments.setdefault(signal, marks)


def _valid(signal: Signal, marks: dict[str, Any] | None) -> list[Signal]:
    spans = valid_steps(marks)
    if spans is None or set(spans) == {(0, signal.u.shape[1])}:
        return [signal]
    return without_padding(signal, spans)
