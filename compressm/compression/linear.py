"""The cut of a linear layer: balance its system, slice an order, try the result on a copy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

import lti
from compressm.compression.distance import distance
from compressm.compression.event import LayerCut
from compressm.compression.forward import refuse_broken
from compressm.compression.proposal import (
    LoadSystem,
    Plan,
    Proposal,
    cut_copy,
    parameter_count,
    refuse_tied,
    unchanged,
)
from compressm.errors import SkipError
from compressm.gramians.moments import TIMES, input_width
from compressm.gramians.output_error import output_at, outputs, relative_error
from compressm.layers import SSMLayer
from compressm.ops.precision import HALF
from compressm.ops.resize import tensors_of
from compressm.systems.batches import System, precision
from compressm.systems.convert import directions, layer_input, output_is_the_system, to_lti
from compressm.systems.find import stored_states
from compressm.systems.foreign import family_of

__all__ = ["LinearPlan", "RoundingError", "refuse_unwritable"]

MARGIN = 1e-5  # from the unit circle, within which a layer may refuse a pole
PRECISER = "fewer states, or train in double precision"
ROUNDING_LIMIT = 1e-3  # relative; rounding of this size is accepted, however small the cut's error


@dataclass(frozen=True, eq=False, kw_only=True)
class LinearPlan(Plan):
    """A linear layer as a balanced system, from which every order is a slice.

    Parameters
    ----------
    system : lti.DiagonalStateSpace or lti.StateSpace
        The system of the layer; a batch of systems if each channel is a separate one.
    factors : (S, R)
        Gramian factors; None for an exact Gramian.

    Raises
    ------
    SkipError, lti.LTIError
        If the layer cannot be balanced.
    """

    system: System
    factors: tuple[Tensor | None, Tensor | None]

    def __post_init__(self) -> None:
        if not self.hsv.any():
            raise SkipError("its Hankel singular values are all zero")

    @cached_property
    def balancing(self) -> lti.Balancing:
        """The system in balanced coordinates."""
        S, R = self.factors
        if S is not None and R is None:
            R = self._structured
        return lti.balance(self.system, controllability=S, observability=R)

    @property
    def _structured(self) -> lti.GramianFactor | None:
        """The exact observability Gramian, where the layer knows a quicker way to it."""
        if not (isinstance(self.layer, SSMLayer) and isinstance(self.system, lti.StateSpace)):
            return None
        R = self.layer.observability_factor(self.system)
        return None if R is None else lti.GramianFactor(R, name="")

    @cached_property
    def hsv(self) -> np.ndarray:
        """Hankel singular values (..., n)."""
        return self.balancing.hsv.cpu().numpy()

    @property
    def bounded(self) -> bool:
        """Whether the values bound the error."""
        return self.gramians.bounded

    @property
    def gain(self) -> float:
        """Factor of the error bound: sqrt(2) for two directions, as their errors add up, else 1."""
        return directions(self.layer) ** 0.5

    @property
    def real(self) -> bool:
        """Whether the system is real, so that a conjugate pair is stored as one state."""
        return isinstance(self.system, lti.StateSpace) or self.system.conjugate

    @cached_property
    def before(self) -> int:
        """Stored states of the layer as it is."""
        return stored_states(self.layer)

    # ------------------------------------------------------------------ orders and stored states

    def stored(self, order: int) -> int:
        """Stored states at that order, rounded up to an allowed size."""
        needed = int(self._stored_by_channel(order).max())
        return self.sizes.at_least(needed, max(needed, self.before))

    @cached_property
    def _ranks(self) -> Tensor:
        """The rank of each channel, as a batch has the columns of its system of highest rank."""
        return (self.balancing.right != 0).any(-2).sum(-1)

    @cached_property
    def _stored_by_channel(self) -> Callable[[int], Tensor]:
        """From an order to the stored states of every channel."""
        return cache(lambda order: self._stored_of(order, ...))

    def _stored_of(self, order: int, channels: Any) -> Tensor:
        """The stored states of `channels`: one for each pole in the closed upper half-plane."""
        ranks = self._ranks[channels].clamp(max=order)
        if not self.real:
            return ranks
        k = int(ranks.max())
        poles = torch.linalg.eigvals(self.balancing.balanced.A[channels][..., :k, :k])
        return (poles.imag >= 0).sum(-1) - (k - ranks)  # zero rows where a channel has less

    def _orders_within(self, n_stored: int) -> Tensor:
        """The highest order of each channel that `n_stored` stored states can hold."""
        order = min(2 * n_stored if self.real else n_stored, self.balancing.minimal_order)
        orders = torch.where(self._stored_by_channel(order) <= n_stored, self._ranks, 0)
        orders.clamp_(max=order)
        while order > 1 and bool((missing := (orders == 0) & (self._ranks > 0)).any()):
            order -= 1
            ranks = self._ranks[missing].clamp(max=order)
            orders[missing] = torch.where(self._stored_of(order, missing) <= n_stored, ranks, 0)
        return orders

    # ------------------------------------------------------------------ the cut

    def at(
        self,
        order: int,
        owners: Counter[int],
        reselect_order: Callable[[LinearPlan], int] | None = None,
    ) -> Proposal:
        """The cut at `order`, or at the highest order that needs no more stored states.

        Where the reduced system is not stable, the exact observability Gramian replaces another
        one. The Hankel singular values change with it, so `reselect_order` selects the order again;
        without that function the number of stored states stays the same.
        """
        plan, n_stored = self, self.stored(order)
        while True:
            if n_stored >= plan.before:
                return unchanged(plan)
            try:
                return plan._within(n_stored, owners)
            except _UnstableReduction as error:
                if plan.factors[1] is None:
                    raise
                plan = plan.with_exact_observability(error.unstable)
            if reselect_order is not None:
                order = reselect_order(plan)
                n_stored = plan.stored(order)

    def _within(self, n_stored: int, owners: Counter[int]) -> Proposal:
        """The cut at the highest orders that `n_stored` stored states can hold."""
        orders = self._orders_within(n_stored)
        reduced = self._truncated(orders)
        system, condition = self._diagonal(reduced)
        system = _padded(system, self.sizes.at_least(n := system.poles.shape[-1], max(n, n_stored)))
        try:
            _refuse_unstable(system)
            if self.factors[1] is None and isinstance(self.layer, SSMLayer):
                write = LoadSystem(_held(system, precision(self.layer)))
            else:  # an exact Gramian may keep the poles farther inside
                write = LoadSystem(system)
            trial = cut_copy(self.layer, write)
        except lti.UnstableError as error:
            unstable = (system.poles.abs() > 1 - MARGIN).any(-1)
            raise _UnstableReduction(error.args[0], unstable) from error
        after = system.poles.shape[-1]
        if stored_states(trial) != after:
            raise SkipError(
                f"load_lti_ left it with {stored_states(trial)} states where {after} were to be "
                "written"
            )
        refuse_tied(self.layer, trial, owners)
        written = to_lti(trial, conjugate=self.real)
        refuse_broken(self.forward_pass, trial, partial(self._changes, written))
        loss, peak = distance(written, system, reduced)
        rounding = loss / peak if peak else 0.0
        if not self._bears(rounding, written, reduced):
            dtype = precision(self.layer)
            raise RoundingError(
                f"written in {dtype}, in diagonal form with eigenvectors of condition number "
                f"{condition:.1e}, it would differ from the reduced system by {rounding:.1e} of "
                "its peak, and rounding would change its output by more than the cut does; ask for "
                + ("fewer states" if dtype == torch.float64 else PRECISER)
            )
        bounds = self.balancing.error_bounds.take_along_dim(orders[..., None], -1)
        kept = np.arange(self.hsv.shape[-1]) < orders.cpu().numpy()[..., None]
        cut = LayerCut(
            self.name,
            self.before,
            after,
            int(orders.max()),
            self.hsv,
            error_bound=self.gain * (float(bounds.max()) + rounding * peak),
            energy_kept=float(self.hsv[kept].sum() / self.hsv.sum()),
            condition=condition,
            parameters=(parameter_count(self.layer), parameter_count(trial)),
            rounding=rounding,
            gramians=self.gramians.name,
        )
        return Proposal(cut, write)

    def _bears(self, rounding: float, written: System, reduced: lti.StateSpace) -> bool:
        """Whether rounding changes the output by no more than the cut does, or the limit.

        The cut is measured in balanced coordinates: in diagonal ones large terms may cancel.
        """
        if rounding < ROUNDING_LIMIT:
            return True
        of_cut, of_both = map(self._change, (reduced, written))
        if of_cut is None or of_both is None:  # nothing was held out
            return False
        return of_both <= 2 * max(of_cut, ROUNDING_LIMIT)

    def output_error_at(self, order: int) -> float | None:
        """The output error of the system truncated to that `order`."""
        full, r = self.balancing.balanced, min(order, self.balancing.minimal_order)
        A, B, C = full.A[..., :r, :r], full.B[..., :r, :], full.C[..., :r]
        reduced = lti.StateSpace(A, B, C, None, full.dt)
        return self._change(reduced)

    def output_error(self, write: LoadSystem) -> float | None:
        """The output error of the layer as written, on the sequences held out."""
        written = to_lti(cut_copy(self.layer, write), conjugate=self.real)
        return self._change(written)

    @cached_property
    def _outputs(self) -> list[Tensor]:
        """Of the system, for the sequences held out."""
        return list(outputs(self.system, self.held_out, directions(self.layer)))

    def _change(self, reduced: System) -> float | None:
        """The output error of another system."""
        other = outputs(reduced, self.held_out, directions(self.layer))
        return relative_error(zip(self._outputs, other, strict=True))

    def _changes(
        self, written: System, u: Tensor
    ) -> tuple[slice, list[tuple[Tensor, Tensor]]] | None:
        """The output before and after the cut, if it is of the state after the update, or before.

        None if the names of its parameters do not say that its output is that of the system.
        """
        u, ways = layer_input(self.layer, u).to(written.B.device), directions(self.layer)
        by_name = isinstance(self.layer, SSMLayer) or family_of(self.layer) is not None
        fits = u.ndim == 3 and u.shape[-1] == input_width(written)
        if not (by_name and fits and output_is_the_system(self.layer)):
            return None
        J = max(1, u.shape[1] // TIMES)
        inputs = [u, pad(u, (0, 0, 1, 0))[:, :-1]][: 3 - ways]
        full, cut = ([output_at(x, v, J, ways) for v in inputs] for x in (self.system, written))
        return slice(J - 1, None, J), list(zip(full, cut, strict=True))

    def with_exact_observability(self, unstable: Tensor) -> LinearPlan:
        """This plan with the exact observability Gramian, in the channels that are unstable.

        With one exact Gramian the reduced system is stable.
        """
        S, R = self.factors
        exact = lti.gramian_factors(self.system)[1]
        if R is not None and R.shape == exact.shape and unstable.any() and not unstable.all():
            norm = torch.linalg.matrix_norm
            scale = (norm(R) / norm(exact).clamp(min=1e-300))[..., None, None]  # as large as R
            mixed = torch.where(unstable[..., None, None], exact * scale, R)
            if not torch.equal(mixed, R):
                return replace(self, factors=(S, mixed))
        return replace(self, factors=(S, None), gramians=self.gramians.fallback or self.gramians)

    def _truncated(self, orders: Tensor) -> lti.StateSpace:
        """The reduced systems in balanced coordinates, padded to equal size."""
        full, r = self.balancing.balanced, int(orders.max())
        kept = torch.arange(r, device=orders.device) < orders[..., None]
        A = full.A[..., :r, :r] * kept[..., None] * kept[..., None, :]
        B, C = full.B[..., :r, :] * kept[..., None], full.C[..., :r] * kept[..., None, :]
        return lti.StateSpace(A, B, C, None, full.dt)

    def _diagonal(self, reduced: lti.StateSpace) -> tuple[lti.DiagonalStateSpace, float]:
        """The reduced systems in diagonal form, padded to equal size, and its condition number."""
        modal, condition = lti.diagonalize(reduced, conjugate=self.real)
        idle = ~((modal.B != 0).any(-1) | (modal.C != 0).any(-2))
        n = int((~idle).sum(-1).max())  # idle modes are sorted last, then dropped
        first = idle.to(torch.uint8).argsort(dim=-1, stable=True)[..., :n]
        poles = modal.poles.take_along_dim(first, -1)
        B = modal.B.take_along_dim(first[..., None], -2)
        C = modal.C.take_along_dim(first[..., None, :], -1)
        modal = lti.DiagonalStateSpace(poles, B, C, None, reduced.dt, self.real)
        return modal, float(condition.max() if isinstance(condition, Tensor) else condition)


def _padded(system: lti.DiagonalStateSpace, n: int) -> lti.DiagonalStateSpace:
    """The system with copies of its modes that no output sees, but can learn to: n states."""
    before = system.poles.shape[-1]
    if n == before:
        return system
    again = torch.arange(n - before, device=system.poles.device) % before
    return replace(
        system,
        poles=torch.cat([system.poles, system.poles[..., again]], -1),
        B=torch.cat([system.B, system.B[..., again, :]], -2),
        C=torch.cat([system.C, torch.zeros_like(system.C[..., again])], -1),
    )


class RoundingError(SkipError):
    """A cut that the precision of the parameters would spoil."""


class _UnstableReduction(lti.UnstableError):
    """A reduced system is not stable; `unstable` marks the channels."""

    def __init__(self, message: str, unstable: Tensor) -> None:
        super().__init__(message)
        self.unstable = unstable


def refuse_unwritable(layer: nn.Module) -> None:
    """SkipError if a tensor with states is computed, so not to be resized, or in half precision."""
    if isinstance(layer, SSMLayer):
        missing = layer.state_axes.keys() - dict(layer.named_parameters()).keys()
        if missing:
            raise SkipError(
                f"{', '.join(sorted(missing))} is no parameter of the layer, as it is pruned or "
                "parametrized; undo that first"
            )
        states = {name: layer.get_parameter(name) for name in layer.state_axes}
    elif (family := family_of(layer)) is not None:
        tensors = tensors_of(layer)
        states = {name: tensors[name] for name in family.with_states}
    else:
        return
    if half := [name for name, x in states.items() if x.dtype in HALF]:
        raise SkipError(
            f"in half precision, as {', '.join(half)} are, rounding errors add up along the "
            "recurrence; cast the layer to float32, and use torch.autocast"
        )


def _refuse_unstable(system: lti.DiagonalStateSpace) -> None:
    largest = float(system.poles.abs().max()) if system.poles.numel() else 0.0
    if not largest < 1:
        raise lti.UnstableError(f"the reduced system would have a pole of modulus {largest:.9g}")


def _held(system: lti.DiagonalStateSpace, dtype: torch.dtype) -> lti.DiagonalStateSpace:
    """The system with the slowest poles where parameters of that dtype still hold them."""
    bound = 1 - 4 * torch.finfo(dtype).eps
    return replace(system, poles=system.poles * (bound / system.poles.abs().clamp(min=bound)))
