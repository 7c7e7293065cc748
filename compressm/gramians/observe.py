"""Record the signals of a model's layers: their inputs, and the gradients at their outputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from inspect import Parameter
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from compressm.errors import OptionError
from compressm.gramians.batches import padding_of, run, without_padding
from compressm.gramians.signals import Call, Signal, tensors_in
from compressm.systems.convert import layer_input, output_is_the_system
from compressm.systems.find import compressible_layers

__all__ = ["Observer", "observe"]

Layers = Callable[[nn.Module], Iterator[tuple[str, nn.Module]]]
Signals = dict[str, list[Signal]]
STATES = ("state", "initial_state", "prev_state", "x0", "h0", "hx")  # arguments of `forward`
PASSES = 512  # of a layer, that are kept in training: a step that never ends must not fill memory


class Observer:
    """Records the signals of a model's layers, from `start` to `stop`.

    What an ``attention_mask`` or ``lengths`` of the model calls padding is recorded as well, with
    this argument; see `without_padding`. It is not read where a compiler traces the whole model.

    Parameters
    ----------
    model : nn.Module
        Its state-space layers, and selective ones, are observed. It does not keep the observer
        alive, and copies of it are not observed.
    gradients : bool
        Whether to record the gradients at the layers' outputs too, in the backward passes.
    training : bool
        Record forward passes in training mode only, of each layer the first `PASSES`.
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
        self.signals: Signals = {}
        self.padding: Any = None  # what the pass that runs now is told of it
        self._before: Any = None  # the same of the last pass, which is perhaps computed again
        self._hooks: list[tuple[RemovableHandle, _Hook]] = []
        self._passed: set[str] = set()  # layers seen outside of backward passes

    def start(self) -> None:
        """Start recording; no effect if it has started."""
        if self._hooks:
            return
        if self.training:
            hook = _Hook(self, "_enter")
            handle = self.model.register_forward_pre_hook(hook, with_kwargs=True)
            self._hooks.append((handle, hook))
            self._listen(self.model, _Hook(self, "_leave"))
        for name, layer in self.layers(self.model):
            self._listen(layer, _Hook(self, "_keep", name, layer, _argument_names(layer)))

    def _listen(self, module: nn.Module, hook: _Hook) -> None:
        self._hooks.append((module.register_forward_hook(hook, with_kwargs=True), hook))

    def stop(self) -> Signals:
        """Stop recording, and return the signals, padding included, by the layers' names."""
        signals, self.signals = self.signals, {}
        for handle, _ in self._hooks:
            handle.remove()
        self._hooks.clear()
        self._passed.clear()
        self.padding = self._before = None
        return signals

    def restart(self, signals: Signals) -> None:
        """Observe as if it had never been stopped.

        Parameters
        ----------
        signals : dict of str to list of Signal
            What had been observed.
        """
        self.stop()
        self.signals = signals
        self.start()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy, made together with the model, observes that copy."""
        vars(self).update(state)
        for _, hook in self._hooks:
            hook.observer = ref(self)

    def __del__(self) -> None:
        for handle, _ in vars(self).get("_hooks", ()):
            handle.remove()

    def _enter(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.compiler.is_compiling():
            return
        given = dict(kwargs)
        with suppress(TypeError):  # of a wrong call the model speaks itself
            given |= inspect.signature(model.forward).bind_partial(*args).arguments
        self.padding = padding_of(given)

    def _leave(self, *_: Any) -> None:
        self._before, self.padding = self.padding, None

    def _keep(
        self,
        name: str,
        layer: nn.Module,
        names: Sequence[str],
        module: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        output: Any,
    ) -> None:
        if module is not layer or (self.training and not module.training):
            return  # a copy, or an evaluation
        padding = self.padding
        if self.training and not torch.compiler.is_compiling():
            if not torch.is_grad_enabled():
                return
            if torch._C._current_graph_task_id() == -1:
                self._passed.add(name)
            elif name in self._passed:
                return  # computed again, by activation checkpointing
            else:
                padding = self._before
        given = dict(zip(names, args, strict=False)) | kwargs
        u = given.get(names[0])
        seen = self.signals.setdefault(name, []) if isinstance(u, Tensor) else []
        if not isinstance(u, Tensor) or (self.training and len(seen) == PASSES) or _in_vmap(u):
            return
        u = u.detach()
        began = tensors_in([given.get(name) for name in STATES])
        state = tuple(x.detach() for x in began)
        if any(map(_in_vmap, state)):
            return
        signal = Signal(layer_input(layer, u), padding=padding, state=state)
        if signal.u is not u:
            signal.given = u[:1]
        if not seen and not state and len(given) > 1:
            options = {k: _detached(x) for k, x in kwargs.items() if k != names[0]}
            signal.call = Call(u, tuple(map(_detached, args[1:])), options)
        seen.append(signal)
        y = next(tensors_in(output), u)
        if self.gradients and y.requires_grad and output_is_the_system(layer):
            y.register_hook(lambda g: None if _in_vmap(g) else setattr(signal, "g", g.detach()))


def _argument_names(layer: nn.Module) -> list[str]:
    """How `forward` of a layer names what may be given by place; the first is the input."""
    by_place = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    taken = inspect.signature(layer.forward).parameters.values()
    return [x.name for x in taken if x.kind in by_place] or ["the input"]  # forward(*args)


def _in_vmap(x: Tensor) -> bool:
    """Whether a tensor is one of many in torch.vmap, which may not be kept after it has ended."""
    functorch = getattr(torch._C, "_functorch")  # noqa: B009, pyright knows it not
    while not torch.compiler.is_compiling() and functorch.is_functorch_wrapped_tensor(x):
        if functorch.is_batchedtensor(x):
            return True
        x = functorch.get_unwrapped(x)  # of grad
    return False


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


class _Hook:
    """Calls a method of an observer as long as there is one; a copy of the hook has none."""

    observer: Callable[[], Observer | None] = staticmethod(lambda: None)

    def __init__(self, observer: Observer, method: str, *args: Any) -> None:
        self.observer = ref(observer)
        self.method, self.args = method, args

    def __call__(self, *args: Any) -> None:
        observer = self.observer()
        if observer is not None:
            getattr(observer, self.method)(*self.args, *args)

    def __getstate__(self) -> dict[str, Any]:
        return {"method": self.method, "args": self.args}


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
        `run`. Steps that a mapping marks as padding do not count; see `without_padding`.
    gradients : bool
        Whether to record gradients too: of a random projection of the model's output, one a batch.
    layers : callable, optional
        As in `Observer`.

    Returns
    -------
    dict of str to list of Signal
    """
    observer = Observer(model, gradients, training=False, layers=layers)
    signals: Signals = {}
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
        with torch.inference_mode(False), torch.set_grad_enabled(gradients):
            for batch in batches:
                observer.padding = padding_of(batch)
                output = run(model, batch)
                if gradients:  # on their way to the parameters they pass the layers' outputs
                    y = _with_gradient(output)
                    torch.autograd.grad(y, parameters, torch.randn_like(y), allow_unused=True)
                for name, own in without_padding(observer.signals).items():
                    signals.setdefault(name, []).extend(own)
                observer.signals = {}
    finally:
        for module, mode in modes.items():
            module.training = mode
        observer.stop()
    return signals


def _with_gradient(output: Any) -> Tensor:
    """Of what a model returned the logits, or the first tensor that gradients start from."""
    logits = output.get("logits") if isinstance(output, Mapping) else None
    y = next((x for x in tensors_in([logits, output]) if x.requires_grad), None)
    if y is None:
        raise OptionError(
            f'gramians="data" needs an output with a gradient, and the model returned a '
            f"{type(output).__name__} without; return the numbers before any rounding or argmax, "
            'or use "input"'
        )
    return y
