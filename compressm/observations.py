"""Gramians from data: second moments of the states that inputs drive, and of their adjoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

import lti
from compressm.adapters import ends_with_its_system, seen_by
from compressm.selection import compressible_layers
from compressm.signals import Signal

__all__ = ["Observer", "observability_factor", "observe", "observed_factor"]

Layers = Callable[[nn.Module], Iterator[tuple[str, nn.Module]]]
SAMPLES = 16  # states looked at, for each state of the system ...
TIMES = 128  # ... at so many times or more of each sequence


class Observer:
    """The signals of a model's layers, from `start` to `stop`.

    Parameters
    ----------
    model : nn.Module
        Its state-space layers, and selective ones, are observed.
    gradients : bool
        Whether gradients at the layers' outputs are, in the backward passes of the time between.
    training : bool
        Count forward passes in training mode only.
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

    def start(self) -> None:
        """Observe from now on; more than once is no different from once."""
        if not self._hooks:
            self._hooks = [
                layer.register_forward_hook(partial(self._keep, name, layer), with_kwargs=True)
                for name, layer in self.layers(self.model)
            ]

    def stop(self) -> dict[str, list[Signal]]:
        """Observe no longer, and hand over what was seen, by the layers' names."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        signals, self.signals = self.signals, {}
        return signals

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
        u = args[0] if args else next(iter(kwargs.values()))
        signal = Signal(seen_by(layer, u.detach()))
        self.signals.setdefault(name, []).append(signal)
        y = output[0] if isinstance(output, tuple) else output
        if self.gradients and y.requires_grad and ends_with_its_system(layer):
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
        Is as before afterwards.
    batches : iterable
        Inputs of the model: tensors, or tuples and lists whose first element is one.
    gradients : bool
        Also those of random projections of the model's output, one a batch.
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
        raise ValueError(
            'gramians="data" follows gradients to the parameters, and none of them requires one; '
            'use "input", or requires_grad_()'
        )
    model.eval()
    observer.start()
    try:
        with torch.set_grad_enabled(gradients):
            for batch in batches:
                y = model(batch[0] if isinstance(batch, (tuple, list)) else batch)
                y = y[0] if isinstance(y, tuple) else getattr(y, "logits", y)
                if gradients:  # on their way to the parameters they pass the layers' outputs
                    torch.autograd.grad(y, parameters, torch.randn_like(y), allow_unused=True)
    finally:
        for module, mode in modes.items():
            module.training = mode
        signals = observer.stop()
    return signals


def observed_factor(
    system: lti.DiagonalStateSpace | lti.StateSpace, signals: Sequence[Tensor]
) -> Tensor:
    """S with S S^H = mean of x x^H over the states x that the inputs drive.

    Parameters
    ----------
    system : lti.DiagonalStateSpace or lti.StateSpace
        Discrete, n >= 1 states; real ones [Re x, Im x] if ``conjugate``. Or a stack of such, each
        with inputs of its own.
    signals : sequence of Tensor (batch, length, m)
        Inputs, each sequence from the zero state; m counts those of the whole stack.

    Returns
    -------
    Tensor (..., n, k)
        For white inputs of unit variance S S^H is near the controllability Gramian.

    Notes
    -----
    Neighbouring states tell little that is new, so about `TIMES` times of a sequence are looked at,
    at distances J: ``x[kJ]`` obeys the recurrence with ``A^J`` whose input is a block of J inputs.
    Of all these states `SAMPLES` for each state of the system are drawn, always the same ones.
    What must not be few are the times: a handful, the same in every sequence, mislead. S is updated
    by a QR decomposition for each of `signals`; nothing is squared.
    """
    choice = torch.Generator().manual_seed(0)
    wanted = SAMPLES * system.order / sum(u.shape[0] * u.shape[1] for u in signals)
    root, count = system.B.new_zeros(*system.batch_shape, 0, system.order), 0
    for u in signals:
        x = _states(system, u, max(1, u.shape[1] // TIMES))
        k = min(x.shape[-2], math.ceil(wanted * u.shape[0] * u.shape[1]))
        drawn = torch.randperm(x.shape[-2], generator=choice)[:k].to(x.device)
        x = x.index_select(-2, drawn)
        root = torch.linalg.qr(torch.cat([root.to(x), x], dim=-2), mode="r")[1]
        count += k
    return root.mT / count**0.5


def observability_factor(
    system: lti.DiagonalStateSpace | lti.StateSpace, signals: Sequence[Tensor]
) -> Tensor:
    """R with R R^H = mean of g g^H over the adjoint states, g[t] = C^H dJ/dy[t] + A^H g[t+1].

    Parameters
    ----------
    system : lti.DiagonalStateSpace or lti.StateSpace
        As in `observed_factor`.
    signals : sequence of Tensor (batch, length, p)
        Gradients dJ/dy at the outputs, p those of the whole stack.

    Returns
    -------
    Tensor (..., n, k)
        For white gradients of unit variance R R^H is near the observability Gramian.

    References
    ----------
    Otto, Padovan, Rowley, "Model reduction for nonlinear systems by balanced truncation of state
    and gradient covariance", SIAM J. Sci. Comput. 45 (2023), arXiv:2207.14387.
    """
    if isinstance(system, lti.DiagonalStateSpace):
        C = system.C * (2.0 if system.conjugate else 1.0)  # y = 2 Re(C x)
        adjoint = replace(system, poles=system.poles.conj(), B=C.mH, C=system.B.mH, D=None)
    else:
        adjoint = lti.StateSpace(system.A.mH, system.C.mH, system.B.mH, dt=system.dt)
    return observed_factor(adjoint, [g.flip(1) for g in signals])


def _states(system: lti.DiagonalStateSpace | lti.StateSpace, u: Tensor, every: int) -> Tensor:
    """The states (..., samples, n) after each block of `every` inputs."""
    batch, length, _ = u.shape
    blocks = u[:, : length - length % every].to(system.B)
    blocks = blocks.reshape(batch, -1, every, *system.batch_shape, system.n_inputs)
    if isinstance(system, lti.DiagonalStateSpace):
        A, times = system.poles[..., None], torch.mul
    else:
        A, times = system.A, torch.matmul
    powers, gains = [A], [system.B]
    for _ in range(every - 1):
        powers.append(times(A, powers[-1]))
        gains.append(times(A, gains[-1]))
    drive = torch.einsum("bkj...m,j...nm->kb...n", blocks, torch.stack(gains[::-1]))
    x, states = torch.zeros_like(drive[0]), []
    for v in drive:
        x = times(powers[-1], x[..., None])[..., 0] + v
        states.append(x)
    x = torch.cat(states).movedim(0, -2)
    if isinstance(system, lti.DiagonalStateSpace) and system.conjugate:
        x = torch.cat([x.real, x.imag], dim=-1)
    return x
