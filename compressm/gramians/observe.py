"""Record the signals of a model's layers: their inputs, and the gradients at their outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from compressm.errors import OptionError
from compressm.gramians.batches import run, valid_steps, without_padding
from compressm.gramians.signals import Signal
from compressm.systems.convert import layer_input, output_is_the_system
from compressm.systems.find import compressible_layers

__all__ = ["Observer", "observe"]

Layers = Callable[[nn.Module], Iterator[tuple[str, nn.Module]]]


class Observer:
    """Records the signals of a model's layers, from `start` to `stop`.

    Parameters
    ----------
    model : nn.Module
        Its state-space layers, and selective ones, are observed.
    gradients : bool
        Whether to record the gradients at the layers' outputs too, in the backward passes.
    training : bool
        Record forward passes in training mode only.
    layers : callable, optional
        From the model to those of its layers that are to be observed, with their names.
    """

    def __init__(
        self,
        model: nn.Module,
        gradients: bool,
        training: bool,
        layers: Layers = compressible_layers,
    ) -> None:
        self.model = model
        self.layers = layers
        self.gradients = gradients
        self.training = training
        self.signals: dict[str, list[Signal]] = {}
        self._hooks: list[RemovableHandle] = []
        self._passed: set[str] = set()  # layers seen outside of backward passes

    def start(self) -> None:
        """Start recording; no effect if it has started."""
        if not self._hooks:
            for name, layer in self.layers(self.model):
                hook = partial(self._keep, name, layer)
                self._hooks.append(layer.register_forward_hook(hook, with_kwargs=True))

    def stop(self) -> dict[str, list[Signal]]:
        """Stop recording, and return the signals by the layers' names."""
        signals, self.signals = self.signals, {}
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._passed.clear()
        return signals

    def restart(self, signals: dict[str, list[Signal]]) -> None:
        """Observe as if it had never been stopped.

        Parameters
        ----------
        signals : dict of str to list of Signal
            What had been observed.
        """
        self.stop()
        self.signals = signals
        self.start()

    def _keep(
        self,
        name: str,
        layer: nn.Module,
        module: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        output: Any,
    ) -> None:
        if module is not layer or (self.training and not module.training):
            return  # a copy, or an evaluation
        if self.training and not torch.compiler.is_compiling():
            if not torch.is_grad_enabled():
                return
            if torch._C._current_graph_task_id() == -1:
                self._passed.add(name)
            elif name in self._passed:
                return  # computed again, by activation checkpointing
        u = args[0] if args else next(iter(kwargs.values()), None)
        if not isinstance(u, Tensor):
            return
        u = u.detach()
        signal = Signal(layer_input(layer, u))
        if signal.u is not u:
            signal.given = u[:1]
        self.signals.setdefault(name, []).append(signal)
        y = output[0] if isinstance(output, tuple) else output
        if self.gradients and y.requires_grad and output_is_the_system(layer):
            y.register_hook(lambda g: setattr(signal, "g", g.detach()))


def observe(
    model: nn.Module,
    batches: Iterable[Any],
    gradients: bool,
    layers: Layers = compressible_layers,
) -> dict[str, list[Signal]]:
    """The signals of the layers of `model` while it runs through `batches` in evaluation mode.

    Parameters
    ----------
    model : nn.Module
        Its parameters and modes do not change.
    batches : iterable
        Inputs of the model: tensors, tuples and lists whose first element is one, or mappings; see
        `run`. Steps that a mapping marks as padding do not count; see `valid_steps`.
    gradients : bool
        Whether to record gradients too: of a random projection of the model's output, one a batch.
    layers : callable, optional
        As in `Observer`.

    Returns
    -------
    dict of str to list of Signal
    """
    observer = Observer(model, gradients, training=False, layers=layers)
    modes = {module: module.training for module in model.modules()}
    parameters = [p for p in model.parameters() if p.requires_grad]
    if gradients and not parameters:
        raise OptionError(
            'gramians="data" needs gradients of the parameters, and none of them requires one; '
            'use "input", or call requires_grad_()'
        )
    model.eval()
    observer.start()
    try:
        with torch.set_grad_enabled(gradients):
            for batch in batches:
                seen = {name: len(signals) for name, signals in observer.signals.items()}
                y = run(model, batch)
                y = y[0] if isinstance(y, tuple) else getattr(y, "logits", y)
                if gradients:  # on their way to the parameters they pass the layers' outputs
                    torch.autograd.grad(y, parameters, torch.randn_like(y), allow_unused=True)
                if (spans := valid_steps(batch)) is not None:
                    for name, signals in observer.signals.items():
                        new = signals[seen.get(name, 0) :]
                        signals[-len(new) :] = [x for s in new for x in without_padding(s, spans)]
    finally:
        for module, mode in modes.items():
            module.training = mode
        signals = observer.stop()
    return signals
