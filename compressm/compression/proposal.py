"""The proposal for one layer: its `LayerCut`, and what to write into it."""

from __future__ import annotations

import copy
import math
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, Protocol, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

import lti
from compressm.compression.event import LayerCut
from compressm.errors import OptionError, SkipError
from compressm.gramians.signals import Signal
from compressm.gramians.types import GramianType
from compressm.layers import Mamba, SSMLayer
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
    "flops",
    "parameter_count",
    "refuse_broken",
    "refuse_tied",
    "unchanged",
    "unscored",
    "without_hooks",
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
    sequences : int
        How many sequences the layer was given at once.
    """

    name: str
    layer: nn.Module
    gramians: GramianType
    sizes: Sizes = ANY
    held_out: Sequence[Signal] = ()
    example: Tensor | None = None
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


def refuse_tied(layer: nn.Module, trial: nn.Module, owners: Counter[int]) -> None:
    """SkipError if a parameter that changes shape belongs to another module as well."""
    pairs = zip(layer.named_parameters(), trial.parameters(), strict=True)
    tied = [k for (k, p), q in pairs if p.shape != q.shape and owners[id(p)] > 1]
    if tied:
        raise SkipError(f"{', '.join(tied)} is also a parameter of another module; untie it first")


def refuse_broken(layer: nn.Module, trial: nn.Module, u: Tensor | None) -> None:
    """SkipError if a layer of another package runs forward on `u`, and its cut copy does not.

    It may read its size from where nobody can write it, such as a configuration that layers share.
    """
    if u is None or isinstance(layer, (SSMLayer, Mamba)):
        return
    try:
        y = _output(layer, u)
    except Exception:  # it needs more than its input: nothing can be said
        return
    try:
        broken = "" if _output(trial, u).shape == y.shape else "its output has another shape"
    except Exception as error:  # whatever the code of that package raises
        broken = f"{type(error).__name__}: {error}".splitlines()[0]
    if broken:
        raise SkipError(f"it would not run forward after the cut ({broken})")


@torch.no_grad()
def _output(layer: nn.Module, u: Tensor) -> Tensor:
    """What a copy of the layer, without its hooks, gives out."""
    layer = without_hooks(layer).eval()
    device = next((p.device for p in layer.parameters()), u.device)
    with torch.random.fork_rng(devices=[]):
        y = layer(u.to(device))
    return y[0] if isinstance(y, tuple) else y


def without_hooks(layer: nn.Module) -> nn.Module:
    """A copy of the layer that nobody observes."""
    layer = copied(layer)
    for part in layer.modules():
        part._forward_hooks.clear()
        part._forward_pre_hooks.clear()
    return layer


def parameter_count(layer: nn.Module) -> int:
    """Number of entries of the parameters of a layer."""
    return sum(p.numel() for p in layer.parameters())


def flops(system: System | None, n: int) -> int:
    """x <- p x + B u, y = Re(C x), with n complex states: two for each real multiply and add."""
    if system is None:
        return 0
    return math.prod(system.batch_shape) * n * (8 + 4 * system.n_inputs + 4 * system.n_outputs)
