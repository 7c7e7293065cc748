"""How a model is cut: every layer balanced, orders chosen, smaller systems written back."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

import lti
from compressm.compression.plan import (
    LayerCut,
    Plan,
    Selection,
    copied,
    left_alone,
    refuse_parametrized,
)
from compressm.compression.policies import (
    ENERGIES,
    Budget,
    ErrorBound,
    KeepEnergy,
    Kind,
    MetricDrop,
    Order,
    Policy,
)
from compressm.errors import OptionError, SkipError, UnsupportedLayerError
from compressm.gramians.moments import observed_factors, reaches, split_off
from compressm.gramians.observe import Layers, observe
from compressm.gramians.signals import Signal
from compressm.systems.convert import directions, is_supported, load_lti_, to_lti
from compressm.systems.selective import (
    agree_on_states_,
    compressible_layers,
    keep_states_,
    selective_layers,
    state_values,
)
from compressm.systems.stacks import require_known

__all__ = [
    "CompressionEvent",
    "carry_out_",
    "compress_",
    "cut_",
    "decide",
    "outlook",
]

LINALG_ERROR: type[Exception] = torch.linalg.LinAlgError  # pyright: ignore
# What is to be written into each layer that is cut: a system, or the states that it keeps
Writes = dict[str, lti.DiagonalStateSpace | list[int]]


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
            + (f" by {cut.gramians}" if cut.gramians else "")
            + (f" (skipped: {cut.skipped})" if cut.skipped else "")
            for cut in self.layers
        )
        return f"step {self.step}: {cuts}"

    def metrics(self) -> dict[str, float]:
        """``<layer>/states`` and ``<layer>/energy_kept``, for a logger."""
        states = {f"{cut.name}/states": float(cut.after) for cut in self.layers}
        return states | {f"{cut.name}/energy_kept": cut.energy_kept for cut in self.layers}


def compress_(
    model: nn.Module,
    policy: Policy | Budget | MetricDrop | None = None,
    optimizer: Any = None,
    *,
    system: Literal["real", "complex"] = "real",
    gramians: Kind | None = None,
    data: Iterable[Any] = (),
    multiple_of: int = 1,
    dry_run: bool = False,
) -> CompressionEvent:
    """G -> G_r, balanced and truncated, for every state-space layer of `model`, in place.

    Parameters
    ----------
    model : nn.Module
        Its state-space layers are compressed: each `SSMLayer`, and what `to_lti` was taught. So are
        selective layers (Mamba), by a choice of states.
    policy : Policy, optional
        How far; as in `Compressor`.
    optimizer : torch.optim.Optimizer, optional
        If training is to go on; as in `Compressor`.
    system : {"real", "complex"}, optional
        As in `Compressor`.
    gramians : {"model", "input", "data"}, optional
        As in `Compressor`, but the layers' inputs are those that `data` causes, and gradients those
        of random projections of the model's output. If left out, "input" with `data`, and "model"
        without.
    data : iterable, optional
        Inputs of the model: tensors, or tuples whose first element is one. `gramians` other than
        "model" and selective layers need them, and `LayerCut.output_error` is measured on them.
        Each is run once in evaluation mode, and the layers' inputs are kept until the cut: a few
        hundred sequences will do.
    multiple_of : int, optional
        As in `Compressor`.
    dry_run : bool, optional
        Only say what would be done.

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
    require_sense(policy, system, gramians, multiple_of)
    require_optimizer(optimizer)
    signals = _signals(model, [kind_for(policy, gramians)], data)
    return cut_(model, policy, optimizer, system, signals, gramians, multiple_of, dry_run)


def outlook(
    model: nn.Module,
    policies: Iterable[Policy | Budget | MetricDrop | None] | None = None,
    *,
    system: Literal["real", "complex"] = "real",
    gramians: Kind | Sequence[Kind] | None = None,
    data: Iterable[Any] = (),
    multiple_of: int = 1,
) -> tuple[CompressionEvent, ...]:
    """What each of some policies would do to a model, which stays as it is; balanced once.

    Parameters
    ----------
    model : nn.Module
        As in `compress_`, like all arguments but the next and `gramians`.
    policies : iterable of Policy, optional
        For example ``[KeepEnergy(x) for x in (0.9, 0.99, 0.999)]``; None among them, or in their
        place, is the policy that is taken where none is given.
    gramians : {"model", "input", "data"} or sequence of these, optional
        As in `compress_`, or several, to be seen side by side; the data run through the model once.
    system, data, multiple_of
        As in `compress_`.

    Returns
    -------
    tuple of CompressionEvent
        One for each policy: orders, bounds, parameters, operations. With several `gramians`, those
        of all policies for the first, then for the next; `LayerCut.gramians` says which.

    Examples
    --------
    >>> import torch
    >>> from compressm import Order, SequenceModel, outlook
    >>> model = SequenceModel(d_input=1, d_output=2, d_model=4, d_state=16, n_layers=1)
    >>> [event.layers[0].parameters for event in outlook(model, [Order(8), Order(2)])]
    [(308, 156), (308, 42)]
    """
    policies = (None,) if policies is None else tuple(policies)
    kinds: Any = (gramians,) if gramians is None or isinstance(gramians, str) else gramians
    asked = [(policy, kind_for(policy, kind)) for kind in kinds for policy in policies]
    for policy, kind in asked:
        require_sense(policy, system, kind, multiple_of)
    signals = _signals(model, [kind for _, kind in asked], data)
    thought = cache(lambda kind: _think(model, system, signals, kind, multiple_of))
    return tuple(_settle(model, policy, *thought(kind)) for policy, kind in asked)


def require_layers(model: nn.Module) -> None:
    """UnsupportedLayerError unless there is something to compress."""
    if next(compressible_layers(model), None) is None:
        kinds = sorted({type(module).__name__ for module in model.modules()})
        raise UnsupportedLayerError(
            f"found no layer that compressm can read as a system among {', '.join(kinds)}; "
            "docs/adapters.md shows how to describe one with to_lti.register and load_lti_.register"
        )


def kind_for(policy: Policy | Budget | MetricDrop | None, gramians: Kind | None) -> Kind | None:
    """What is to weigh the states under a policy: a bound holds by the model's Gramians alone."""
    return "model" if gramians is None and isinstance(policy, ErrorBound) else gramians


def _signals(
    model: nn.Module, kinds: Sequence[str | None], data: Iterable[Any]
) -> dict[str, list[Signal]] | None:
    require_layers(model)
    if isinstance(data, (Tensor, np.ndarray)):
        raise OptionError(
            f"data must be an iterable of batches, got one {type(data).__name__} of shape "
            f"{tuple(data.shape)}; pass a list of tensors, such as tensor.split(50)"
        )
    given = not (isinstance(data, tuple) and not data)
    needed = given or any(kind in ("input", "data") for kind in kinds)
    layers = observed_layers(None if needed else "model")
    if next(layers(model), None) is None:
        return None
    signals = observe(model, data, "data" in kinds, layers)
    if not signals:
        raise OptionError(
            "no data reached the layers that need it; pass data=, an iterable of inputs of the "
            "model (which an iterator is only once)"
        )
    return signals


def observed_layers(gramians: str | None) -> Layers:
    """Which layers cannot be weighed without what reaches them."""
    return selective_layers if gramians == "model" else compressible_layers


def require_sense(
    policy: Policy | Budget | MetricDrop | None,
    system: str,
    gramians: str | None,
    multiple_of: int,
) -> None:
    """ValueError unless these go together."""
    require_known(system)
    if gramians is not None and gramians not in ENERGIES:
        raise OptionError(f"gramians must be 'model', 'input' or 'data', got {gramians!r}")
    makes = callable(policy) or isinstance(policy, (Budget, MetricDrop))
    if policy is not None and (isinstance(policy, type) or not makes):
        raise OptionError(f"policy says how far to cut, such as KeepEnergy(0.99), got {policy!r}")
    if isinstance(policy, ErrorBound) and gramians not in (None, "model"):
        raise OptionError(
            f"{policy} promises a bound, and none holds with Gramians from data; use the exact "
            "Gramians, or KeepEnergy or Order"
        )
    if isinstance(multiple_of, bool) or not isinstance(multiple_of, int) or multiple_of < 1:
        raise OptionError(f"multiple_of must be an integer of at least 1, got {multiple_of!r}")
    if isinstance(policy, Order) and policy.n_stored < multiple_of:
        raise OptionError(
            f"{policy} leaves no multiple of {multiple_of} to store; use a larger order, or a "
            "smaller multiple_of"
        )


def require_optimizer(optimizer: Any) -> None:
    """ValueError for one that does not keep what it knows of a parameter with the parameter."""
    if isinstance(optimizer, torch.optim.LBFGS):
        raise OptionError(
            "LBFGS keeps one history for all parameters together, which no longer fits after a "
            "cut; use another optimizer, or compress_(model, policy) and build a new LBFGS"
        )


def cut_(
    model: nn.Module,
    policy: Policy | Budget | MetricDrop | None,
    optimizer: Any,
    system: str,
    signals: Mapping[str, Sequence[Signal]] | None,
    gramians: Kind | None,
    multiple_of: int = 1,
    dry_run: bool = False,
) -> CompressionEvent:
    """`compress_` with the `signals` of each layer, by its name, observed before."""
    event, writes = decide(model, policy, system, signals, gramians, multiple_of)
    if not dry_run:
        carry_out_(model, writes, optimizer)
    return event


def decide(
    model: nn.Module,
    policy: Policy | Budget | MetricDrop | None,
    system: str,
    signals: Mapping[str, Sequence[Signal]] | None,
    gramians: Kind | None,
    multiple_of: int,
) -> tuple[CompressionEvent, Writes]:
    """What `cut_` would do, and what it would write; the model stays as it is."""
    cuts, plans = _think(model, system, signals, kind_for(policy, gramians), multiple_of)
    event = _settle(model, policy, cuts, plans)
    return event, {plan.name: plan.found for plan in plans if plan.found is not None}


def carry_out_(model: nn.Module, writes: Writes, optimizer: Any = None) -> None:
    """What was decided, written into the model."""
    for name, found in writes.items():
        _write_(model.get_submodule(name), found, optimizer)
    agree_on_states_(model)


def _write_(layer: nn.Module, found: Any, optimizer: Any = None) -> None:
    if isinstance(found, list):
        keep_states_(layer, found, optimizer)
    else:
        load_lti_(layer, found, optimizer)


@torch.no_grad()
def _think(
    model: nn.Module,
    system: str,
    signals: Mapping[str, Sequence[Signal]] | None,
    gramians: Kind | None,
    multiple_of: int,
) -> tuple[dict[str, LayerCut], list[Plan | Selection]]:
    """Every layer balanced, or left as it is."""
    cuts: dict[str, LayerCut] = {}
    plans: list[Plan | Selection] = []
    for name, layer in compressible_layers(model):
        with _skipping(cuts, name, layer):
            observed, held = split_off((signals or {}).get(name, ()))
            if not is_supported(layer):
                kind = gramians or "input"
                values = state_values(layer, observed, kind)
                plans.append(Selection(name, layer, values, kind, multiple_of, held))
                continue
            refuse_parametrized(layer)
            G = to_lti(layer, conjugate=system == "real")
            if G.order == 0:
                raise SkipError(None)
            known = reaches(G, observed)
            kind = gramians or ("input" if known else "model")
            factors = observed_factors(G, observed, kind, directions(layer))
            plans.append(Plan(name, layer, G, factors, multiple_of, held if known else ()))
    return cuts, plans


@torch.no_grad()
def _settle(
    model: nn.Module,
    policy: Policy | Budget | MetricDrop | None,
    cuts: Mapping[str, LayerCut],
    plans: Sequence[Plan | Selection],
) -> CompressionEvent:
    """The orders that a policy asks for, and the systems of these orders."""
    cuts = dict(cuts)
    for plan, order in zip(plans, _orders(model, policy, plans), strict=True):
        with _skipping(cuts, plan.name, plan.layer, plan):
            if isinstance(plan, Selection) and isinstance(policy, ErrorBound):
                raise SkipError("no bound holds for a choice of states; use KeepEnergy or Order")
            single = not isinstance(policy, (Budget, MetricDrop))
            again = partial(_order, policy) if single else None
            cut = plan.prepare(order, _owners(model), again)
            cuts[plan.name] = replace(cut, output_error=plan.measured())
    return CompressionEvent(0, tuple(cuts[name] for name, _ in compressible_layers(model)))


def _orders(
    model: nn.Module,
    policy: Policy | Budget | MetricDrop | None,
    plans: Sequence[Plan | Selection],
) -> list[int]:
    spectra = [plan.hsv for plan in plans]
    if not plans:
        return []
    if isinstance(policy, Budget):
        return policy.across(spectra, [plan.slots for plan in plans])
    if isinstance(policy, MetricDrop):
        return policy.search(spectra, copied(model), partial(_copy, model, plans))
    return [_order(policy, plan) for plan in plans]


def _order(policy: Policy | None, plan: Plan | Selection) -> int:
    """The order of a layer by itself."""
    if policy is None:
        policy = KeepEnergy(ENERGIES[plan.gramians])
    gain = plan.gain if isinstance(policy, ErrorBound) else 1.0
    return policy(plan.hsv * gain, plan.slots)


def _copy(model: nn.Module, plans: Sequence[Plan | Selection], orders: Sequence[int]) -> nn.Module:
    """A copy of the model that is cut to these orders."""
    trial, owners = copied(model), _owners(model)
    for plan, order in zip(plans, orders, strict=True):
        with _skipping({}, plan.name, plan.layer, plan):
            plan.prepare(order, owners)
            _write_(trial.get_submodule(plan.name), plan.found)
    return trial


def _owners(model: nn.Module) -> Counter[int]:
    """How many modules, or layers, hold each parameter."""
    modules = Counter(id(p) for m in model.modules() for p in m._parameters.values())
    layers = Counter(id(p) for _, x in compressible_layers(model) for p in x.parameters())
    return modules | layers  # the larger of the two: layers may share a whole module


@contextmanager
def _skipping(
    cuts: dict[str, LayerCut],
    name: str,
    layer: nn.Module,
    plan: Plan | Selection | None = None,
) -> Iterator[None]:
    """A layer that cannot be cut is left as it is, and its `LayerCut` says why."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", lti.ReductionWarning)
            yield
    except (SkipError, lti.LTIError, LINALG_ERROR) as error:
        cuts[name] = left_alone(name, layer, error.args[0], plan)
