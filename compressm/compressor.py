"""Layers that shrink while they train: attach, `step()`, `state_dict()`."""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

import lti
from compressm.hankel import observed_factor, require_known, ssm_layers
from compressm.layers import SSMLayer
from compressm.policies import ErrorBound, Policy
from compressm.schedules import Schedule

__all__ = ["CompressionEvent", "Compressor", "LayerCut", "compress_"]

EPS = 2.0**-52
ROUNDING_LIMIT = 1e-3  # relative; a written layer farther than this from its system is not accepted


@dataclass(frozen=True, eq=False)
class LayerCut:
    """What one cut did to one layer.

    Parameters
    ----------
    name : str
        Qualified name of the layer in the model.
    before, after : int
        Stored states (`d_state`) before and after; equal if nothing was cut.
    order : int
        Order of the reduced system: real states if the real system was reduced, else complex ones.
    hsv : ndarray (n,)
        Hankel singular values before the cut; empty if they could not be computed.
    error_bound : float
        No less than the H-infinity norm of the change of the layer, what rounding adds included;
        infinite with observed inputs.
    energy_kept : float
        ``sum(hsv[:order]) / sum(hsv)``.
    condition : float
        Condition number of the return to diagonal form; 1 if nothing was cut.
    rounding : float
        Distance between the layer as written and the reduced system, the largest over frequency,
        relative to the peak: what the precision of the parameters costs.
    skipped : str or None
        Why the layer was left as it was; None if it was cut, or if the policy kept every state.
    """

    name: str
    before: int
    after: int
    order: int
    hsv: np.ndarray
    error_bound: float = 0.0
    energy_kept: float = 1.0
    condition: float = 1.0
    rounding: float = 0.0
    skipped: str | None = None


@dataclass(frozen=True, eq=False)
class CompressionEvent:
    """What one cut did to a model.

    Parameters
    ----------
    step : int
        Optimizer steps before the cut; 0 for `compress_`.
    layers : tuple of LayerCut
        One for each state-space layer, in the order of the model.
    """

    step: int
    layers: tuple[LayerCut, ...]

    def __str__(self) -> str:
        cuts = ", ".join(
            f"{cut.name}: {cut.before} -> {cut.after}"
            + (f" (skipped: {cut.skipped})" if cut.skipped else "")
            for cut in self.layers
        )
        return f"step {self.step}: {cuts}"


class Compressor:
    """Balanced truncation of a model's state-space layers while it trains.

    Call `step` once after each ``optimizer.step()``; the loop stays yours.

    Parameters
    ----------
    model : nn.Module
        Its `SSMLayer` modules are compressed, everything else is left alone.
    optimizer : torch.optim.Optimizer or None
        Trains the model; what it knows of parameters that are cut is forgotten, see `resize_`.
    policy : Policy
        How far: ``KeepEnergy(0.99)``, ``ErrorBound(1e-2)``, ``Order(32)``.
    schedule : Schedule
        When: ``Every(500, stop=5_000)``.
    system : {"real", "complex"}, optional
        Which system a layer ``y = Re(C x)`` is reduced as: the real one that it computes, or the
        complex one of the CompreSSM paper, which spends states on an imaginary output nobody reads.
    gramians : {"model", "input"}, optional
        How states are weighed. "model": by what any input of unit energy can drive, the exact
        controllability Gramian, with an error bound. "input": by what the layer's own inputs drive,
        their second moment over the last forward pass of the step, without a bound. Observability
        is exact in both.

    References
    ----------
    Chahine et al., "The Curious Case of In-Training Compression of State Space Models", ICLR 2026,
    arXiv:2510.02823.

    Examples
    --------
    >>> import torch
    >>> from compressm import Compressor, Every, Order, SequenceModel
    >>> model = SequenceModel(d_input=1, d_output=2, d_model=4, d_state=16, n_layers=1)
    >>> optimizer = torch.optim.AdamW(model.parameters())
    >>> compressor = Compressor(model, optimizer, policy=Order(8), schedule=Every(2, stop=2))
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
        policy: Policy,
        schedule: Schedule,
        system: Literal["real", "complex"] = "real",
        gramians: Literal["model", "input"] = "model",
    ) -> None:
        if any(isinstance(m, nn.parallel.DistributedDataParallel) for m in model.modules()):
            raise ValueError(
                "DistributedDataParallel holds buckets of the old shapes and would not notice a "
                "cut; train on one device, or compress between two wrappings with compress_"
            )
        if gramians not in ("model", "input"):
            raise ValueError(f"gramians must be 'model' or 'input', got {gramians!r}")
        _require_sense(policy, system, gramians == "model")
        self.model = model
        self.optimizer = optimizer
        self.policy = policy
        self.schedule = schedule
        self.system: Literal["real", "complex"] = system
        self.gramians = gramians
        self._steps = 0
        self._inputs: dict[str, Tensor] = {}
        self._hooks: list[RemovableHandle] = []
        self._watch()

    def step(self) -> CompressionEvent | None:
        """Count one optimizer step, and cut if one is due.

        Returns
        -------
        CompressionEvent or None
            None if no cut was due. A layer that cannot be reduced safely (unstable, not finite,
            ill-conditioned, tied to another) is left as it is, and its `LayerCut` says why.
        """
        self._steps += 1
        event = None
        if self.schedule(self._steps):
            inputs = dict(self._inputs) if self.gramians == "input" else None
            self._unwatch()
            event = compress_(
                self.model, self.policy, self.optimizer, system=self.system, inputs=inputs
            )
            event = replace(event, step=self._steps)
        self._watch()
        return event

    def _watch(self) -> None:
        """Keep the layers' inputs if the step that begins now ends in a cut."""
        if self.gramians != "input" or self._hooks or not self.schedule(self._steps + 1):
            return

        def watch(name: str, layer: nn.Module) -> RemovableHandle:
            def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                if module is layer and module.training:  # not a copy, not an evaluation
                    self._inputs[name] = (args[0] if args else kwargs["u"]).detach()

            return layer.register_forward_pre_hook(keep, with_kwargs=True)

        self._hooks = [watch(name, layer) for name, layer in ssm_layers(self.model)]

    def _unwatch(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._inputs.clear()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs beside the state dicts of model and optimizer."""
        return {"steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from what `state_dict` returned.

        Parameters
        ----------
        state : dict
            Load the model and the optimizer as well.
        """
        self._steps = int(state["steps"])
        self._unwatch()
        self._watch()


def compress_(
    model: nn.Module,
    policy: Policy,
    optimizer: Any = None,
    *,
    system: Literal["real", "complex"] = "real",
    inputs: Mapping[str, Tensor] | None = None,
) -> CompressionEvent:
    """G -> G_r, balanced and truncated, for every state-space layer of `model`, in place.

    Parameters
    ----------
    model : nn.Module
        Its `SSMLayer` modules are compressed.
    policy : Policy
        How far.
    optimizer : torch.optim.Optimizer, optional
        If training is to go on; as in `Compressor`.
    system : {"real", "complex"}, optional
        As in `Compressor`.
    inputs : mapping of str to Tensor (batch, length, d_model), optional
        Inputs of each layer, by its name, as ``gramians="input"`` of `Compressor` observes them.

    Returns
    -------
    CompressionEvent
        With ``step=0``.

    Examples
    --------
    >>> import torch
    >>> from compressm import Order, SequenceModel, compress_
    >>> model = SequenceModel(d_input=1, d_output=2, d_model=4, d_state=16, n_layers=1)
    >>> compress_(model, Order(4)).layers[0].after
    4
    """
    _require_sense(policy, system, inputs is None)
    owners = Counter(id(p) for m in model.modules() for p in m._parameters.values())
    plans = []
    for name, layer in ssm_layers(model):
        tied = [key for key in layer.state_axes if owners[id(layer.get_parameter(key))] > 1]
        if tied:
            reason = f"{', '.join(tied)} is also a parameter of another module; untie it first"
            plans.append((layer, _untouched(name, layer, reason), None))
        else:
            plans.append((layer, *_plan(name, layer, policy, system == "real", inputs)))
    for layer, _, modal in plans:  # nothing is written before every layer has been thought through
        if modal is not None:
            layer.load_lti_(modal, optimizer)
    return CompressionEvent(0, tuple(cut for _, cut, _ in plans))


def _require_sense(policy: Policy, system: str, exact: bool) -> None:
    require_known(system)
    if isinstance(policy, ErrorBound) and not exact:
        raise ValueError(
            f"{policy} promises a bound, and none holds with observed inputs; use the exact "
            "Gramians, or KeepEnergy or Order"
        )


@torch.no_grad()
def _plan(
    name: str,
    layer: SSMLayer,
    policy: Policy,
    real: bool,
    inputs: Mapping[str, Tensor] | None,
) -> tuple[LayerCut, lti.DiagonalStateSpace | None]:
    """What is to be done to a layer, and the system to write; the layer itself is not changed."""
    hsv = np.empty(0)

    def untouched(reason: str | None) -> tuple[LayerCut, None]:
        return _untouched(name, layer, reason, hsv), None

    if layer.d_state == 0:
        return untouched(None)
    if inputs is not None and name not in inputs:
        return untouched("no input of it was observed in this step")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", lti.ReductionWarning)
            system = layer.to_lti(conjugate=real)
            observed = None if inputs is None else observed_factor(system, inputs[name])
            balancing = lti.balance(system, controllability=observed)
            hsv = balancing.hsv.cpu().numpy()
            if not hsv.any():
                return untouched("its Hankel singular values are all zero")
            order = policy(hsv, _slots(balancing, real))
            reduction = balancing.truncate(order)
            modal, condition = lti.diagonalize(reduction.system, conjugate=real)
        if modal.poles.shape[-1] >= layer.d_state:
            full = reduction.order >= balancing.minimal_order
            reason = f"order {order} needs every slot, as some of its eigenvalues are real"
            return untouched(None if full else reason)
        trial = copy.deepcopy(layer)
        trial.load_lti_(modal)
        distance, peak = _distance(trial.to_lti(conjugate=real), modal)
    except lti.LTIError as error:
        return untouched(str(error))
    rounding = (distance / peak if peak else 0.0) + condition * EPS
    if not rounding < ROUNDING_LIMIT:
        return untouched(
            f"written in {layer.get_parameter(next(iter(layer.state_axes))).dtype} it would "
            f"differ from the reduced system by {rounding:.1e} of its peak"
        )
    cut = LayerCut(
        name,
        layer.d_state,
        modal.poles.shape[-1],
        reduction.order,
        hsv,
        error_bound=float(reduction.error_bound) + rounding * peak,
        energy_kept=float(hsv[: reduction.order].sum() / hsv.sum()),
        condition=condition,
        rounding=rounding,
    )
    return cut, modal


def _untouched(name: str, layer: SSMLayer, reason: str | None, hsv: Any = None) -> LayerCut:
    hsv = np.empty(0) if hsv is None else hsv
    return LayerCut(name, layer.d_state, layer.d_state, len(hsv), hsv, skipped=reason)


def _slots(balancing: lti.Balancing, real: bool) -> Callable[[int], int]:
    """Stored states at each order: one for each pole in the closed upper half-plane."""
    if not real:
        return lambda order: order
    A = balancing.W @ balancing.system.A @ balancing.T

    def slots(order: int) -> int:
        order = min(order, balancing.minimal_order)
        return int((torch.linalg.eigvals(A[:order, :order]).imag >= 0).sum())

    return slots


def _distance(
    written: lti.DiagonalStateSpace, system: lti.DiagonalStateSpace
) -> tuple[float, float]:
    """max |G - F| and max |F| over frequencies that include every resonance of both."""
    grid = torch.linspace(0, 2 * torch.pi, 257, dtype=torch.float64, device=system.B.device)
    w = torch.cat([grid, system.poles.angle(), written.poles.angle()])
    G, F = lti.frequency_response(written, w), lti.frequency_response(system, w)
    norm = torch.linalg.matrix_norm
    return float(norm(G - F).max()), float(norm(F).max())
