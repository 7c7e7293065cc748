"""Gramian types: what each observes, how it scores the states of a layer, what it promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

import lti
from compressm.errors import ObservationError, OptionError
from compressm.gramians.elimination import eliminate, eliminate_with_takeover
from compressm.gramians.moments import (
    input_shape_matches,
    input_width,
    observability_factor,
    observed_factor,
)
from compressm.gramians.scores import covariances, mean_gramians, readout_moments
from compressm.gramians.selection import Selection
from compressm.gramians.signals import Signal
from compressm.ops.copies import in_single
from compressm.systems.batches import System
from compressm.systems.selective.form import form_of, require_form

__all__ = [
    "DATA",
    "GRAMIAN_TYPES",
    "INPUT",
    "MODEL",
    "OUTPUT",
    "GramianType",
    "gramian_type",
    "group_values",
    "selection",
    "register_gramian_type",
    "state_values",
]

NOT_FINITE = "a score of its states is not finite; check its parameters and its inputs"

BuiltIn = Literal["model", "input", "data", "output"]
"""The names of the Gramian types that are part of the library."""


class GramianType(ABC):
    """Defines by which Gramians the states of a layer are scored.

    Subclass it, and pass an instance as ``gramians=``; `register_gramian_type` gives it a name.

    Attributes
    ----------
    name : str
        Its name in ``gramians=`` and in `LayerCut.gramians`.
    energy : float
        Energy fraction that is kept by default, in (0, 1].
    needs_inputs, needs_gradients : bool
        Whether a linear layer cannot be scored without its inputs, or without the gradients at its
        output. A selective layer needs its inputs in every case.
    bounded : bool
        Whether ``2 * sum(distinct truncated values)`` bounds the error of a linear layer.
    fallback : GramianType or None
        The type that `LayerCut.gramians` names where the exact observability Gramian had to replace
        the one of this type, to keep the reduced system stable; this type itself if None.
    """

    name: str
    energy: float
    needs_inputs: ClassVar[bool] = True
    needs_gradients: ClassVar[bool] = False
    bounded: ClassVar[bool] = False
    fallback: GramianType | None = None

    @abstractmethod
    def factors(
        self, system: System, signals: Sequence[Signal], directions: int
    ) -> tuple[Tensor | None, Tensor | None]:
        """S, R of a linear layer, with P = S S^H and Q = R R^H; None for an exact Gramian.

        Parameters
        ----------
        system : lti.DiagonalStateSpace or lti.StateSpace
            Discrete, of n states; or a batch of systems.
        signals : sequence of Signal
            What was observed of the layer; empty if nothing was.
        directions : int
            2 if the second half of the outputs is that of the reversed sequence.

        Returns
        -------
        Tensor (..., n, k) or None, Tensor (..., n, l) or None

        Raises
        ------
        ObservationError
            If `signals` do not suffice.
        """

    @abstractmethod
    def state_values(self, layer: nn.Module, signals: Sequence[Signal]) -> Tensor:
        """The score of each state of a selective layer.

        Parameters
        ----------
        layer : nn.Module
        signals : sequence of Signal
            What was observed of the layer, at least one.

        Returns
        -------
        Tensor (N,) or Tensor (groups, N)
            Non-negative: the states with the largest scores are kept, in each group of channels
            its own if there is a score for each.
        """

    def for_layer(self, layer: nn.Module) -> GramianType:
        """The type that scores this layer: this one, unless another stands in for it.

        Parameters
        ----------
        layer : nn.Module
        """
        return self

    def selection(self, layer: nn.Module, signals: Sequence[Signal]) -> Selection | None:
        """A choice of sets of states of a selective layer; None to choose by `state_values`.

        Parameters
        ----------
        layer : nn.Module
        signals : sequence of Signal
            What was observed of the layer, at least one.
        """
        return None

    def __str__(self) -> str:
        return self.name


class Model(GramianType):
    """P and Q are the exact Gramians, which `lti.balance` computes."""

    name, energy = "model", 0.98
    needs_inputs, bounded = False, True

    def factors(
        self, system: System, signals: Sequence[Signal], directions: int
    ) -> tuple[None, None]:
        """None, None: `lti.balance` computes both."""
        return None, None

    def state_values(self, layer: nn.Module, signals: Sequence[Signal]) -> Tensor:
        """sum over channels of |c_n b_n| / (1 - p_n^2) of the mean system."""
        return _scores(layer, *mean_gramians(layer, signals))


class Input(GramianType):
    """P is the second moment of the states that the inputs drive; Q is exact."""

    name, energy = "input", 0.9995

    def factors(
        self, system: System, signals: Sequence[Signal], directions: int
    ) -> tuple[Tensor, Tensor | None]:
        """S from the inputs; in a bidirectional layer from the reversed inputs as well."""
        inputs = [signal.u for signal in signals]
        if not inputs:
            raise ObservationError(
                "none of its inputs was observed in this step: only forward passes in training "
                "mode with gradients are, not inside of torch.vmap, and compiled ones only with "
                "torch._dynamo.config.skip_nnmodule_hook_guards = False"
            )
        if not input_shape_matches(system, signals):
            shapes = [tuple(u.shape) for u in inputs]
            raise ObservationError(
                f"its inputs were {shapes}, not (batch, length, {input_width(system)})"
            )
        both = [inputs, [u.flip(1) for u in inputs]][:directions]
        return observed_factor(system, [u for one in both for u in one]), None

    def state_values(self, layer: nn.Module, signals: Sequence[Signal]) -> Tensor:
        """sum over channels of sqrt(P_n Q_n): P of the driven states, Q of the mean system."""
        P, _ = covariances(layer, signals, False)
        return _scores(layer, P, mean_gramians(layer, signals)[1])


class Data(Input):
    """P as in `Input`; Q is the second moment of the adjoint states, driven by the gradients."""

    name, energy = "data", 0.9995
    needs_gradients = True

    def factors(
        self, system: System, signals: Sequence[Signal], directions: int
    ) -> tuple[Tensor, Tensor]:
        """S from the inputs, R from the gradients at the outputs of each direction."""
        S, _ = super().factors(system, signals, directions)
        gradients = [signal.g for signal in signals if signal.g is not None]
        if not gradients:
            raise ObservationError("no gradient at its output was observed in this step")
        rows = system.C.split(system.n_outputs // directions, dim=-2)
        both = [gradients, [g.flip(1) for g in gradients]]
        R = [
            observability_factor(replace(system, C=C, D=None), one)
            for C, one in zip(rows, both, strict=False)
        ]
        return S, torch.cat(R, dim=-1)

    def state_values(self, layer: nn.Module, signals: Sequence[Signal]) -> Tensor:
        """sum over channels of sqrt(P_n Q_n): second moments of states and adjoint states."""
        return _scores(layer, *covariances(layer, signals))


class Output(Input):
    """A set of states of a selective layer: the one without which the output changes least.

    States go one by one, each time the one whose removal costs least. Where C is linear in the
    input (Mamba), those that stay take over what they can predict of it. For a linear layer, and
    where states interact (the delta rule), `Input` stands in.
    """

    name = "output"

    def for_layer(self, layer: nn.Module) -> GramianType:
        """This type for a selective layer whose states do not interact, else `Input`."""
        form = form_of(layer)
        return INPUT if form is None or form.recurrence.interacts else self

    def selection(self, layer: nn.Module, signals: Sequence[Signal]) -> Selection:
        """By moments of the states as the output of the layer sees them."""
        P, Q, K = (x.cpu() for x in readout_moments(layer, signals))
        form = require_form(layer)
        if form.readout() is not None and form.groups == 1:
            found = [eliminate_with_takeover(P[0], Q[0])]
            return Selection.of(found, P[0])
        K = K.unflatten(0, (form.groups, -1)).sum(1)
        return Selection.of([eliminate(k) for k in K])


def _scores(layer: nn.Module, P: Tensor, Q: Tensor) -> Tensor:
    """sqrt(P Q), summed over the channels of each group: (groups, N)."""
    return (P.sqrt() * Q.sqrt()).unflatten(0, (require_form(layer).groups, -1)).sum(1)


MODEL, INPUT, DATA, OUTPUT = Model(), Input(), Data(), Output()
DATA.fallback = INPUT

GRAMIAN_TYPES: dict[str, GramianType] = {}
"""The Gramian types by name; see `register_gramian_type`."""


def register_gramian_type(gramians: GramianType) -> GramianType:
    """Make ``gramians="name"`` a short-hand for a Gramian type.

    Parameters
    ----------
    gramians : GramianType

    Returns
    -------
    GramianType
        The argument.
    """
    if not isinstance(gramians, GramianType):
        raise OptionError(f"a Gramian type must be an instance of GramianType, got {gramians!r}")
    if not 0 < gramians.energy <= 1:
        raise OptionError(
            f"the energy of the Gramian type {gramians.name!r} is the energy fraction that is "
            f"kept by default and must lie in (0, 1], got {gramians.energy}"
        )
    GRAMIAN_TYPES[gramians.name] = gramians
    return gramians


for _one in (MODEL, INPUT, DATA, OUTPUT):
    register_gramian_type(_one)


def gramian_type(gramians: str | GramianType) -> GramianType:
    """The Gramian type of that name, or `gramians` itself if it is one."""
    if isinstance(gramians, GramianType):
        for name in ("name", "energy"):
            if not hasattr(gramians, name):
                raise OptionError(f"{type(gramians).__name__} has no {name}; see GramianType")
        return gramians
    if not isinstance(gramians, str) or gramians not in GRAMIAN_TYPES:
        *most, last = map(repr, GRAMIAN_TYPES)
        raise OptionError(
            f"gramians must be {', '.join(most)} or {last}, or an instance of a "
            f"GramianType, got {gramians!r}"
        )
    return GRAMIAN_TYPES[gramians]


@torch.no_grad()
def state_values(
    module: nn.Module, signals: Iterable[Signal], gramians: str | GramianType = "model"
) -> np.ndarray:
    """The score of each state n of a selective layer: sum over channels c of sqrt(P_cn Q_cn).

    Parameters
    ----------
    module : nn.Module
        A selective layer, such as `Mamba`.
    signals : iterable of Signal
        Its inputs, each from the zero state, and gradients at its output.
    gramians : {"model", "input", "data", "output"} or GramianType, optional
        "model": P and Q are Gramians of the mean system of [1]_, at the averages of dt, of B, of C
        over the signals. The value ``|c_n b_n| / (1 - p_n^2)`` is the Hankel value of mode n alone.
        "input": P is the second moment of the states that the signals drive. "data": in addition Q
        is that of the adjoint states ``g[t] = C[t] gy[t] + exp(dt[t+1] A) g[t+1]`` [2]_, where gy
        is the gradient at the output of the scan, computed from the one at the layer's output.
        "output" scores single states as "input" does; a cut by it chooses sets, see `Output`.

    Returns
    -------
    ndarray (N,)
        Not sorted. Where groups of channels keep states of their own, the sum over the groups.

    Raises
    ------
    UnsupportedLayerError
        If the module is not selective.
    OptionError
        If `gramians` is none of these.
    lti.DimensionError
        If there are no signals, or for "data" none with a gradient.
    lti.NonFiniteError
        If a score is not finite.

    Notes
    -----
    B[t] and C[t] may be large and yet zero on average. Then the mean system gives the state a score
    of zero, but second moments do not. States are formed one time step at a time for all sequences
    together, in memory of size (batch, channels, N). Sums are in double precision.

    References
    ----------
    .. [1] M. Chahine, P. Nazari, D. Rus, T. K. Rusch, "The curious case of in-training compression
       of state space models", 2025, arXiv:2510.02823, appendix E.
    .. [2] S. E. Otto, A. Padovan, C. W. Rowley, "Model reduction for nonlinear systems by balanced
       truncation of state and gradient covariance", SIAM J. Sci. Comput. 45 (2023),
       arXiv:2207.14387; here restricted to a choice of states.
    """
    return group_values(module, signals, gramians).sum(0)


@torch.no_grad()
def selection(
    module: nn.Module, signals: Iterable[Signal], gramians: str | GramianType
) -> Selection:
    """Which states of a selective layer are kept at each order; see `state_values`."""
    gramians, signals = gramian_type(gramians).for_layer(module), list(signals)
    module = in_single(module)
    found = gramians.selection(module, signals) if signals else None
    found = found or Selection.by_values(group_values(module, signals, gramians))
    if not np.isfinite(found.values).all() or not (found.P is None or found.P.isfinite().all()):
        raise lti.NonFiniteError(NOT_FINITE)
    return found


@torch.no_grad()
def group_values(
    module: nn.Module, signals: Iterable[Signal], gramians: str | GramianType
) -> np.ndarray:
    """The score of each state of each group, (groups, N); see `state_values`."""
    gramians, signals = gramian_type(gramians), list(signals)
    if not signals:
        raise lti.DimensionError("none of its inputs was observed, so its states have no scores")
    module = in_single(module)
    values = torch.as_tensor(gramians.state_values(module, signals), device="cpu")
    form = require_form(module)
    n, groups = form.n_states, form.groups
    if tuple(values.shape) not in ((n,), (groups, n)):
        raise OptionError(
            f"the Gramian type {gramians} gave scores of shape {tuple(values.shape)} for a layer "
            f"of {n} states; its state_values must return one score for each state, ({n},), or "
            f"for each state of each group, ({groups}, {n})"
        )
    if not bool(values.isfinite().all()):
        raise lti.NonFiniteError(NOT_FINITE)
    if bool((values < 0).any()):
        raise OptionError(
            f"the Gramian type {gramians} gave a negative score, {float(values.min()):g}; a score "
            "must not be below zero"
        )
    if values.ndim == 1:  # the same in all groups
        values = values.expand(groups, n) / groups
    return values.cpu().numpy()
