"""The proposal for one layer: its `LayerCut`, and what to write into it."""

from __future__ import annotations

import copy
import math
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Protocol, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

import lti
from compressm.compression.event import LayerCut
from compressm.compression.forward import ForwardPass, forward_pass
from compressm.errors import OptionError, SkipError
from compressm.gramians.signals import Call, Signal
from compressm.gramians.types import GramianType
from compressm.ops.copies import copied
from compressm.sizes import ANY, Sizes
from compressm.systems.batches import System
from compressm.systems.convert import load_lti_
from compressm.systems.find import stored_states
from compressm.systems.selective import keep_states_

__all__ = [
    "KeepStates",
    "LoadSystem",
    "Plan",
    "Proposal",
    "Write",
    "attempt",
    "cut_copy",
    "flops",
    "parameter_count",
    "refuse_tied",
    "unchanged",
    "unscored",
]

Made = TypeVar("Made")
LINALG_ERROR: type[Exception] = torch.linalg.LinAlgError  # pyright: ignore


class Write(Protocol):
    """What a cut writes into a layer."""

    def apply_(self, layer: nn.Module, optimizer: Any = None) -> None:
        """Write it; parameters keep their identity."""
        ...

    def to(self, device: torch.device | str) -> Write:
        """The same on another device."""
        ...


@dataclass(frozen=True, eq=False)
class LoadSystem:
    """layer <- system."""

    system: lti.DiagonalStateSpace

    def apply_(self, layer: nn.Module, optimizer: Any = None) -> None:
        """Write the system into a linear layer; see `load_lti_`."""
        load_lti_(layer, self.system, optimizer)

    def to(self, device: torch.device | str) -> LoadSystem:
        """The same on another device."""
        poles, B, C, D = (x.to(device) for x in self.system.matrices)
        return LoadSystem(replace(self.system, poles=poles, B=B, C=C, D=D))


@dataclass(frozen=True)
class KeepStates:
    """layer <- layer[indices], for each group of channels its own; C by `readout` if given."""

    indices: tuple[tuple[int, ...], ...]
    readout: Tensor | None = field(default=None, compare=False)

    def apply_(self, layer: nn.Module, optimizer: Any = None) -> None:
        """Keep these states of a selective layer; see `keep_states_`."""
        keep_states_(layer, self.indices, optimizer, self.readout)

    def to(self, device: torch.device | str) -> KeepStates:
        """The same on another device."""
        return self if self.readout is None else replace(self, readout=self.readout.to(device))


class Proposal(NamedTuple):
    """What a cut would do to a layer; `write` does it, and is None if the layer stays as it is."""

    cut: LayerCut
    write: Write | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan(ABC):
    """A `ScoredLayer`, ready to be cut at any order; the layer is not changed.

    Parameters
    ----------
    name : str
        Qualified name of the layer in the model.
    layer : nn.Module
    gramians : GramianType
        The type by which its states were scored.
    sizes : Sizes
        The numbers of stored states that are allowed.
    held_out : sequence of Signal
        Signals of the layer that the scores do not use, to measure the output error.
    example : Tensor, optional
        One sequence as the layer was given it.
    call : Call, optional
        One forward pass, if it had more arguments than the input.
    sequences : int
        How many sequences the layer was given at once.
    """

    name: str
    layer: nn.Module
    gramians: GramianType
    sizes: Sizes = ANY
    held_out: Sequence[Signal] = ()
    example: Tensor | None = None
    call: Call | None = None
    sequences: int = 1

    system: ClassVar[System | None] = None

    @property
    def gain(self) -> float:
        """Factor from the error bound of the values to that of the layer."""
        return 1.0

    @property
    def bounded(self) -> bool:
        """Whether the values bound the error."""
        return False

    @property
    @abstractmethod
    def hsv(self) -> np.ndarray:
        """The values (..., n) of its states, descending."""

    @abstractmethod
    def stored(self, order: int) -> int:
        """Stored states at that order, rounded up to an allowed size."""

    @abstractmethod
    def at(self, order: int, owners: Counter[int], reselect_order: Any = None) -> Proposal:
        """The cut at `order`; `SkipError` or an error of `lti` if it is refused."""

    @cached_property
    def forward_pass(self) -> ForwardPass | None:
        """What the layer gives out as it is; None if it runs on no input that is known."""
        example = None if self.example is None else Call(self.example)
        return forward_pass(self.layer, [x for x in (example, self.call) if x is not None])

    def with_sizes(self, sizes: Sizes) -> Self:
        """This plan with other sizes; what it has computed is kept."""
        plan = copy.copy(self)
        object.__setattr__(plan, "sizes", sizes)
        return plan

    @abstractmethod
    def output_error_at(self, order: int) -> float | None:
        """The output error at that `order`, before it is written, on the sequences held out."""

    @abstractmethod
    def output_error(self, write: Any) -> float | None:
        """The output error of the layer with `write`, on the sequences held out."""


def attempt(make: Callable[[], Made], otherwise: Callable[[str], Made]) -> Made:
    """make(), or ``otherwise(reason)`` where a layer cannot be cut."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", lti.ReductionWarning)
            return make()
    except OptionError:  # a mistake of the caller, not of the layer
        raise
    except (SkipError, lti.LTIError, LINALG_ERROR) as error:
        return otherwise(str(error.args[0]))


def unscored(name: str, layer: nn.Module, reason: str | None) -> Proposal:
    """The proposal for a layer that stays as it is and whose states have no scores."""
    try:
        n = stored_states(layer)
    except lti.LTIError:
        n = 0  # nothing could be read
    held = parameter_count(layer)
    cut = LayerCut(name, n, n, 0, np.empty(0), parameters=(held, held), skipped=reason)
    return Proposal(cut)


def unchanged(plan: Plan, reason: str | None = None) -> Proposal:
    """The proposal for a scored layer that stays as it is; no reason if it needs all its states."""
    cut = replace(
        unscored(plan.name, plan.layer, reason).cut,
        order=plan.hsv.shape[-1],
        hsv=plan.hsv,
        gramians=plan.gramians.name,
    )
    return Proposal(cut)


def cut_copy(layer: nn.Module, write: Write) -> nn.Module:
    """A copy of the layer with `write`; SkipError unless its parameters stay the same objects."""
    trial = copied(layer)
    before = dict(trial.named_parameters())
    write.apply_(trial)
    after = dict(trial.named_parameters())
    if new := [k for k in before | after if before.get(k) is not after.get(k)]:
        raise SkipError(
            f"load_lti_ put new parameters in the place of {', '.join(new)}, which no optimizer "
            "would train; write into the old ones, by compressm.resize_"
        )
    return trial


def refuse_tied(layer: nn.Module, trial: nn.Module, owners: Counter[int]) -> None:
    """SkipError if a parameter that changes shape belongs to another module as well."""
    pairs = zip(layer.named_parameters(), trial.parameters(), strict=True)
    tied = [k for (k, p), q in pairs if p.shape != q.shape and owners[id(p)] > 1]
    if tied:
        raise SkipError(f"{', '.join(tied)} is also a parameter of another module; untie it first")


def parameter_count(layer: nn.Module) -> int:
    """Number of entries of the parameters of a layer."""
    return sum(p.numel() for p in layer.parameters())


def flops(system: System | None, n: int) -> int:
    """x <- p x + B u, y = Re(C x), with n complex states: two for each real multiply and add."""
    if system is None:
        return 0
    return math.prod(system.batch_shape) * n * (8 + 4 * system.n_inputs + 4 * system.n_outputs)
