"""How a model is cut: every layer balanced, orders chosen, smaller systems written back."""

from __future__ import annotations

import copy
import math
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

import lti
from compressm.adapters import directions, is_supported, load_lti_, to_lti
from compressm.families import UnsupportedLayerError
from compressm.hankel import System, precision, require_known
from compressm.layers import SSMLayer
from compressm.observations import Layers, observability_factor, observe, observed_factor
from compressm.policies import Budget, ErrorBound, MetricDrop, Order, Policy
from compressm.selection import (
    agree_on_states_,
    compressible_layers,
    is_selective,
    keep_states_,
    selective_layers,
    state_count,
    state_values,
)
from compressm.signals import Signal

__all__ = [
    "CompressionEvent",
    "LayerCut",
    "carry_out_",
    "compress_",
    "cut_",
    "decide",
    "outlook",
]

EPS = 2.0**-52
MARGIN = 1e-5  # from the unit circle, within which a layer may refuse a pole
ROUNDING_LIMIT = 1e-3  # relative; a written layer farther than this from its system is not accepted
LINALG_ERROR: type[Exception] = torch.linalg.LinAlgError  # pyright: ignore
GRAMIANS = ("model", "input", "data")
# What is to be written into each layer that is cut: a system, or the states that it keeps
Writes = dict[str, lti.DiagonalStateSpace | list[int]]


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
        The largest of the channels, if each is a system of its own.
    hsv : ndarray (..., n)
        Hankel singular values before the cut, of each channel; empty if they could not be computed.
        Of a selective layer, what each state is worth, see `state_values`.
    error_bound : float
        No less than the H-infinity norm of the change of the layer, what rounding adds included;
        infinite with Gramians from data, and for selective layers.
    energy_kept : float
        Sum of the values of the states that stay, as a share of the sum of all.
    condition : float
        Condition number of the return to diagonal form, the largest of the channels; 1 if nothing
        was cut.
    parameters : (int, int)
        Numbers that the layer's parameters hold, before and after.
    flops : (int, int)
        Floating-point operations of one time step of the recurrence in diagonal form, for each
        sequence, before and after; 0 if the layer could not be read.
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
    hsv: np.ndarray = field(repr=False)
    error_bound: float = 0.0
    energy_kept: float = 1.0
    condition: float = 1.0
    parameters: tuple[int, int] = (0, 0)
    flops: tuple[int, int] = (0, 0)
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

    def metrics(self) -> dict[str, float]:
        """``<layer>/states`` and ``<layer>/energy_kept``, for a logger."""
        states = {f"{cut.name}/states": float(cut.after) for cut in self.layers}
        return states | {f"{cut.name}/energy_kept": cut.energy_kept for cut in self.layers}


def compress_(
    model: nn.Module,
    policy: Policy | Budget | MetricDrop,
    optimizer: Any = None,
    *,
    system: Literal["real", "complex"] = "real",
    gramians: Literal["model", "input", "data"] = "model",
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
    policy : Policy
        How far.
    optimizer : torch.optim.Optimizer, optional
        If training is to go on; as in `Compressor`.
    system : {"real", "complex"}, optional
        As in `Compressor`.
    gramians : {"model", "input", "data"}, optional
        As in `Compressor`, but the layers' inputs are those that `data` causes, and gradients those
        of random projections of the model's output.
    data : iterable, optional
        Inputs of the model, for ``gramians`` other than "model" and for selective layers: tensors,
        or tuples whose first element is one. Each is run once in evaluation mode, and the layers'
        inputs are kept until the cut: a few hundred sequences will do.
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
    signals = _signals(model, gramians, data)
    return cut_(model, policy, optimizer, system, signals, gramians, multiple_of, dry_run)


def outlook(
    model: nn.Module,
    policies: Iterable[Policy | Budget | MetricDrop],
    *,
    system: Literal["real", "complex"] = "real",
    gramians: Literal["model", "input", "data"] = "model",
    data: Iterable[Any] = (),
    multiple_of: int = 1,
) -> tuple[CompressionEvent, ...]:
    """What each of some policies would do to a model, which stays as it is; balanced once.

    Parameters
    ----------
    model : nn.Module
        As in `compress_`, like all arguments but the next.
    policies : iterable of Policy
        For example ``[KeepEnergy(x) for x in (0.9, 0.99, 0.999)]``.
    system, gramians, data, multiple_of
        As in `compress_`.

    Returns
    -------
    tuple of CompressionEvent
        One for each policy: orders, bounds, parameters, operations.

    Examples
    --------
    >>> import torch
    >>> from compressm import Order, SequenceModel, outlook
    >>> model = SequenceModel(d_input=1, d_output=2, d_model=4, d_state=16, n_layers=1)
    >>> [event.layers[0].parameters for event in outlook(model, [Order(8), Order(2)])]
    [(308, 156), (308, 42)]
    """
    policies = tuple(policies)
    for policy in policies:
        require_sense(policy, system, gramians, multiple_of)
    thought = _think(model, system, _signals(model, gramians, data), gramians, multiple_of)
    return tuple(_settle(model, policy, *thought) for policy in policies)


def require_layers(model: nn.Module) -> None:
    """UnsupportedLayerError unless there is something to compress."""
    if next(compressible_layers(model), None) is None:
        kinds = sorted({type(module).__name__ for module in model.modules()})
        raise UnsupportedLayerError(
            f"found no layer that compressm can read as a system among {', '.join(kinds)}; "
            "docs/adapters.md shows how to describe one with to_lti.register and load_lti_.register"
        )


def _signals(
    model: nn.Module, gramians: str, data: Iterable[Any]
) -> dict[str, list[Signal]] | None:
    require_layers(model)
    if isinstance(data, Tensor):
        raise ValueError(
            f"data must be an iterable of batches, got one tensor of shape {tuple(data.shape)}; "
            "pass [data], or data.split(50)"
        )
    layers = observed_layers(gramians)
    if gramians == "model" and next(layers(model), None) is None:
        if data != ():
            raise ValueError(
                'the Gramians of the model need no data; pass gramians="input" or "data" with it'
            )
        return None
    signals = observe(model, data, gramians == "data", layers)
    if not signals:
        what = "a selective layer" if gramians == "model" else f"gramians={gramians!r}"
        raise ValueError(
            f"{what} needs data that reaches the layers, and none did; pass "
            "data=, an iterable of inputs of the model"
        )
    return signals


def observed_layers(gramians: str) -> Layers:
    """Which layers cannot be weighed without what reaches them."""
    return selective_layers if gramians == "model" else compressible_layers


def require_sense(
    policy: Policy | Budget | MetricDrop, system: str, gramians: str, multiple_of: int
) -> None:
    """ValueError unless these go together."""
    require_known(system)
    if gramians not in GRAMIANS:
        raise ValueError(f"gramians must be 'model', 'input' or 'data', got {gramians!r}")
    if isinstance(policy, ErrorBound) and gramians != "model":
        raise ValueError(
            f"{policy} promises a bound, and none holds with Gramians from data; use the exact "
            "Gramians, or KeepEnergy or Order"
        )
    if isinstance(multiple_of, bool) or not isinstance(multiple_of, int) or multiple_of < 1:
        raise ValueError(f"multiple_of must be an integer of at least 1, got {multiple_of!r}")
    if isinstance(policy, Order) and policy.n_stored < multiple_of:
        raise ValueError(
            f"{policy} leaves no multiple of {multiple_of} to store; use a larger order, or a "
            "smaller multiple_of"
        )


def require_optimizer(optimizer: Any) -> None:
    """ValueError for one that does not keep what it knows of a parameter with the parameter."""
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ValueError(
            "LBFGS keeps one history for all parameters together, which no longer fits after a "
            "cut; use another optimizer, or compress_(model, policy) and build a new LBFGS"
        )


def cut_(
    model: nn.Module,
    policy: Policy | Budget | MetricDrop,
    optimizer: Any,
    system: str,
    signals: Mapping[str, Sequence[Signal]] | None,
    gramians: str,
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
    policy: Policy | Budget | MetricDrop,
    system: str,
    signals: Mapping[str, Sequence[Signal]] | None,
    gramians: str,
    multiple_of: int,
) -> tuple[CompressionEvent, Writes]:
    """What `cut_` would do, and what it would write; the model stays as it is."""
    cuts, plans = _think(model, system, signals, gramians, multiple_of)
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
    gramians: str,
    multiple_of: int,
) -> tuple[dict[str, LayerCut], list[_Plan | _Selection]]:
    """Every layer balanced, or left as it is."""
    cuts: dict[str, LayerCut] = {}
    plans: list[_Plan | _Selection] = []
    for name, layer in compressible_layers(model):
        with _skipping(cuts, name, layer):
            observed = (signals or {}).get(name, ())
            if not is_supported(layer):
                values = state_values(layer, observed, gramians)
                plans.append(_Selection(name, layer, values, multiple_of))
                continue
            _refuse_parametrized(layer)
            G = to_lti(layer, conjugate=system == "real")
            if G.order == 0:
                raise _SkipError(None)
            factors = _factors(G, observed, gramians, directions(layer))
            plans.append(_Plan(name, layer, G, factors, multiple_of))
    return cuts, plans


@torch.no_grad()
def _settle(
    model: nn.Module,
    policy: Policy | Budget | MetricDrop,
    cuts: Mapping[str, LayerCut],
    plans: Sequence[_Plan | _Selection],
) -> CompressionEvent:
    """The orders that a policy asks for, and the systems of these orders."""
    cuts = dict(cuts)
    for plan, order in zip(plans, _orders(model, policy, plans), strict=True):
        with _skipping(cuts, plan.name, plan.layer, plan):
            if isinstance(plan, _Selection) and isinstance(policy, ErrorBound):
                raise _SkipError("no bound holds for a choice of states; use KeepEnergy or Order")
            cuts[plan.name] = plan.prepare(order, _owners(model))
    return CompressionEvent(0, tuple(cuts[name] for name, _ in compressible_layers(model)))


def _orders(
    model: nn.Module, policy: Policy | Budget | MetricDrop, plans: Sequence[_Plan | _Selection]
) -> list[int]:
    spectra = [plan.hsv for plan in plans]
    if not plans:
        return []
    if isinstance(policy, Budget):
        return policy.across(spectra, [plan.slots for plan in plans])
    if isinstance(policy, MetricDrop):
        return policy.search(spectra, _copied(model), partial(_copy, model, plans))
    promise = isinstance(policy, ErrorBound)
    return [policy(plan.hsv * (plan.gain if promise else 1.0), plan.slots) for plan in plans]


def _copy(
    model: nn.Module, plans: Sequence[_Plan | _Selection], orders: Sequence[int]
) -> nn.Module:
    """A copy of the model that is cut to these orders."""
    trial, owners = _copied(model), _owners(model)
    for plan, order in zip(plans, orders, strict=True):
        with _skipping({}, plan.name, plan.layer, plan):
            plan.prepare(order, owners)
            _write_(trial.get_submodule(plan.name), plan.found)
    return trial


def _copied(module: nn.Module) -> nn.Module:
    """A deep copy, also of modules that hold on to results, which torch would not copy."""
    held = (x for m in module.modules() for x in vars(m).values() if isinstance(x, Tensor))
    return copy.deepcopy(module, {id(x): x.detach() for x in held if not x.is_leaf})


def _owners(model: nn.Module) -> Counter[int]:
    """How many modules, or layers, hold each parameter."""
    modules = Counter(id(p) for m in model.modules() for p in m._parameters.values())
    layers = Counter(id(p) for _, x in compressible_layers(model) for p in x.parameters())
    return modules | layers  # the larger of the two: layers may share a whole module


class _SkipError(Exception):
    """A layer stays as it is, for a reason, or for none but that nothing is to be done."""


@contextmanager
def _skipping(
    cuts: dict[str, LayerCut],
    name: str,
    layer: nn.Module,
    plan: _Plan | _Selection | None = None,
) -> Iterator[None]:
    """A layer that cannot be cut is left as it is, and its `LayerCut` says why."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", lti.ReductionWarning)
            yield
    except (_SkipError, lti.LTIError, LINALG_ERROR) as error:
        held = _held(layer)
        try:
            n = stored_states(layer)
        except lti.LTIError:
            n = 0  # nothing could be read
        hsv, flops = (plan.hsv, _flops(plan.G, n)) if plan else (np.empty(0), 0)
        cuts[name] = LayerCut(
            name,
            n,
            n,
            hsv.shape[-1],
            hsv,
            parameters=(held, held),
            flops=(flops, flops),
            skipped=error.args[0],
        )


def stored_states(layer: nn.Module) -> int:
    """`d_state` of a layer, if it has one, or the number of its poles."""
    if is_selective(layer) and not is_supported(layer):
        return state_count(layer)
    n = getattr(layer, "d_state", None)
    return to_lti(layer).poles.shape[-1] if n is None else n


def _factors(
    G: System, signals: Sequence[Signal], gramians: str, directions: int
) -> tuple[Tensor | None, Tensor | None]:
    """S and R that were observed; None for those that are the model's.

    In two directions the reversed sequence drives the same states, and the second half of the
    outputs is its.
    """
    if gramians == "model":
        return None, None
    width = math.prod(G.batch_shape) * G.n_inputs
    inputs = [x.u for x in signals]
    if not inputs:
        raise _SkipError(
            "no input of it was observed in this step: only forward passes in training mode count, "
            "and one that was compiled before does not see who watches"
        )
    if any(u.ndim != 3 or u.shape[-1] != width for u in inputs):
        raise _SkipError(
            f"its inputs were {[tuple(u.shape) for u in inputs]}, not (batch, length, {width})"
        )
    both = [inputs, [u.flip(1) for u in inputs]][:directions]
    S = observed_factor(G, [u for way in both for u in way])
    if gramians == "input":
        return S, None
    gradients = [x.g for x in signals if x.g is not None]
    if not gradients:
        raise _SkipError("no gradient at its output was observed in this step")
    rows = G.C.split(G.n_outputs // directions, dim=-2)
    ways = [gradients, [g.flip(1) for g in gradients]]
    R = [
        observability_factor(replace(G, C=C, D=None), way)
        for C, way in zip(rows, ways, strict=False)
    ]
    return S, torch.cat(R, dim=-1)


class _Plan:
    """What is to be done to a layer; the layer itself is not changed."""

    def __init__(
        self,
        name: str,
        layer: nn.Module,
        G: System,
        factors: tuple[Tensor | None, Tensor | None],
        multiple_of: int,
    ) -> None:
        self.name, self.layer, self.G, self.stored = name, layer, G, stored_states(layer)
        self.multiple_of = multiple_of
        # The errors of two directions, at w and at -w, add up to sqrt(2) times that of both at most
        self.gain = directions(layer) ** 0.5
        self.real = isinstance(G, lti.StateSpace) or G.conjugate
        self.found: lti.DiagonalStateSpace | None = None
        self._balance(*factors)

    def _balance(self, S: Tensor | None, R: Tensor | None) -> None:
        self.factors = S, R
        self.balancing = lti.balance(self.G, controllability=S, observability=R)
        self.hsv = self.balancing.hsv.cpu().numpy()
        if not self.hsv.any():
            raise _SkipError("its Hankel singular values are all zero")
        # Of each channel: a stack has as many columns as its member of the highest rank
        self._rank = (self.balancing.right != 0).any(-2).sum(-1)
        self._slots = cache(self._slots_of)

    def slots(self, order: int) -> int:
        """Stored states at that order, in multiples of what was asked for."""
        needed = int(self._slots(order).max())
        return min(-(-needed // self.multiple_of) * self.multiple_of, max(needed, self.stored))

    def _slots_of(self, order: int) -> Tensor:
        """Those of each channel: one for each pole in the closed upper half-plane."""
        ranks = self._rank.clamp(max=order)
        if not self.real:
            return ranks
        k = int(ranks.max())
        poles = torch.linalg.eigvals(self.balancing.balanced.A[..., :k, :k])
        return (poles.imag >= 0).sum(-1) - (k - ranks)  # what a channel lacks are zero rows

    def prepare(self, order: int, owners: Counter[int]) -> LayerCut:
        """The cut at `order`, or rather at the highest orders that need no more slots."""
        self.found = None
        n_slots = self.slots(order)
        full = order >= self.balancing.minimal_order
        if n_slots >= self.stored:
            reason = (
                f"order {order} needs all {self.stored} stored states, as some of its eigenvalues "
                "are real and take one each; ask for a lower order"
            )
            raise _SkipError(None if full or self.multiple_of > 1 else reason)
        return self._in_slots(n_slots, owners)

    def _in_slots(self, n_slots: int, owners: Counter[int]) -> LayerCut:
        trial = _copied(self.layer)
        orders = self._fill(n_slots)
        modal, condition = self._diagonal(orders)
        try:
            _refuse_unstable(modal)
            load_lti_(trial, modal)
        except lti.UnstableError:
            if self.factors[1] is None:
                raise
            steadier = copy.copy(self)  # what this plan says to other policies stays as it is
            steadier._balance(self.factors[0], self._steadier(modal))
            cut = steadier._in_slots(n_slots, owners)
            self.found = steadier.found
            return cut
        if stored_states(trial) != modal.poles.shape[-1]:
            raise _SkipError(
                f"load_lti_ left it with {stored_states(trial)} states where "
                f"{modal.poles.shape[-1]} were to be written"
            )
        _refuse_tied(self.layer, trial, owners)
        distance, peak = _distance(to_lti(trial, conjugate=self.real), modal)
        rounding = (distance / peak if peak else 0.0) + condition * EPS
        if not rounding < ROUNDING_LIMIT:
            raise _SkipError(
                f"written in {precision(self.layer)} it would differ from the reduced system by "
                f"{rounding:.1e} of its peak"
            )
        self.found = modal
        bounds = self.balancing.error_bounds.take_along_dim(orders[..., None], -1)
        kept = np.arange(self.hsv.shape[-1]) < orders.cpu().numpy()[..., None]
        return LayerCut(
            self.name,
            self.stored,
            modal.poles.shape[-1],
            int(orders.max()),
            self.hsv,
            error_bound=self.gain * (float(bounds.max()) + rounding * peak),
            energy_kept=float(self.hsv[kept].sum() / self.hsv.sum()),
            condition=condition,
            parameters=(_held(self.layer), _held(trial)),
            flops=(_flops(self.G, self.stored), _flops(self.G, modal.poles.shape[-1])),
            rounding=rounding,
        )

    def _steadier(self, modal: lti.DiagonalStateSpace) -> Tensor | None:
        """R with the model's own for channels that would not be stable; None for all of them.

        With one Gramian that is the system's own, the reduced system is stable.
        """
        R, exact = self.factors[1], lti.gramian_factors(self.G)[1]
        wild = (modal.poles.abs() > 1 - MARGIN).any(-1)[..., None, None]
        if R is None or R.shape != exact.shape or not wild.any() or wild.all():
            return None
        norm = torch.linalg.matrix_norm
        exact = exact * (norm(R) / norm(exact).clamp(min=1e-300))[..., None, None]  # in its units
        mixed = torch.where(wild, exact, R)
        return None if torch.equal(mixed, R) else mixed

    def _fill(self, n_slots: int) -> Tensor:
        """The highest order of each channel that fits in `n_slots`."""
        highest = min(2 * n_slots if self.real else n_slots, self.balancing.minimal_order)
        orders = torch.zeros_like(self._rank)
        for order in range(highest, 0, -1):
            fits = (orders == 0) & (self._slots(order) <= n_slots)
            orders = torch.where(fits, self._rank.clamp(max=order), orders)
            if bool((orders > 0).logical_or(self._rank == 0).all()):
                break
        return orders

    def _diagonal(self, orders: Tensor) -> tuple[lti.DiagonalStateSpace, float]:
        """The reduced systems, of equal numbers of modes, and the condition of the return."""
        full, r = self.balancing.balanced, int(orders.max())
        kept = torch.arange(r, device=orders.device) < orders[..., None]
        A = full.A[..., :r, :r] * kept[..., None] * kept[..., None, :]
        B, C = full.B[..., :r, :] * kept[..., None], full.C[..., :r] * kept[..., None, :]
        modal, condition = lti.diagonalize(
            lti.StateSpace(A, B, C, None, full.dt), conjugate=self.real
        )
        idle = ~((modal.B != 0).any(-1) | (modal.C != 0).any(-2))
        n = int((~idle).sum(-1).max())  # modes beyond the order of a channel go last, then away
        first = idle.to(torch.uint8).argsort(dim=-1, stable=True)[..., :n]
        poles = modal.poles.take_along_dim(first, -1)
        B = modal.B.take_along_dim(first[..., None], -2)
        C = modal.C.take_along_dim(first[..., None, :], -1)
        modal = lti.DiagonalStateSpace(poles, B, C, None, full.dt, self.real)
        return modal, float(torch.as_tensor(condition).max())


class _Selection:
    """Which states of a selective layer stay: those that are worth most."""

    G, gain = None, 1.0

    def __init__(self, name: str, layer: nn.Module, values: np.ndarray, multiple_of: int) -> None:
        self.name, self.layer, self.multiple_of = name, layer, multiple_of
        self.ranking = np.argsort(-values, kind="stable")
        self.hsv = values[self.ranking]
        self.found: list[int] | None = None
        if not self.hsv.any():
            raise _SkipError("the values of its states are all zero")

    def slots(self, order: int) -> int:
        """Stored states at that order, in multiples of what was asked for."""
        return min(-(-order // self.multiple_of) * self.multiple_of, len(self.hsv))

    def prepare(self, order: int, owners: Counter[int]) -> LayerCut:
        """The cut at `order`; of the states that stay, their order among each other does too."""
        self.found, n, before = None, self.slots(order), len(self.hsv)
        if n == before:
            raise _SkipError(None)
        kept, trial = sorted(self.ranking[:n].tolist()), _copied(self.layer)
        keep_states_(trial, kept)
        _refuse_tied(self.layer, trial, owners)
        self.found = kept
        return LayerCut(
            self.name,
            before,
            n,
            n,
            self.hsv,
            error_bound=math.inf,
            energy_kept=float(self.hsv[:n].sum() / self.hsv.sum()),
            parameters=(_held(self.layer), _held(trial)),
        )


def _refuse_parametrized(layer: nn.Module) -> None:
    """No shape can be given to what is computed from other parameters at each use."""
    if isinstance(layer, SSMLayer):
        missing = layer.state_axes.keys() - dict(layer.named_parameters()).keys()
        if missing:
            raise _SkipError(
                f"{', '.join(sorted(missing))} is no parameter of it (pruned, or parametrized); "
                "make it one first"
            )


def _refuse_unstable(system: lti.DiagonalStateSpace) -> None:
    largest = float(system.poles.abs().max()) if system.poles.numel() else 0.0
    if not largest < 1:
        raise lti.UnstableError(f"the reduced system would have a pole of modulus {largest:.9g}")


def _refuse_tied(layer: nn.Module, trial: nn.Module, owners: Counter[int]) -> None:
    pairs = zip(layer.named_parameters(), trial.parameters(), strict=True)
    tied = [k for (k, p), q in pairs if p.shape != q.shape and owners[id(p)] > 1]
    if tied:
        raise _SkipError(f"{', '.join(tied)} is also a parameter of another module; untie it first")


def _held(layer: nn.Module) -> int:
    return sum(p.numel() for p in layer.parameters())


def _flops(system: System | None, n: int) -> int:
    """x <- p x + B u, y = Re(C x), with n complex states: two for each real multiply and add."""
    if system is None:
        return 0
    return math.prod(system.batch_shape) * n * (8 + 4 * system.n_inputs + 4 * system.n_outputs)


def _distance(written: System, system: lti.DiagonalStateSpace) -> tuple[float, float]:
    """max |G - F| and max |F| over frequencies that include every resonance of both."""
    grid = torch.linspace(0, 2 * torch.pi, 257, dtype=torch.float64, device=system.B.device)
    F_poles = system.poles.angle()
    angles = [grid.expand(*F_poles.shape[:-1], -1), F_poles]
    if isinstance(written, lti.DiagonalStateSpace):
        angles.append(written.poles.angle())
    z = torch.exp(1j * torch.cat(angles, dim=-1))
    G, F = _response(written, z), _response(system, z)
    norm = torch.linalg.matrix_norm
    return float(norm(G - F).max()), float(norm(F).max())


def _response(system: System, z: Tensor) -> Tensor:
    """C (z I - A)^-1 B at points (..., k) of its own for each system: (..., k, p, m)."""
    if isinstance(system, lti.StateSpace):
        A = system.A[..., None, :, :].to(z)
        X = torch.linalg.solve(
            z[..., None, None] * torch.eye(system.order).to(z) - A, system.B[..., None, :, :].to(z)
        )
        return system.C[..., None, :, :].to(z) @ X
    system = system.closed()
    modes = 1 / (z[..., None] - system.poles[..., None, :])
    return (system.C[..., None, :, :] * modes[..., None, :]) @ system.B[..., None, :, :]
