"""What a cut does to one layer: its system balanced, an order, the smaller layer tried out."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

import lti
from compressm.compression.policies import Kind
from compressm.errors import SkipError
from compressm.gramians.moments import output_error, relative_error
from compressm.gramians.signals import Signal
from compressm.layers import SSMLayer
from compressm.systems.convert import directions, is_supported, load_lti_, to_lti
from compressm.systems.selective import given_out, is_selective, keep_states_, state_count
from compressm.systems.stacks import System, precision

__all__ = [
    "LayerCut",
    "Plan",
    "Selection",
    "copied",
    "left_alone",
    "refuse_parametrized",
    "stored_states",
]

EPS = 2.0**-52
MARGIN = 1e-5  # from the unit circle, within which a layer may refuse a pole
Again = Callable[["Plan"], int]
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
    gramians : str
        What weighed the states: "model", "input" or "data", see `Compressor`; empty if nothing did.
        "input" as well where stability took the exact observability Gramian in place of "data".
    output_error : float or None
        Measured on inputs that had no part in the reduction, each eighth sequence observed: the
        root mean square of the change of the system's output, relative to that of the output, see
        `output_error`; of a selective layer, of all that it gives out. None where fewer than eight
        sequences were observed, an output is not finite, or nothing was cut.
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
    gramians: str = ""
    output_error: float | None = None


def copied(module: nn.Module) -> nn.Module:
    """A deep copy, also of modules that hold on to results, which torch would not copy."""
    held = (x for m in module.modules() for x in vars(m).values() if isinstance(x, Tensor))
    return copy.deepcopy(module, {id(x): x.detach() for x in held if not x.is_leaf})


def left_alone(
    name: str, layer: nn.Module, reason: str | None, plan: Plan | Selection | None
) -> LayerCut:
    """The cut that was none."""
    try:
        n = stored_states(layer)
    except lti.LTIError:
        n = 0  # nothing could be read
    hsv, flops = (plan.hsv, _flops(plan.G, n)) if plan else (np.empty(0), 0)
    held = _held(layer)
    return LayerCut(
        name,
        n,
        n,
        hsv.shape[-1],
        hsv,
        parameters=(held, held),
        flops=(flops, flops),
        skipped=reason,
        gramians=plan.gramians if plan else "",
    )


def stored_states(layer: nn.Module) -> int:
    """`d_state` of a layer, if it has one, or the number of its poles."""
    if is_selective(layer) and not is_supported(layer):
        return state_count(layer)
    n = getattr(layer, "d_state", None)
    return to_lti(layer).poles.shape[-1] if n is None else n


class Plan:
    """What is to be done to a layer; the layer itself is not changed."""

    def __init__(
        self,
        name: str,
        layer: nn.Module,
        G: System,
        factors: tuple[Tensor | None, Tensor | None],
        multiple_of: int,
        held: Sequence[Signal] = (),
    ) -> None:
        self.name, self.layer, self.G, self.stored = name, layer, G, stored_states(layer)
        self.multiple_of = multiple_of
        self.held = held  # back from the factors, to try the cut on
        # The errors of two directions, at w and at -w, add up to sqrt(2) times that of both at most
        self.gain = directions(layer) ** 0.5
        self.real = isinstance(G, lti.StateSpace) or G.conjugate
        self.found: lti.DiagonalStateSpace | None = None
        self._balance(*factors)

    def _balance(self, S: Tensor | None, R: Tensor | None) -> None:
        self.factors = S, R
        self.gramians: Kind = "model" if S is None else "input" if R is None else "data"
        self.balancing = lti.balance(self.G, controllability=S, observability=R)
        self.hsv = self.balancing.hsv.cpu().numpy()
        if not self.hsv.any():
            raise SkipError("its Hankel singular values are all zero")
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

    def prepare(self, order: int, owners: Counter[int], again: Again | None = None) -> LayerCut:
        """The cut at `order`, or rather at the highest orders that need no more slots.

        Where stability takes other Gramians, `again` says the order by their values; without it
        the cut keeps its slots.
        """
        self.found = None
        n_slots = self.slots(order)
        full = order >= self.balancing.minimal_order
        if n_slots >= self.stored:
            reason = (
                f"order {order} needs all {self.stored} stored states, as some of its eigenvalues "
                "are real and take one each; ask for a lower order"
            )
            raise SkipError(None if full or self.multiple_of > 1 else reason)
        return self._in_slots(n_slots, owners, again)

    def _in_slots(self, n_slots: int, owners: Counter[int], again: Again | None) -> LayerCut:
        trial = copied(self.layer)
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
            if again is None:
                cut = steadier._in_slots(n_slots, owners, None)
            else:
                cut = steadier.prepare(again(steadier), owners, again)
            self.found = steadier.found
            return cut
        if stored_states(trial) != modal.poles.shape[-1]:
            raise SkipError(
                f"load_lti_ left it with {stored_states(trial)} states where "
                f"{modal.poles.shape[-1]} were to be written"
            )
        _refuse_tied(self.layer, trial, owners)
        distance, peak = _distance(to_lti(trial, conjugate=self.real), modal)
        rounding = (distance / peak if peak else 0.0) + condition * EPS
        if not rounding < ROUNDING_LIMIT:
            raise SkipError(
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
            gramians=self.gramians,
        )

    def measured(self) -> float | None:
        """The output error of the cut that `prepare` found, on the inputs held out."""
        found = self.found
        return found and output_error(self.G, found, self.held, directions(self.layer))

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


class Selection:
    """Which states of a selective layer stay: those that are worth most."""

    G, gain = None, 1.0

    def __init__(
        self,
        name: str,
        layer: nn.Module,
        values: np.ndarray,
        gramians: Kind,
        multiple_of: int,
        held: Sequence[Signal] = (),
    ) -> None:
        self.name, self.layer, self.multiple_of = name, layer, multiple_of
        self.gramians, self.held = gramians, held
        self.ranking = np.argsort(-values, kind="stable")
        self.hsv = values[self.ranking]
        self.found: list[int] | None = None
        if not self.hsv.any():
            raise SkipError("the values of its states are all zero")

    def slots(self, order: int) -> int:
        """Stored states at that order, in multiples of what was asked for."""
        return min(-(-order // self.multiple_of) * self.multiple_of, len(self.hsv))

    def prepare(self, order: int, owners: Counter[int], again: Again | None = None) -> LayerCut:
        """The cut at `order`; of the states that stay, their order among each other does too."""
        self.found, n, before = None, self.slots(order), len(self.hsv)
        if n == before:
            raise SkipError(None)
        kept, trial = sorted(self.ranking[:n].tolist()), copied(self.layer)
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
            gramians=self.gramians,
        )

    def measured(self) -> float | None:
        """The output error of the cut that `prepare` found, on the inputs held out."""
        if self.found is None:
            return None
        trial = copied(self.layer)
        keep_states_(trial, self.found)
        inputs = (signal.u for signal in self.held)
        return relative_error((given_out(self.layer, u), given_out(trial, u)) for u in inputs)


def refuse_parametrized(layer: nn.Module) -> None:
    """No shape can be given to what is computed from other parameters at each use."""
    if isinstance(layer, SSMLayer):
        missing = layer.state_axes.keys() - dict(layer.named_parameters()).keys()
        if missing:
            raise SkipError(
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
        raise SkipError(f"{', '.join(tied)} is also a parameter of another module; untie it first")


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
