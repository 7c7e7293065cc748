"""Low-rank factors of A P E^H + E P A^H + B B^H = 0 by ADI: sparse solutions, no n x n matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lti._backend.arrays import Array, frobenius
from lti.errors import ConvergenceError, LTIError, UnstableError
from lti.gramians.adi import Side, above
from lti.gramians.probe import Resonances
from lti.systems.pencil import residual_units
from lti.systems.rightmost import unstable_poles
from lti.systems.sparse import SparseStateSpace

__all__ = ["LowRank", "low_rank_factors"]

TOL = 1e-10  # |residual| / |B B^H|
DROP = 1e-8  # directions of a factor smaller than this times its largest are left out
MOST = 500  # solutions, after which an equation counts as not converging
LEAST = 100  # and at least of a small system, else as many as it has states
GROWTH = 1e8  # of the residual, beyond which a pole is unstable
SOME = 50  # solutions, or as many as before, for what is left of random columns
CHECK = 1e2  # times the tolerance: the residual from which on the estimate watches the values


@dataclass(frozen=True, eq=False)
class LowRank:
    """P ~ S S^H, Q ~ R R^H of a sparse system, both from below.

    Parameters
    ----------
    S, R : array (n, k), array (n, l)
        Factors with orthogonal columns, the largest first.
    residuals : (float, float)
        ``|A P E^H + E P A^H + B B^H| / |B B^H|``, and of the dual equation, in units in which the
        largest entries of A are about 1.
    hidden : float
        An estimate of how much the sum of all Hankel singular values is larger than that of the
        computed ones.
    solves : int
        Number of sparse decompositions.
    flags : tuple of str
        What the user should know of them.
    """

    S: Array
    R: Array
    residuals: tuple[float, float]
    hidden: float
    solves: int
    flags: tuple[str, ...] = ()


def low_rank_factors(sys: SparseStateSpace, tol: float = TOL, drop: float = DROP) -> LowRank:
    """Both factors by the alternating-direction implicit iteration in residual form.

    ``V = (A + p E)^-1 W``, ``W <- W - 2 Re(p) E V``, with ``S = [sqrt(-2 Re p) V, ...]`` and the
    residual ``W W^H``. The shifts p are eigenvalues of the pencil, projected on the last columns.
    A pair of conjugate shifts takes one solution and real arithmetic; both equations share every
    decomposition.

    Parameters
    ----------
    sys : SparseStateSpace
    tol : float, optional
        The iteration stops at this relative residual.
    drop : float, optional
        Relative size of the directions that are left out of the factors.

    Returns
    -------
    LowRank

    Raises
    ------
    UnstableError
        If the residual grows because of an unstable pole.
    ConvergenceError
        If it grows without one, as where A is far from normal, or is not small after as
        many decompositions as the system has states, 100 at least and 500 at most.

    References
    ----------
    Benner, Kuerschner, Saak, "Self-generating and efficient shift parameters in ADI methods for
    large Lyapunov and Sylvester equations", ETNA 43 (2014), and "An improved numerical method for
    balanced truncation for symmetric second-order systems", MCMDS 19 (2013).
    """
    pencil = sys.stability_pencil
    gain = 2.0**0.5 if sys.is_discrete else 1.0
    units = residual_units(pencil)
    sides = (Side(pencil, gain * sys.B, units[0], False, drop),
             Side(pencil, gain * sys.C.conj().T, units[1], True, drop))  # fmt: skip
    shifts: list[complex] = []
    solves, real = 0, not pencil.is_complex and all(side.W.dtype.kind == "f" for side in sides)
    before, start, growth, most = None, 0.0, None, None
    limit = min(MOST, max(LEAST, sys.order))
    resonances = Resonances(pencil, units, sys, real)
    while True:
        worst = max(sides, key=lambda side: side.residual)
        size = sides[0].size * sides[1].size
        if before is None and worst.residual <= CHECK * tol:
            # Modes of little damping are large in a Gramian, however small in a residual
            if most is None:
                most, total = min(limit, solves + max(solves, SOME)), _sum_so_far(sys, sides)
            at_end = size * min(1.0, tol / worst.residual) if worst.residual else 0.0
            shifts = resonances.shifts(at_end, total, solves < most)
            if not shifts:
                before, start = _sum_so_far(sys, sides), worst.residual
        elif before is not None and worst.residual <= min(tol, 0.1 * start):
            shifts = resonances.shifts(size, before, False)
            if not shifts:
                break
            growth = _sum_so_far(sys, sides) - before if growth is None else growth
        if solves >= limit:
            raise ConvergenceError(
                f"the low-rank iteration has a relative residual of {worst.residual:.2g} after "
                f"{limit} decompositions, and {tol:.0e} is needed: the poles are very close to the "
                "stability boundary; split them off, or reduce a dense form (to_dense)"
            )
        if not worst.W.shape[1]:
            break  # no input or no output
        shifts = shifts or worst.next_shifts(real)
        p = shifts.pop(0)
        inverse = pencil.factor(1.0, p.real if real and p.imag == 0 else p)
        solves += 1
        resonances.step(inverse, p)
        for side in sides:
            side.step(inverse, p, real)
            if not np.isfinite(side.residual) or side.residual > GROWTH:
                raise _growth(sys, side)
    # Of the sum of values, the residual hides less than its last reduction has brought: a smaller
    # reduction by 1/q^2 goes on as a geometric series. What was dropped hides less than the
    # smallest directions that were not
    S, R = (side.factor() for side in sides)
    large = [above(X, 10 * side.drop).shape[1] for side, X in zip(sides, (S, R), strict=True)]
    product = R.conj().T @ sys.times_E(S)
    values, less = (_scaled_sum(x, sides) for x in (product, product[: large[1], : large[0]]))
    hidden = max(0.0, values - less)
    if before is not None:
        q = min(0.99, (worst.residual / start) ** 0.5) if start else 0.0
        growth = values - before if growth is None else growth
        hidden += max(0.0, growth) * max(1.0, q / (1 - q))
        hidden += float(resonances.missed(sides[0].size * sides[1].size, before).sum())
    S, R = (side.scale * X for side, X in zip(sides, (S, R), strict=True))
    hidden += 2.0**-52 * float(frobenius(S)) * float(frobenius(R))  # rounding
    residuals = sides[0].residual, sides[1].residual
    return LowRank(S, R, residuals, hidden, solves, resonances.flags)


def _scaled_sum(product: Array, sides: tuple[Side, Side]) -> float:
    """The sum of the Hankel singular values, those of R^H E S."""
    values = np.linalg.svd(product, compute_uv=False)
    return float(sides[0].scale) * (float(sides[1].scale) * float(values.sum()))


def _sum_so_far(sys: SparseStateSpace, sides: tuple[Side, Side]) -> float:
    """The same of the factors so far."""
    S, R = (side.all_columns() for side in sides)
    return _scaled_sum(R.conj().T @ sys.times_E(S), sides)


def _growth(sys: SparseStateSpace, side: Side) -> LTIError:
    """The error of a residual that grows: the pole that its direction shows, if it is one."""
    text = "the residual of the low-rank iteration grows"
    finite = np.isfinite(side.W).all() and len(sys.poles) < sys.order
    s = max(side.projected_poles() if finite else [], key=lambda s: s.real, default=-1.0 + 0j)
    if s.real >= 0 and unstable_poles(side.pencil, s, False).size:
        pole = (1 + s) / (1 - s) if sys.is_discrete and s != 1 else s
        return UnstableError(
            f"{text}: a pole near {pole:.4g} is unstable; stabilise the system first"
        )
    return ConvergenceError(
        f"{text}, and no unstable pole is found: the system is far from normal, so that the poles "
        "of its projections, from which the shifts come, are far from its own; reduce a dense form "
        "(to_dense)"
    )
