"""Decide on a cut of a model and apply it: balance layers, select orders, propose, apply."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import repeat
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

import lti
from compressm.compression.advice import with_advice
from compressm.compression.linear import LinearPlan, RoundingError, refuse_unwritable
from compressm.compression.options import Options
from compressm.compression.policies import Policy
from compressm.compression.proposal import (
    Plan,
    Proposal,
    attempt,
    unchanged,
    unscored,
)
from compressm.compression.selective import SelectivePlan
from compressm.compression.uniform import at_one_size
from compressm.compression.units import in_units
from compressm.compression.whole import Saved
from compressm.errors import OptionError, SkipError, UnsupportedLayerError
from compressm.gramians.moments import input_shape_matches, input_width
from compressm.gramians.output_error import hold_out
from compressm.gramians.signals import Signal
from compressm.gramians.types import INPUT, MODEL, OUTPUT, GramianType, selection
from compressm.ops.copies import copied
from compressm.ops.resize import tensors_of
from compressm.sizes import Sizes
from compressm.systems.batches import System
from compressm.systems.configs import agree_on_states_
from compressm.systems.convert import directions, is_supported, output_is_the_system, to_lti
from compressm.systems.find import (
    compressible_layers,
    obstacle,
    recognized_layers,
    stored_states,
)

__all__ = ["apply_", "balance_layers", "propose", "require_layers", "require_sizes", "select"]

Signals: TypeAlias = Mapping[str, Sequence[Signal]]
NEAR = (1, 2, 4, 8)  # orders apart, that are tried where rounding would spoil the cut
CARRIED = (
    "its passes began with a state that is not zero, so its inputs alone do not show what drives "
    "its states: begin the passes of a step that ends in a cut with the zero state"
)
SHORT = 64  # steps of noise that a layer is tried on where no input was observed
Planned: TypeAlias = "Plan | Proposal"  # a proposal where the layer cannot be scored


def require_layers(model: nn.Module, asked: Sequence[GramianType | None] = ()) -> None:
    """UnsupportedLayerError unless the model has a layer that can be compressed.

    OptionError if one of the Gramian types that are asked for can never be observed of a layer.
    """
    if not isinstance(model, nn.Module):
        raise UnsupportedLayerError(f"the model must be a torch.nn.Module, got {model!r:.60}")
    for name, layer in compressible_layers(model):
        needing = [x for x in asked if x is not None and x.needs_gradients]
        if needing and is_supported(layer) and not output_is_the_system(layer):
            raise OptionError(
                f"gramians={needing[0].name!r} needs the gradient at the output of a system, and "
                f"{name or 'the layer'} ({type(layer).__name__}) goes on after it, with a "
                "nonlinearity for example; use gramians='input'"
            )
    if next(compressible_layers(model), None) is not None:
        return
    wrapped = {name: obstacle(layer) for name, layer in recognized_layers(model)}
    if wrapped:
        name, reason = next(iter(wrapped.items()))
        raise UnsupportedLayerError(
            f"none of the {len(wrapped)} layers that look like a known one can be read: "
            f"{name or 'the layer'} ({type(model.get_submodule(name)).__name__}) {reason}"
        )
    names = sorted({type(module).__name__ for module in model.modules()})
    raise UnsupportedLayerError(
        f"found no layer that compressm can read as a system among {', '.join(names)}; "
        "docs/adapters.md shows how to describe one with to_lti.register and load_lti_.register"
    )


def propose(model: nn.Module, signals: Signals | None, options: Options) -> list[Proposal]:
    """What a cut would do to each layer of the model; the model does not change.

    Parameters
    ----------
    model : nn.Module
    signals : mapping of str to sequence of Signal, or None
        What was observed of each layer, by its name.
    options : Options

    Returns
    -------
    list of Proposal
        In the order of the layers in the model.
    """
    return select(model, balance_layers(model, signals, options), options)


def require_sizes(model: nn.Module, sizes: Sizes) -> None:
    """OptionError if no layer can store one of the sizes that are allowed."""
    if 1 in sizes:  # which every layer can store
        return
    before: dict[str, int] = {}
    for name, layer in compressible_layers(model):
        with suppress(lti.LTIError):  # of one that cannot be read the event speaks
            before[name] = stored_states(layer)
    if before and not sizes.up_to(max(before.values())):
        stored = ", ".join(f"{name or 'the layer'} {n}" for name, n in before.items())
        raise OptionError(
            f"no layer can store {sizes} states, as a cut makes none larger ({stored}); allow "
            "smaller sizes"
        )


@torch.no_grad()
def balance_layers(model: nn.Module, signals: Signals | None, options: Options) -> list[Planned]:
    """A plan for every layer, with the scores of its states; a proposal where there are none."""
    signals = signals or {}
    return [
        attempt(
            partial(_planned, name, layer, signals.get(name, ()), options),
            partial(unscored, name, layer),
        )
        for name, layer in recognized_layers(model)
    ]


def _planned(name: str, layer: nn.Module, signals: Sequence[Signal], options: Options) -> Planned:
    if empty := [key for key, x in tensors_of(layer).items() if x.is_meta]:
        raise SkipError(
            f"{empty[0]} is on the meta device and has no numbers; load its values first"
        )
    try:
        return _scored(name, layer, signals, options)
    except lti.NonFiniteError as error:
        raise SkipError(_not_finite(layer, signals) or str(error)) from error


def _not_finite(layer: nn.Module, signals: Sequence[Signal]) -> str | None:
    """What of a layer is not finite, with what to do."""
    counts = {name: int((~p.isfinite()).sum()) for name, p in layer.named_parameters()}
    broken = [f"{name} has {n} entries that are not finite" for name, n in counts.items() if n]
    if broken:
        return (
            f"{', '.join(broken)}; go back to a checkpoint with a lower learning rate, or skip "
            "steps whose gradients are not finite"
        )
    if not all(x.u.isfinite().all() for x in signals):
        return "its inputs are not finite; check the data, and the layers before it"
    if not all(x.g is None or x.g.isfinite().all() for x in signals):
        return (
            "the gradients at its output are not finite, as in a step that a GradScaler skips; cut "
            "after another step, or use gramians='input'"
        )
    return None


def _scored(name: str, layer: nn.Module, signals: Sequence[Signal], options: Options) -> Planned:
    about: dict[str, Any] = {"name": name, "layer": layer, "sizes": options.sizes}
    if signals:
        first = signals[0]
        about |= {"example": first.example, "call": first.call, "sequences": len(first.u)}
    linear = is_supported(layer)
    if not all(x.from_zero for x in signals):
        # The passes that did begin with zero show only how sequences begin
        if not linear or (options.gramians or MODEL).needs_inputs:
            raise SkipError(CARRIED + ", or use gramians='model'" * linear)
        signals = ()
    observed, held_out = hold_out(signals)
    if not linear:
        if (reason := obstacle(layer)) is not None:
            raise SkipError(reason)
        gramians = (options.gramians or OUTPUT).for_layer(layer)
        chosen = selection(layer, observed, gramians)
        return SelectivePlan(**about, selection=chosen, gramians=gramians, held_out=held_out)
    refuse_unwritable(layer)
    system = to_lti(layer, conjugate=options.conjugate)
    if system.order == 0:
        return unscored(name, layer, None)
    if "example" not in about:
        about["example"] = _noise(layer, system)
    known = input_shape_matches(system, observed)
    gramians = (options.gramians or (INPUT if known else MODEL)).for_layer(layer)
    factors = gramians.factors(system, observed, directions(layer))
    if not (isinstance(factors, tuple) and len(factors) == 2):
        raise OptionError(
            f"the Gramian type {gramians} gave {type(factors).__name__}; its factors must return "
            "a pair (S, R), with None for an exact Gramian"
        )
    return LinearPlan(
        **about,
        system=system,
        factors=factors,
        gramians=gramians,
        held_out=held_out if known else (),
    )


def _noise(layer: nn.Module, system: System) -> Tensor:
    """An input of the layer, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, SHORT, input_width(system), generator=generator, device="cpu")
    dtypes = (p.dtype for p in layer.parameters() if p.is_floating_point())
    return noise.to(system.B.device, next(dtypes, noise.dtype))


@torch.no_grad()
def select(model: nn.Module, planned: Sequence[Planned], options: Options) -> list[Proposal]:
    """The cut of each layer at the order that the policy selects.

    Parameters
    ----------
    model : nn.Module
    planned : sequence of Plan or Proposal
        From `balance_layers`.
    options : Options

    Returns
    -------
    list of Proposal
    """
    plans = [plan for plan in planned if not isinstance(plan, Proposal)]
    trial = partial(_selected, model, planned, options.uniform)
    return with_advice(options.policy, plans, trial(options.policy), trial)


def _selected(
    model: nn.Module, planned: Sequence[Planned], uniform: bool, policy: Policy
) -> list[Proposal]:
    plans = [plan for plan in planned if not isinstance(plan, Proposal)]
    owners = _owners(model)
    orders: Iterator[int | None] = repeat(None)  # a layer at a time
    if plans and policy.whole_model:
        given = list(policy.orders(plans, partial(_copy, model, plans, owners)))
        if len(given) != len(plans):
            raise OptionError(
                f"{policy} gave {len(given)} orders for {len(plans)} layers; its orders() must "
                "return one for each layer"
            )
        orders = iter(given)
    proposals = [
        plan if isinstance(plan, Proposal) else _proposal(plan, next(orders), policy, owners)
        for plan in planned
    ]
    if not uniform:
        return proposals
    return at_one_size(model, planned, proposals, policy, partial(_storing, owners))


def _proposal(plan: Plan, order: int | None, policy: Policy, owners: Counter[int]) -> Proposal:
    """The cut of one layer with its output error, or the layer as it is where that is refused."""

    def select_order(plan: Plan) -> int:
        return _checked(policy.order(plan), plan, policy)

    def make() -> Proposal:
        if policy.needs_bound and not plan.bounded:
            raise SkipError("no bound holds for a selective layer; use KeepEnergy or States")
        if order is None:
            cut, write = _near(plan, select_order(plan), policy, owners, select_order)
        else:
            cut, write = _near(plan, _checked(order, plan, policy), policy, owners, None)
        return _measured(plan, Proposal(cut, write))

    return in_units(plan, attempt(make, partial(unchanged, plan)))


def _storing(owners: Counter[int], plan: Plan, n: int) -> Proposal:
    """The cut of one layer to n stored states, whatever a policy selects."""
    one = plan.with_sizes(Sizes([n]))
    proposal = attempt(lambda: _measured(plan, one.at(1, owners)), partial(unchanged, plan))
    return in_units(plan, proposal)


def _measured(plan: Plan, proposal: Proposal) -> Proposal:
    """The proposal with its output error."""
    cut, write = proposal
    if write is not None:
        cut = replace(cut, output_error=plan.output_error(write))
    return Proposal(cut, write)


def _near(
    plan: Plan, order: int, policy: Policy, owners: Counter[int], select_order: Any
) -> Proposal:
    """The cut at `order` or, where rounding would spoil it, at one close by."""
    try:
        return plan.at(order, owners, select_order)
    except RoundingError as refusal:
        way = -1 if policy.at_most else 1
        for near in (order + way * k for k in NEAR):
            if 0 < near < plan.hsv.shape[-1]:
                with suppress(RoundingError):
                    proposal = plan.at(near, owners)
                    if proposal.write is not None:
                        return proposal
        raise refusal


def _checked(order: Any, plan: Plan, policy: Policy) -> int:
    n = plan.hsv.shape[-1]
    if isinstance(order, (int, np.integer)) and 0 <= order <= n:
        return int(order)
    raise OptionError(
        f"{policy} gave the order {order!r} for {plan.name or 'the layer'}; it must be an integer "
        f"from 0 to {n}"
    )


def _copy(
    model: nn.Module,
    plans: Sequence[Plan],
    owners: Counter[int],
    orders: Sequence[int] | None = None,
) -> nn.Module:
    """A copy of the model, cut to these orders if there are any."""
    trial = copied(model)
    for plan, order in zip(plans, orders, strict=True) if orders else ():
        _, write = attempt(partial(plan.at, order, owners), partial(unchanged, plan))
        if write is not None:
            write.apply_(trial.get_submodule(plan.name))
    return trial


def apply_(
    model: nn.Module,
    proposals: Iterable[Proposal],
    optimizer: Any = None,
    then: Callable[[], None] = lambda: None,
) -> None:
    """Write the proposed cuts into the model: all of them or, on any exception, none.

    Parameters
    ----------
    model : nn.Module
    proposals : iterable of Proposal
    optimizer : torch.optim.Optimizer or sequence of these, optional
        Its state of the parameters that change shape is reset; see `resize_`.
    then : callable, optional
        What has to succeed as well.
    """
    writes = {cut.name: write for cut, write in proposals if write is not None}
    saved = Saved(model, optimizer, writes)
    try:
        for name, write in writes.items():
            write.apply_(model.get_submodule(name), optimizer)
        agree_on_states_(model)
        then()
    except BaseException:  # a KeyboardInterrupt as well
        saved.restore_()
        raise


def _owners(model: nn.Module) -> Counter[int]:
    """How many modules, or layers, hold each parameter."""
    modules = Counter(id(p) for m in model.modules() for p in m._parameters.values())
    layers = Counter(id(p) for _, x in compressible_layers(model) for p in x.parameters())
    return modules | layers  # the larger of the two: layers may share a whole module
