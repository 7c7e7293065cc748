"""Which Gramians are balanced: exact, weighted, limited, or given; each only as a factor."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from lti._backend.arrays import (
    Array,
    H,
    from_numpy,
    is_like,
    spectral_norm,
    to_numpy,
    tracked,
    widen,
)
from lti._backend.checks import as_array, common, one_of
from lti.errors import DerivativeError, DimensionError, OptionError
from lti.gramians.exact import double_factors, known_factors
from lti.gramians.limited import frequency_limited_factors, time_limited_factors
from lti.gramians.supplied import GramianFactor
from lti.gramians.weighted import modified_input, weighted_factor
from lti.hankel import square_root
from lti.norms import hinf_norm
from lti.systems.algebra import dual, series, static
from lti.systems.convert import as_statespace
from lti.systems.split import Split
from lti.systems.stability import require_stable
from lti.systems.statespace import StateSpace, System

__all__ = ["Factors", "choose_factors"]

Gramians = Callable[[Any], tuple[Array, Array]]
RULES = {"enns": "Enns", "lin-chiu": "Lin and Chiu", "wang": "Wang"}


@dataclass(frozen=True, eq=False)
class Factors:
    """P = S S^H, Q = R R^H, and what theory says of truncation in their balanced coordinates.

    Parameters
    ----------
    S, R : array (..., n, k), array (..., n, l)
        In double precision.
    gain : array (...)
        The error is at most ``gain * 2 * sum(distinct sigma)``; infinite where no bound is known.
    weights : (W_o, W_i)
        That error is ``W_o (G - G_r) W_i``; None stands for the identity.
    name : str
        What they are, in words; empty for the Gramians of the system.
    loss : float
        Their rounding in units of ``eps |R| |S|``, as far as it is known.
    far : bool
        Whether the poles are known to be far from the stability boundary.
    """

    S: Array
    R: Array
    gain: Array
    weights: tuple[StateSpace | None, StateSpace | None] = (None, None)
    name: str = ""
    loss: float = 1.0
    far: bool = False


def choose_factors(
    parts: Split,
    *,
    controllability: GramianFactor | None = None,
    observability: GramianFactor | None = None,
    input_weight: System | None = None,
    output_weight: System | None = None,
    weighting: str = "enns",
    frequencies: Any = None,
    times: Any = None,
) -> Factors:
    """The factors that the options of `balance` ask for, of the stable part of a system."""
    sys, k = parts.stable, parts.rest.order
    one_of("weighting", weighting, RULES)
    if frequencies is not None and times is not None:
        raise OptionError("frequencies and times cannot both be limited; leave one of them out")
    weighted = input_weight is not None or output_weight is not None
    if weighting == "lin-chiu" and not weighted:
        raise OptionError('weighting="lin-chiu" is a rule for weights; give a weight, or "wang"')
    gramians: Gramians = double_factors
    names = []
    if frequencies is not None:
        gramians, names = partial(frequency_limited_factors, bands=frequencies), ["band-limited"]
    elif times is not None:
        gramians, names = partial(time_limited_factors, windows=times), ["time-limited"]
    limited = bool(names)
    W_i = _weight("input_weight", input_weight, sys)
    W_o = _weight("output_weight", output_weight, sys)
    given = (
        _given("controllability", controllability, parts.W, k, sys),
        _given("observability", observability, H(parts.T), k, sys),
    )
    if (W_i and given[0] is not None) or (W_o and given[1] is not None):
        raise OptionError("a given factor has its weight in it; leave one of the two out")
    if W_i or W_o:
        names.append(f"weighted by the rule of {RULES[weighting]}")
    if any(x is not None for x in given):
        names += dict.fromkeys(x.name for x in (controllability, observability) if x is not None)
    gain = spectral_norm(sys.B[..., :0, :0]) + 1.0
    if (weighted or limited) and tracked(*sys.matrices):
        raise DerivativeError(
            "weights and limits have no derivative; detach the system from its graph first"
        )
    if weighting == "wang" and not names:
        raise OptionError(
            'weighting="wang" changes Gramians that are weighted, limited or given; leave it out'
        )
    if not names:
        S, R, loss, far = known_factors(sys)
        return Factors(S, R, gain, loss=loss, far=far)
    require_stable(sys)

    dense, plain = sys.to_dense(), (None, None)
    if any(x is None and not W for x, W in zip(given, (W_i, W_o), strict=True)):
        plain = gramians(sys)
    factors = []
    sides = zip((dense, dual(dense)), (W_i, dual(W_o) if W_o else None), given, plain, strict=True)
    for G, weight, known, exact in sides:
        S = known if known is not None else exact
        if weight:
            S = weighted_factor(G, weight, weighting, gramians)
        if limited or weight or known is not None:
            S, gain = _repaired(G, S, weight, gain) if weighting == "wang" else (S, gain * math.inf)
        factors.append(S)
    return Factors(factors[0], factors[1], gain, (W_o, W_i), ", ".join(names))


def _repaired(
    G: StateSpace, S: Array, weight: StateSpace | None, gain: Array
) -> tuple[Array, Array]:
    """The Gramian of (A, B_e), and the gain times ||J W||_inf, B = B_e J."""
    B, J = modified_input(G, S)
    S, _ = double_factors(StateSpace(G.A, B, G.C[..., :0, :], None, G.dt))
    if weight is None:
        return S, gain * spectral_norm(J)
    return S, gain * hinf_norm(series(static(J, weight.dt), weight))


def _weight(name: str, weight: System | None, sys: System) -> StateSpace | None:
    """A weight as a stable dense system in the array library of `sys`."""
    if weight is None:
        return None
    W: StateSpace = as_statespace(weight).to_dense().double()
    if W.batch_shape not in ((), tuple(sys.batch_shape)):
        raise DimensionError(
            f"{name} is a stack of shape {W.batch_shape}, the system one of {sys.batch_shape}; "
            "pass one weight for all, or one for each"
        )
    require_stable(W, f"{name}: ", "pass its stable spectral factor, which has the same gain")
    # States that do nothing are left out: the rule of Lin and Chiu would take them for ones that do
    _, right, left = square_root(*double_factors(W))
    if right.shape[-1] < W.order:
        W = StateSpace(left @ W.A @ right, left @ W.B, W.C @ right, W.D, W.dt)
    A, B, C, D = (from_numpy(to_numpy(x), sys.B) for x in W.matrices)
    return StateSpace(A, B, C, D, W.dt)


def _given(
    name: str, given: GramianFactor | None, move: Array, k: int, sys: System
) -> Array | None:
    """A given factor in double precision, checked, in the coordinates of the stable part."""
    if given is None:
        return None
    factor: Any = as_array(given.factor)
    if not is_like(factor, sys.B):
        factor = from_numpy(to_numpy(factor), sys.B)
    factor = common(**{name: factor})[0]
    n, stack = move.shape[-1], tuple(sys.batch_shape)
    if factor.ndim < 2 or factor.shape[-2] != n or tuple(factor.shape[:-2]) not in ((), stack):
        raise DimensionError(
            f"{name} has shape {tuple(factor.shape)}, but the system has {n} states; a factor is "
            f"{(*stack, n, 'k')}, or one for all of a stack"
        )
    factor = widen(factor)
    return move[..., k:, :] @ factor if k else factor
