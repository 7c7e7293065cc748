"""Record the signals of a model's layers: their inputs, and the gradients at their outputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from compressm.errors import OptionError
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
        self.mask: Tensor | None = None  # of the batch that is observed
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
        signals = {
            name: [part for signal in own for part in signal.without_padding()]
            for name, own in self.signals.items()
        }
        self.signals, self.mask = {}, None
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
        mask = _mask(kwargs, signal.u.shape[1]) if self.mask is None else self.mask
        if isinstance(mask, Tensor) and mask.shape == signal.u.shape[:2]:
            signal.mask = mask.detach().to(signal.u.device) != 0
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
        Inputs of the model: tensors, tuples and lists whose first element is one, or dicts of
        arguments. In a dict, an ``attention_mask`` or ``lengths`` says what is padding, which does
        not count. Tensors are moved to the device of the model.
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
                args, kwargs, observer.mask = _arguments(model, batch)
                y = model(*args, **kwargs)
                y = y[0] if isinstance(y, tuple) else getattr(y, "logits", y)
                if gradients:  # on their way to the parameters they pass the layers' outputs
                    torch.autograd.grad(y, parameters, torch.randn_like(y), allow_unused=True)
    finally:
        for module, mode in modes.items():
            module.training = mode
        signals = observer.stop()
    return signals


def _arguments(model: nn.Module, batch: Any) -> tuple[tuple, dict[str, Any], Tensor | None]:
    """The arguments with which a model takes a batch, on its device; and which steps count."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))

    def moved(x: Any) -> Any:
        return x.to(device) if isinstance(x, Tensor) else x

    if not isinstance(batch, Mapping):
        first = batch[0] if isinstance(batch, (tuple, list)) and len(batch) else batch
        if not isinstance(first, Tensor):
            raise OptionError(
                f"a batch of data= is a tensor, a tuple that begins with one, or a dict of "
                f"arguments of the model; got {type(first).__name__}"
            )
        return (moved(first),), {}, None
    taken = inspect.signature(model.forward).parameters.values()
    names = {x.name for x in taken}
    if not any(x.kind is x.VAR_KEYWORD for x in taken):
        unknown = [key for key in batch if key not in names]
        known = {key: moved(x) for key, x in batch.items() if key in names}
    else:
        unknown, known = [], {key: moved(x) for key, x in batch.items()}
    if not known:
        raise OptionError(
            f"the model takes none of the entries {unknown} of a batch, only {sorted(names)}; "
            "rename them"
        )
    longest = max((x.shape[1] for x in batch.values() if isinstance(x, Tensor) and x.ndim > 1),
                  default=0)  # fmt: skip
    return (), known, _mask(batch, longest)


def _mask(given: Mapping[str, Any], longest: int) -> Tensor | None:
    """Which steps of which sequences are no padding (batch, length), as arguments say it."""
    mask, lengths = given.get("attention_mask"), given.get("lengths")
    if mask is None and lengths is not None:
        lengths = torch.as_tensor(lengths)
        mask = torch.arange(longest, device=lengths.device) < lengths[:, None]
    return mask
