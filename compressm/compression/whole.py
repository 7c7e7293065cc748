"""A cut that fails leaves model and optimizer as they were."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from compressm.ops.optimizers import optimizers_of
from compressm.ops.resize import resize_
from compressm.systems.configs import held_configs

__all__ = ["Saved"]


class Saved:
    """Layers with the state of their parameters in the optimizers, before they are written.

    To be used as ``try: ... except BaseException: saved.restore_(); raise``: a context manager
    could be interrupted on its way out.

    Parameters
    ----------
    model : nn.Module
    optimizer : torch.optim.Optimizer, sequence of these, or None
    names : iterable of str
        Of the layers; "" is the whole model.
    """

    def __init__(self, model: nn.Module, optimizer: Any, names: Iterable[str]) -> None:
        layers = [model.get_submodule(name) for name in names]
        self.parts = [_Part(part) for layer in layers for part in layer.modules()]
        self.configs = held_configs(model)  # a cut replaces them, and leaves them as they are
        self.parameters = [
            (p, p.detach().clone(), p.grad) for layer in layers for p in layer.parameters()
        ]
        self.states = [
            (one, p, one.state.get(p))
            for one in optimizers_of(optimizer)
            for p, _, _ in self.parameters
        ]

    def restore_(self) -> None:
        """Everything <- as it was, bit for bit; all objects keep their identity."""
        for part in self.parts:
            part.restore_()
        for part, name, config in self.configs:
            vars(part)[name] = config
        for parameter, value, grad in self.parameters:
            alike = parameter.dtype == value.dtype and parameter.shape == value.shape
            if not (alike and torch.equal(parameter, value)):
                resize_(parameter, value)
            parameter.grad = grad
        for optimizer, parameter, state in self.states:
            if state is None:
                optimizer.state.pop(parameter, None)
            else:
                optimizer.state[parameter] = state


class _Part:
    """A module: its attributes, and its own tables of parameters and buffers."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.attributes = dict(vars(module))
        self.parameters = dict(module._parameters)
        self.buffers = {
            name: buffer if buffer is None else (buffer, buffer.clone())
            for name, buffer in module._buffers.items()
        }

    def restore_(self) -> None:
        vars(self.module).clear()
        vars(self.module).update(self.attributes)
        self.module._parameters.update(self.parameters)
        for name, kept in self.buffers.items():
            self.module._buffers[name] = None if kept is None else kept[0]
            if kept is not None:
                kept[0].copy_(kept[1])
