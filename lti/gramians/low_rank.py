"""Low-rank factors of A P E^H + E P A^H + B B^H = 0 by ADI: sparse solutions, no n x n matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import eigvals, qr

from lti._backend.arrays import Array, frobenius
from lti.errors import ConvergenceError, UnstableError
from lti.systems.pencil import Factored, Pencil, residual_units
from lti.systems.sparse import SparseStateSpace

__all__ = ["LowRank", "low_rank_factors"]

TOL = 1e-10  # |residual| / |B B^H|
DROP = 1e-8  # directions of a factor smaller than this times its largest are left out
MOST = 500  # solutions, after which an equation counts as not converging
GROWTH = 1e8  # of the residual, beyond which a pole is unstable
MISSED = 1e-7  # of the sum of values: what may be left out of a mode of little damping
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
    """

    S: Array
    R: Array
    residuals: tuple[float, float]
    hidden: float
    solves: int


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
        If the residual grows, as it does with an unstable pole.
    ConvergenceError
        If the residual is not small after 500 decompositions.

    References
    ----------
    Benner, Kuerschner, Saak, "Self-generating and efficient shift parameters in ADI methods for
    large Lyapunov and Sylvester equations", ETNA 43 (2014), and "An improved numerical method for
    balanced truncation for symmetric second-order systems", MCMDS 19 (2013).
    """
    pencil = sys.stability_pencil
    gain = 2.0**0.5 if sys.is_discrete else 1.0
    units = residual_units(pencil)
    sides = (_Side(pencil, gain * sys.B, units[0], False, drop),
             _Side(pencil, gain * sys.C.conj().T, units[1], True, drop))  # fmt: skip
    shifts: list[complex] = []
    solves, real = 0, not pencil.is_complex and all(side.W.dtype.kind == "f" for side in sides)
    before, start, growth = None, 0.0, None
    # Of what belongs to a pole, the shifts leave left^2 in either Gramian
    known, decay = _inside(sys.poles, sys.is_discrete, real)
    left = np.ones(len(known))
    while True:
        worst = max(sides, key=lambda side: side.residual)
        if before is None and worst.residual <= CHECK * tol:
            before, start = _sum_so_far(sys, sides), worst.residual
        elif worst.residual <= tol:
            missed = _missed(decay, left, sides, before or 0.0)
            if missed.max(initial=0.0) <= MISSED * (before or 0.0):
                break
            # Modes of little damping are large in a Gramian, however small in a residual
            growth = _sum_so_far(sys, sides) - (before or 0.0) if growth is None else growth
            shifts = [complex(known[np.argmax(missed)].conj())]
        if solves >= MOST:
            raise ConvergenceError(
                f"the low-rank iteration has a relative residual of {worst.residual:.2g} after "
                f"{MOST} decompositions, and {tol:.0e} is needed: the poles are very close to the "
                "stability boundary; split them off, or reduce a dense form (to_dense)"
            )
        if not worst.W.shape[1]:
            break  # no input or no output
        shifts = shifts or worst.next_shifts(real)
        p = shifts.pop(0)
        inverse = pencil.factor(1.0, p.real if real and p.imag == 0 else p)
        solves += 1
        left = left * _remaining(known, p, real)
        for side in sides:
            side.step(inverse, p, real)
            if not np.isfinite(side.residual) or side.residual > GROWTH:
                raise UnstableError(_growth(sys, side))
    # Of the sum of values, the residual hides less than its last reduction has brought: a smaller
    # reduction by 1/q^2 goes on as a geometric series. What was dropped hides less than the
    # smallest directions that were not
    S, R = (side.factor() for side in sides)
    large = [_above(X, 10 * drop).shape[1] for X in (S, R)]
    product = R.conj().T @ sys.times_E(S)
    values, less = (_scaled_sum(x, sides) for x in (product, product[: large[1], : large[0]]))
    hidden = max(0.0, values - less)
    if before is not None:
        q = min(0.99, (worst.residual / start) ** 0.5) if start else 0.0
        growth = values - before if growth is None else growth
        hidden += max(0.0, growth) * max(1.0, q / (1 - q))
        hidden += float(_missed(decay, left, sides, before).sum())
    S, R = (side.scale * X for side, X in zip(sides, (S, R), strict=True))
    hidden += 2.0**-52 * float(frobenius(S)) * float(frobenius(R))  # rounding
    return LowRank(S, R, (sides[0].residual, sides[1].residual), hidden, solves)


class _Side:
    """One of the two equations: its factor so far, and the factor W of its residual."""

    def __init__(self, pencil: Pencil, B: Array, units: Array, dual: bool, drop: float) -> None:
        self.pencil, self.dual, self.drop, self.units = pencil, dual, drop, units[:, None]
        B = self.units * B
        top = float(abs(B).max(initial=0.0)) or 1.0
        self.scale = top * float(np.linalg.norm(B / top, 2) or 1.0) if B.size else 1.0
        B = B / self.scale  # so that squares neither overflow nor vanish
        # Inputs that say the same as others take no columns
        Q, R = np.linalg.qr(B)
        U, s, _ = np.linalg.svd(R)
        self.W = Q @ _above(U * s, 1e-15) / self.units
        self.blocks: list[Array] = []
        self.columns, self.last = 0, self.W
        self.best = np.zeros((len(B), 0), dtype=B.dtype)
        self.residual = 1.0 if self.W.shape[1] else 0.0

    def product(self, a: float, e: float, X: Array) -> Array:
        return (self.pencil.adjoint_product if self.dual else self.pencil.product)(a, e, X)

    @property
    def size(self) -> float:
        """|W|, in the units of the Gramian."""
        return float(self.scale) * float(np.linalg.norm(self.W))

    def step(self, inverse: Factored, p: complex, real: bool) -> None:
        """One shift, or in real arithmetic a pair of conjugate ones."""
        if not self.W.shape[1]:
            return
        V: Any = (inverse.adjoint if self.dual else inverse.solve)(self.W)
        a = p.real
        if not real or p.imag == 0:
            self._append((-2 * a) ** 0.5 * V)
            self.W = self.W - 2 * a * self.product(0.0, 1.0, V)
        else:
            d = a / (-p.imag if self.dual else p.imag)
            X = V.real + d * V.imag
            self._append(2 * (-a) ** 0.5 * np.hstack([X, (d * d + 1) ** 0.5 * V.imag]))
            self.W = self.W - 4 * a * self.product(0.0, 1.0, X)
        W = self.units * self.W
        self.residual = float(np.linalg.norm(W.conj().T @ W, 2))

    def _append(self, V: Array) -> None:
        self.blocks.append(V)
        self.columns += V.shape[1]
        if self.columns > max(60, 1.5 * self.best.shape[1]):
            self._compress()

    def _compress(self) -> None:
        self.last, Z = self.recent_columns(), self.all_columns()
        self.blocks, self.columns = [], 0  # before the decomposition, which takes memory
        self.best = _leading(Z, self.drop)

    def all_columns(self) -> Array:
        """The factor so far, not compressed."""
        Z = np.empty((len(self.best), self.best.shape[1] + self.columns), self.W.dtype, order="F")
        return np.concatenate([self.best, *self.blocks], axis=1, out=Z)

    def factor(self) -> Array:
        """The leading directions of all columns so far; the last ones stay, for the shifts."""
        if self.blocks:
            self._compress()
        return self.best

    def recent_columns(self) -> Array:
        """The columns of the last solutions, whose span the next shifts come from."""
        if not self.blocks:
            return self.last
        found, most = [], 6 * max(self.W.shape[1], 2)
        for V in reversed(self.blocks):
            found.append(V)
            if sum(x.shape[1] for x in found) >= most:
                break
        return np.hstack(found)

    def projected_poles(self) -> Array:
        """Eigenvalues of the pencil, projected on the last columns."""
        V = self.recent_columns()
        Q, R = np.linalg.qr(V / np.maximum(np.linalg.norm(V, axis=0), 1e-300))
        sizes = abs(np.diag(R))
        Q = Q[:, sizes > 1e-10 * sizes.max(initial=0.0)]
        A, E = (Q.conj().T @ self.product(*which, Q) for which in ((1.0, 0.0), (0.0, 1.0)))
        values: Any = eigvals(A, E)
        values = values[np.isfinite(values) & (values != 0)]
        return values.conj() if self.dual else values

    def next_shifts(self, real: bool) -> list[complex]:
        """Half of the projected poles in the left half-plane; of conjugate pairs one.

        Each is the pole at which the factors ``|(t - conj(p)) / (t + p)|`` of those before leave
        most; the next half comes from newer columns.
        """
        values = self.projected_poles()
        inside = values[values.real < 0]
        if not inside.size:  # their mirror images
            inside = -abs(values.real) - 1e-8 * abs(values) + 1j * values.imag
        if not inside.size:
            raise ConvergenceError(
                "the low-rank iteration finds no shift: the projected pencil has no finite nonzero "
                "eigenvalue; check that E is nonsingular"
            )
        if real:
            inside = inside[inside.imag >= 0]
            inside = np.where(inside.imag > 1e-10 * abs(inside), inside, inside.real)
        left, candidates, shifts = np.ones(len(inside)), inside.conj(), []
        i = int(np.argmin([_remaining(inside, p, real).max() for p in candidates]))
        while len(shifts) < (len(inside) + 1) // 2:
            shifts.append(complex(candidates[i]))
            left = left * _remaining(inside, candidates[i], real)
            i = int(np.argmax(left))
        return shifts


def _inside(poles: Array, discrete: bool, real: bool) -> tuple[Array, Array]:
    """The stable ones of the poles, as those of the pencil of stability, and ``|w^H W|^2 / P``.

    Of conjugate pairs one. P is what W W^H makes of the Gramian in the direction of a pole.
    """
    poles = np.asarray(poles, dtype=complex)
    decay = 2 * (1 - abs(poles) ** 2) if discrete else -2 * poles.real
    at = (decay > 0) & (poles.imag >= 0 if real else True)
    poles = poles[at]
    return (poles - 1) / (poles + 1) if discrete else poles, decay[at]


def _remaining(t: Array, p: complex, real: bool) -> Array:
    """What a step with the shift p leaves of the residual at the poles t; of a pair, both steps."""
    left = abs((t - np.conj(p)) / (t + p))
    return left * abs((t - p) / (t + np.conj(p))) if real and p.imag else left


def _leading(Z: Array, drop: float) -> Array:
    """Z Z^H ~ S S^H with orthogonal columns, those above `drop` times the largest; Z is lost."""
    found: Any = qr(Z, mode="economic", overwrite_a=True, check_finite=False)
    Q, R = found
    U, s, _ = np.linalg.svd(R, full_matrices=False)
    return Q @ _above(U * s, drop)


def _scaled_sum(product: Array, sides: tuple[_Side, _Side]) -> float:
    """The sum of the Hankel singular values, those of R^H E S."""
    values = np.linalg.svd(product, compute_uv=False)
    return float(sides[0].scale) * (float(sides[1].scale) * float(values.sum()))


def _sum_so_far(sys: SparseStateSpace, sides: tuple[_Side, _Side]) -> float:
    """The same of the factors so far."""
    S, R = (side.all_columns() for side in sides)
    return _scaled_sum(R.conj().T @ sys.times_E(S), sides)


def _missed(decay: Array, left: Array, sides: tuple[_Side, _Side], total: float) -> Array:
    """Estimates of what the factors miss of the values of some poles, all that both of these allow.

    The residuals: ``|w^H W| |x^H V| / decay``, with eigenvectors w and x of a pole and the residual
    factors W and V; and the shifts, which have left the part ``left^2`` of the value.
    """
    return np.minimum(sides[0].size * sides[1].size / decay, total * left**2)


def _above(S: Array, drop: float) -> Array:
    """The columns of S that are larger than `drop` times the largest."""
    sizes = np.linalg.norm(S, axis=0)
    return S[:, sizes > drop * sizes.max(initial=0.0)]


def _growth(sys: SparseStateSpace, side: _Side) -> str:
    """The message of a residual that grows, with the pole that its direction shows."""
    text = "the residual of the low-rank iteration grows: "
    s = max(side.projected_poles(), key=lambda s: s.real, default=0j)
    pole = (1 + s) / (1 - s) if sys.is_discrete and s != 1 else s
    excess = abs(pole) - 1 if sys.is_discrete else pole.real
    if excess >= 0:
        text += f"a pole near {pole:.4g} is unstable; "
    return f"{text}stabilise the system first"
