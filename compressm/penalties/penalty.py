"""loss + weight * penalty: steep spectra, so that later cuts cost less.

A penalty is a measure of the Hankel singular values sigma of each layer, summed over the layers.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

import lti
from compressm._renamed import as_conjugate, system_alias
from compressm.errors import OptionError
from compressm.penalties.measures import Measure, nuclear_norm, smooth_order, tail_energy
from compressm.penalties.tangent import Tangent, tangent_of
from compressm.systems.batches import System, batched, grouped_by_shape, precision
from compressm.systems.find import ssm_layers

__all__ = [
    "HankelPenalty",
    "hankel_nuclear_norm",
    "hankel_smooth_order",
    "hankel_tail_energy",
]


@system_alias
def hankel_nuclear_norm(model: nn.Module, conjugate: bool = True) -> Tensor:
    """sum over layers of sum(sigma), to be added to a loss.

    Parameters
    ----------
    model : nn.Module
        Its linear state-space layers are penalised: each `SSMLayer`, and each type registered with
        `to_lti`.
    conjugate : bool, optional
        As in `Compressor`.

    Returns
    -------
    Tensor ()
        Exact at every call, and differentiable in the parameters of the layers. `HankelPenalty` is
        cheaper.

    Raises
    ------
    lti.LTIError
        If a layer is unstable or not finite.

    References
    ----------
    Schwerdtner, Berman, Peherstorfer, "Hankel singular value regularization for highly compressible
    state space models", NeurIPS 2025, arXiv:2510.22951.

    Examples
    --------
    >>> import torch
    >>> from compressm import SequenceModel, hankel_nuclear_norm
    >>> model = SequenceModel(d_input=1, d_output=2, d_model=4, d_state=6, n_layers=2)
    >>> loss = model(torch.randn(3, 10, 1)).square().mean()
    >>> (loss + 1e-3 * hankel_nuclear_norm(model)).backward()
    """
    return _exact(model, nuclear_norm, conjugate)


@system_alias
def hankel_tail_energy(model: nn.Module, energy: float = 0.9, conjugate: bool = True) -> Tensor:
    """sum over layers of sum(sigma[r:]), see `tail_energy`.

    Parameters
    ----------
    model, conjugate
        As in `hankel_nuclear_norm`.
    energy : float, optional
        As in `tail_energy`.

    Returns
    -------
    Tensor ()
    """
    return _exact(model, partial(tail_energy, energy=energy), conjugate)


@system_alias
def hankel_smooth_order(model: nn.Module, level: float = 0.01, conjugate: bool = True) -> Tensor:
    """sum over layers of sum(sigma / (sigma + level sigma[0])), see `smooth_order`.

    Parameters
    ----------
    model, conjugate
        As in `hankel_nuclear_norm`.
    level : float, optional
        As in `smooth_order`.

    Returns
    -------
    Tensor ()
    """
    return _exact(model, partial(smooth_order, level=level), conjugate)


def _exact(model: nn.Module, measure: Measure, conjugate: bool) -> Tensor:
    total = torch.zeros((), dtype=torch.float64, device="cpu")
    for names, systems in grouped_by_shape(model, conjugate):
        value = _measured(measure, names, systems)
        total = total.to(value.device) + value
    return total


def _measured(measure: Measure, names: tuple[str, ...], systems: tuple[System, ...]) -> Tensor:
    """sum over a batch of systems of f(sigma), with its exact derivatives."""
    with batched(names, systems) as batch:
        return measure(lti.hankel_singular_values(batch)).sum()


@system_alias
class HankelPenalty:
    """f(sigma) + <df/dP, P - P_0> + <df/dQ, Q - Q_0>: a penalty that is cheap at every step.

    The measure f is expanded to first order around the Gramians P_0, Q_0 of an earlier step, and
    anew at every `refresh`-th evaluation. For the nuclear norm the expansion is the bound ``2
    sum(sigma) <= tr(W P W^H) + tr(T^H Q T)``, which holds for the balancing T, W of any step (if of
    full rank) and is tight at that step. An evaluation between two balancings costs a few products
    of n x n matrices.

    Parameters
    ----------
    model : nn.Module
        Its linear state-space layers are penalised: each `SSMLayer`, and each type registered with
        `to_lti`.
    measure : callable, optional
        `nuclear_norm`, `tail_energy`, `smooth_order`, or any other function from sigma (..., n) to
        (...) that does not decrease when a value grows.
    every : int, optional
        Evaluate at every `every`-th call only, times `every`; the other calls return 0.
    refresh : int, optional
        Number of evaluations that use the same balancing; with 1 the penalty is exact.
    conjugate : bool, optional
        As in `Compressor`.
    weight : float, optional
        Factor of the penalty.

    Raises
    ------
    ValueError
        If `every` or `refresh` is not a positive integer, or `system` is unknown; at a call, if
        the measure decreases when a value grows and `refresh` is not 1.

    Notes
    -----
    After a cut, or when a checkpoint of another order is loaded, the next call balances anew. A
    state that is below rounding in a balancing (B of its layer is zero, for example) is not
    penalised until the next balancing.

    References
    ----------
    The variational form of the nuclear norm, and its use as a majorizer: Recht, Fazel, Parrilo,
    "Guaranteed minimum-rank solutions of linear matrix equations via nuclear norm minimization",
    SIAM Review 52 (2010), section 5.

    Examples
    --------
    >>> import torch
    >>> from compressm import HankelPenalty, SequenceModel
    >>> model = SequenceModel(d_input=1, d_output=2, d_model=4, d_state=6, n_layers=1)
    >>> penalty = HankelPenalty(model, every=2, weight=1e-3)
    >>> for step in range(4):
    ...     loss = model(torch.randn(3, 10, 1)).square().mean() + penalty()
    ...     loss.backward()
    """

    def __init__(
        self,
        model: nn.Module,
        measure: Measure = nuclear_norm,
        *,
        every: int = 1,
        refresh: int = 100,
        conjugate: bool = True,
        weight: float = 1.0,
    ) -> None:
        for name, value in (("every", every), ("refresh", refresh)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise OptionError(f"{name} must be a positive integer, got {value!r}")
        if not 0 <= weight < math.inf:
            raise OptionError(f"weight must be a finite number >= 0, got {weight}")
        self.model = model
        self.measure = measure
        self.every = every
        self.refresh = refresh
        self.conjugate = as_conjugate(conjugate)
        self.weight = weight
        self._calls = 0
        self._tangents: dict[Any, Tangent] = {}

    def __call__(self) -> Tensor:
        """weight * sum over layers of f(sigma), for the model as it is now.

        Returns
        -------
        Tensor ()
            A constant zero at the calls that `every` skips.

        Raises
        ------
        lti.LTIError
            If a layer is unstable or not finite when it is balanced.
        """
        self._calls += 1
        total = torch.zeros((), dtype=torch.float64, device="cpu")
        if (self._calls - 1) % self.every:
            return total
        stale = (self._calls - 1) // self.every % self.refresh == 0
        layers, tangents = dict(ssm_layers(self.model)), {}
        for names, systems in grouped_by_shape(self.model, self.conjugate):
            if isinstance(systems[0], lti.StateSpace):  # dense Gramians have no closed form
                value = _measured(self.measure, names, systems)
                total = total.to(value.device) + value
                continue
            matrices = [torch.stack([getattr(x, k) for x in systems]) for k in ("poles", "B", "C")]
            double = precision(layers[names[0]]) == torch.float64
            dtype = torch.complex128 if double else torch.complex64
            key = (names, matrices[1].shape, dtype, matrices[1].device)
            tangent = None if stale else self._tangents.get(key)
            if tangent is None:
                with batched(names, systems) as batch:
                    tangent = tangent_of(cast(Any, batch), self.measure, dtype, self.refresh > 1)
            tangents[key] = tangent
            value = tangent(*matrices)
            total = total.to(value.device) + value
        self._tangents = tangents  # those of shapes that the model no longer has are dropped
        return self.weight * self.every * total

    def state_dict(self) -> dict[str, Any]:
        """The balancings in use and the number of calls, for a checkpoint of the run."""
        tangents = [
            {"layers": key[0], "shape": tuple(key[1]), "tangent": tuple(tangent)}
            for key, tangent in self._tangents.items()
        ]
        return {"calls": self._calls, "tangents": tangents}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned.

        Parameters
        ----------
        state : dict
            Of a penalty with the same measure. Load the model first.

        Raises
        ------
        ValueError
            If the state belongs to another model.
        """
        layers = dict(ssm_layers(self.model))
        foreign = {name for part in state["tangents"] for name in part["layers"]} - layers.keys()
        if foreign:
            raise OptionError(
                f"the state is that of a penalty of another model: this one has no {min(foreign)}; "
                "build the model that was saved"
            )
        self._calls, self._tangents = int(state["calls"]), {}
        for part in state["tangents"]:
            names = tuple(part["layers"])
            device = next(layers[names[0]].parameters()).device
            tangent = Tangent(*(x.to(device) for x in part["tangent"]))
            self._tangents[names, torch.Size(part["shape"]), tangent.M.dtype, device] = tangent
