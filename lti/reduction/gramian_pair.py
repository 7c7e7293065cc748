"""The two Gramians that are balanced: exact, weighted, limited, or user-supplied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, cast

from lti._backend.arrays import (
    Array,
    H,
    from_numpy,
    is_like,
    spectral_norm,
    to_numpy,
    widen,
)
from lti._backend.checks import as_array, common, no_derivative, one_of
from lti.errors import DimensionError, OptionError
from lti.gramians.exact import double_factors, exact_factors
from lti.gramians.limited import frequency_limited_factors, time_limited_factors
from lti.gramians.supplied import GramianFactor, named
from lti.gramians.weighted import modified_input, weighted_factor
from lti.hankel import error_bound, product_scale, square_root
from lti.norms import hinf_norm
from lti.systems.algebra import dual, static
from lti.systems.convert import as_statespace
from lti.systems.moved import MovedPencil
from lti.systems.operators import product
from lti.systems.protocol import System, SystemLike
from lti.systems.sparse import SparseStateSpace
from lti.systems.split import Split
from lti.systems.stability import require_stable
from lti.systems.statespace import DiagonalStateSpace, StateSpace

__all__ = ["GramianPair", "choose_pair"]

RULES = {"enns": "Enns", "lin-chiu": "Lin and Chiu", "wang": "Wang"}

Factor = Array | GramianFactor
FactorSource = Factor | Callable[[StateSpace], Factor]
"""A factor, or a function that makes one of the stable part of a system."""


@dataclass(frozen=True, eq=False, kw_only=True)
class GramianPair:
    """P = S S^H, Q = R R^H, and what theory says of truncation in their balanced coordinates.

    Parameters
    ----------
    S, R : array (..., n, k), array (..., n, l)
        In double precision.
    name : str
        What the two Gramians are, in words, as `Reduction.method` shows it; empty for those of the
        system itself.
    error_bounds : callable, optional
        From the values sigma (..., n), descending, to the error bounds (..., n + 1) of the orders 0
        to n; None where theory has no bound. `lti.error_bound` is that of exact Gramians.
    residual_bounds : callable, optional
        The same for singular perturbation, where theory has a bound of it that truncation lacks.
    weights : (W_o, W_i), optional
        The bounded error is ``W_o (G - G_r) W_i``; None stands for the identity.
    of_system : (bool, bool), optional
        Whether P, and Q, is the Gramian of the system itself. In torch, derivatives then follow its
        Lyapunov equation, and else the factor.
    roundoff_gain : float, optional
        The rounding of the factors in units of ``eps |R| |S|``, as far as it is known.
    roundoff : float, optional
        What rounding of A may have moved the values by beyond that.
    hidden : float, optional
        An estimate of what low-rank factors leave out of the sum of the values: then the error
        bounds are estimates.
    flags : tuple of str, optional
        What the user of a reduction should know of the factors.
    modifiable : bool, optional
        Whether ``weighting="wang"`` of `balance` modifies these Gramians: then the reduced system
        is stable, with a bound.

    Examples
    --------
    >>> import lti, numpy as np
    >>> def bounded_real(G):
    ...     P = np.eye(G.order)  # here, the solutions of two Riccati equations
    ...     return lti.GramianPair(S=P, R=P, name="bounded-real", error_bounds=lti.error_bound)
    >>> sys = lti.StateSpace(np.diag([-1.0, -2.0]), np.ones((2, 1)), np.ones((1, 2)))
    >>> lti.balance(sys, gramians=bounded_real).truncate(2).method
    'balanced truncation, Gramians bounded-real'
    """

    S: Array
    R: Array
    name: str
    error_bounds: Callable[[Array], Array] | None = None
    residual_bounds: Callable[[Array], Array] | None = None
    weights: tuple[StateSpace | None, StateSpace | None] = (None, None)
    of_system: tuple[bool, bool] = (False, False)
    roundoff_gain: float = 1.0
    roundoff: float = 0.0
    hidden: float | None = None
    flags: tuple[str, ...] = ()
    modifiable: bool = False

    @property
    def remedy(self) -> str:
        """What else gives a stable reduced system with a bound, to end a sentence with."""
        return ', or balance with weighting="wang"' if self.modifiable else ""

    @cached_property
    def product_scale(self) -> Array:
        """| |R|^H |S| |_F (...): what ``R^H S`` is rounded to."""
        return product_scale(self.S, self.R)


def choose_pair(
    parts: Split,
    *,
    gramians: Callable[[StateSpace], GramianPair] | None = None,
    controllability: FactorSource | None = None,
    observability: FactorSource | None = None,
    input_weight: SystemLike | None = None,
    output_weight: SystemLike | None = None,
    weighting: str = "enns",
    frequencies: Any = None,
    times: Any = None,
) -> tuple[Split, GramianPair]:
    """The Gramians that the options of `balance` ask for, of the stable part of a system.

    Also the parts, with the stable one in the coordinates of the factors.
    """
    sys = parts.stable
    one_of("weighting", weighting, RULES)
    if isinstance(sys, SparseStateSpace):
        if weighted_or_limited := [
            name for name, value in (("gramians", gramians), ("input_weight", input_weight),
            ("output_weight", output_weight), ("frequencies", frequencies), ("times", times),
            ("weighting", None if weighting == "enns" else weighting)) if value is not None
        ]:  # fmt: skip
            raise OptionError(
                f"{', '.join(weighted_or_limited)}= needs dense matrices, and the system is "
                "sparse; pass sys.to_dense(), or factors as controllability= and observability="
            )
        return parts, _sparse_pair(parts, controllability, observability)
    limited = frequencies is not None or times is not None
    weighted = input_weight is not None or output_weight is not None
    supplied = controllability is not None or observability is not None
    if gramians is not None:
        if limited or weighted or supplied or weighting != "enns":
            raise OptionError(
                "gramians= makes both Gramians and what they promise; leave weights, limits, "
                "controllability= and observability= out"
            )
        return parts, _made_pair(gramians, sys)
    if frequencies is not None and times is not None:
        raise OptionError("frequencies and times cannot both be limited; leave one of them out")
    if weighting == "lin-chiu" and not weighted:
        raise OptionError('weighting="lin-chiu" is a rule for weights; give a weight, or "wang"')
    W_i = _weight("input_weight", input_weight, sys)
    W_o = _weight("output_weight", output_weight, sys)
    if (W_i and controllability is not None) or (W_o and observability is not None):
        raise OptionError("a user-supplied factor has its weight in it; leave one of the two out")
    if weighted or limited:
        no_derivative("a weighted or limited Gramian has", *sys.matrices)
    if weighting == "wang" and not (weighted or limited or supplied):
        raise OptionError(
            'weighting="wang" changes Gramians that are weighted, limited or user-supplied; leave '
            "it out"
        )
    if not (weighted or limited or supplied):
        found = exact_factors(sys)
        if found.X is not None:
            parts = parts.with_stable(found.system, found.X, found.inverse)
        return parts, GramianPair(
            S=found.S, R=found.R, name="", error_bounds=error_bound, of_system=(True, True),
            roundoff_gain=found.roundoff_gain, roundoff=found.roundoff,
        )  # fmt: skip
    exact = (controllability is None and not W_i, observability is None and not W_o)
    plain, factors_of, names = (None, None), double_factors, []
    given = [getattr(x, "name", None) == "" for x in (controllability, observability)]
    if limited or not any((*exact, *given)):
        require_stable(sys)
    elif any(exact):  # where the poles are checked as well
        plain = double_factors(sys if all(exact) else _read_only(sys, *exact))

    dense, k = sys.to_dense(), parts.rest.order
    systems, weights = (dense, dual(dense)), (W_i, dual(W_o) if W_o else None)
    own = (
        _supplied("controllability", controllability, systems[0], parts.W, k),
        _supplied("observability", observability, systems[1], H(parts.T), k),
    )
    if frequencies is not None:
        factors_of, names = partial(frequency_limited_factors, bands=frequencies), ["band-limited"]
    elif times is not None:
        factors_of, names = partial(time_limited_factors, windows=times), ["time-limited"]
    if W_i or W_o:
        names.append(f"weighted by the rule of {RULES[weighting]}")
    names += dict.fromkeys(x.name for x in own if x is not None and x.name)
    if limited and any(exact):
        plain = factors_of(sys)

    factors, gain = [], spectral_norm(sys.B[..., :0, :0]) + 1.0
    for G, weight, supply, one in zip(systems, weights, own, plain, strict=True):
        S = one if supply is None else supply.factor
        if weight:
            S = weighted_factor(G, weight, weighting, factors_of)
        if weighting == "wang" and (limited or weight or supply is not None):
            S, gain = _repaired(G, S, weight, gain)
        factors.append(S)
    return parts, GramianPair(
        S=factors[0],
        R=factors[1],
        name=", ".join(names),
        error_bounds=partial(_scaled_bounds, gain) if weighting == "wang" else None,
        weights=(W_o, W_i),
        of_system=(own[0] is None, own[1] is None),
        modifiable=weighting != "wang",
    )


def _read_only(sys: Any, inputs: bool, outputs: bool) -> Any:
    """The system without the inputs, or the outputs, whose Gramian nobody reads."""
    diagonal = isinstance(sys, DiagonalStateSpace)
    if not (sys.batch_shape or diagonal):  # both show what rounding costs, and which units do not
        return sys
    B, C = sys.B if inputs else sys.B[..., :0], sys.C if outputs else sys.C[..., :0, :]
    return replace(sys, B=B, C=C, D=None)


def _sparse_pair(
    parts: Split, controllability: FactorSource | None, observability: FactorSource | None
) -> GramianPair:
    """Low-rank factors of a sparse system, or those that the user supplies."""
    sys: Any = parts.stable
    left, right = cast(Any, parts.scaling)
    own = (
        _supplied("controllability", controllability, parts.as_given, None, 0),
        _supplied("observability", observability, parts.as_given, None, 0),
    )
    found: Any = exact_factors(sys) if None in own else None
    S, R = (
        getattr(found, name) if x is None else x.factor / unit
        for name, x, unit in zip("SR", own, (right[:, None], left[:, None]), strict=True)
    )
    if isinstance(sys.pencil, MovedPencil):  # of snapshots, the stable part
        S, R = sys.pencil.without(S), sys.pencil.without_adjoint(R)
    names = dict.fromkeys(x.name for x in own if x is not None)
    hidden = None if found is None or names else float(found.hidden)
    return GramianPair(
        S=S,
        R=R,
        name=", ".join(names),
        error_bounds=None if hidden is None else partial(_estimated_bounds, hidden),
        hidden=hidden,
        flags=() if found is None or names else found.flags,
    )


def _estimated_bounds(hidden: float, sigma: Array) -> Array:
    """The bounds of the values that are known, and twice the estimate of the sum of the others."""
    bounds = error_bound(sigma)
    bounds[:-1] += 2 * hidden
    return bounds


def _scaled_bounds(gain: Array, sigma: Array) -> Array:
    """The bounds of exact Gramians, times the gain (...) of the larger input and output."""
    return gain[..., None] * error_bound(sigma)


def _made_pair(gramians: Callable[[StateSpace], GramianPair], sys: System) -> GramianPair:
    """The pair that a function makes of the stable part of a system, checked."""
    require_stable(sys)
    G = sys.to_dense()
    pair = gramians(G)
    if not isinstance(pair, GramianPair):
        raise OptionError(
            f"gramians= must return a GramianPair, got a {type(pair).__name__}; for one Gramian "
            "only, pass controllability= or observability="
        )
    S, R = (_checked(name, x, G, G.order) for name, x in (("S", pair.S), ("R", pair.R)))
    return replace(pair, S=S, R=R)


def _repaired(
    G: StateSpace, S: Array, weight: StateSpace | None, gain: Array
) -> tuple[Array, Array]:
    """A factor of the Gramian of (A, B_e), and the gain times ||J W||_inf, B = B_e J."""
    if not G.order:
        return S, gain
    B, J = modified_input(G, S)
    S, _ = double_factors(StateSpace(G.A, B, G.C[..., :0, :], None, G.dt))
    if weight is None:
        return S, gain * spectral_norm(J)
    return S, gain * hinf_norm(product(static(J, weight.dt), weight))


def _weight(name: str, weight: SystemLike | None, sys: System) -> StateSpace | None:
    """A weight as a stable dense system in the array library of `sys`."""
    if weight is None:
        return None
    W: StateSpace = as_statespace(weight).to_dense().double()
    no_derivative(f"a Gramian weighted by {name} has", *W.matrices)
    if W.batch_shape not in ((), tuple(sys.batch_shape)):
        raise DimensionError(
            f"{name} is a batch of shape {W.batch_shape}, the system one of {sys.batch_shape}; "
            "pass one weight for all, or one for each"
        )
    require_stable(W, f"{name}: ", "pass its stable spectral factor, which has the same gain")
    # States that do nothing are left out: the rule of Lin and Chiu would take them for ones that do
    _, right, left = square_root(*double_factors(W))
    if right.shape[-1] < W.order:
        W = StateSpace(left @ W.A @ right, left @ W.B, W.C @ right, W.D, W.dt)
    A, B, C, D = (from_numpy(to_numpy(x), sys.B) for x in W.matrices)
    return StateSpace(A, B, C, D, W.dt)


def _supplied(
    name: str, source: FactorSource | None, G: Any, move: Any, k: int
) -> GramianFactor | None:
    """A user-supplied factor for G, the stable part of a system or its dual, checked.

    An array is in the coordinates of the whole system, to which `move` belongs; a function is
    called with G.
    """
    if source is None:
        return None
    made = callable(source)
    given = named(source(G) if made else source)
    factor = _checked(name, given.factor, G, G.order if made or move is None else move.shape[-1])
    if k and move is not None and not made:
        factor = move[..., k:, :] @ factor
    return replace(given, factor=factor)


def _checked(name: str, factor: Any, G: System, n: int) -> Array:
    """A factor of n rows in double precision and in the array library of G."""
    factor = as_array(factor)
    if not is_like(factor, G.B):
        factor = from_numpy(to_numpy(factor), G.B)
    factor, batch = common(**{name: factor})[0], tuple(G.batch_shape)
    if factor.ndim < 2 or factor.shape[-2] != n or tuple(factor.shape[:-2]) not in ((), batch):
        raise DimensionError(
            f"{name} has shape {tuple(factor.shape)}, but the system has {n} states; a factor is "
            f"{(*batch, n, 'k')}, or one for all systems of a batch"
        )
    return widen(factor)
