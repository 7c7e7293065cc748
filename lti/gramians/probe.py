"""Poles of little damping that no input drives and no output reads, seen by random columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import eig

from lti._backend.arrays import Array
from lti.gramians.adi import Side, remaining
from lti.systems.pencil import Factored, Pencil
from lti.systems.rightmost import refined
from lti.systems.sparse import SparseStateSpace
from lti.systems.stability import require_stable

__all__ = ["Resonances"]

BLOCKS = 6  # solutions whose span shows the poles
SEEN = 0.1  # relative residual of a pole that is looked at
SLACK = 10.0  # times the product of both residuals: how far such a pole may be off
SAME = 1e-6  # relative distance of two values of one pole
MISSED = 1e-7  # of the sum of values: what may be left out of a mode of little damping
TRIES = 20  # poles that are refined in vain
CLEAN = 0.01  # what is left of the random columns (norm) where nothing can hide


class Resonances:
    """What the steps of a low-rank iteration leave of poles of little damping.

    A step with the shift p leaves the part ``|(t - conj(p)) / (t + p)|`` of what belongs to a pole
    t: of the well damped ones next to nothing after many steps, of one close to the boundary all.
    So it dominates what is left of a random column, however little of it is in B and C.
    """

    def __init__(self, pencil: Pencil, units: Any, sys: SparseStateSpace, real: bool) -> None:
        self.pencil, self._sys, self._real = pencil, sys, real
        poles: Any = np.asarray(sys.poles, dtype=complex)
        poles = (poles - 1) / (poles + 1) if sys.is_discrete else poles
        self._poles = poles[(poles.real < 0) & (poles.imag >= 0 if real else True)]
        self._shifts: list[complex] = []
        self._tries = TRIES
        self._sides: list[Side] = []
        if len(sys.poles) < sys.order:  # else all of them are known
            columns = np.random.default_rng(0).standard_normal((2, pencil.order, 1))
            for x, unit, dual in zip(columns, units, (False, True), strict=True):
                self._sides.append(_Probe(pencil, x / unit[:, None], unit, dual, 0.0))

    def step(self, inverse: Factored, p: complex) -> None:
        """One shift of the iteration, or in real arithmetic a pair of conjugate ones."""
        self._shifts.append(p)
        for side in self._sides:
            side.step(inverse, p, self._real)

    def shifts(self, size: float, total: float, more: bool) -> list[complex]:
        """The shift for a pole of which too much may be missed; see `missed`.

        Else, with `more`, those for what is left of the random columns, unless it is little.

        Raises
        ------
        UnstableError
            If these show a pole that is not stable.
        """
        missed, limit = self.missed(size, total), MISSED * total
        if missed.max(initial=0.0) <= limit and self._sides:
            self._search(size, total, limit)
            missed = self.missed(size, total)
        if missed.max(initial=0.0) > limit:
            return [complex(self._poles[np.argmax(missed)].conj())]
        if more and self._unseen > CLEAN:
            values = self._ritz()[0]
            values = values[values.real < 0]
            if values.size:  # where the shifts have left most
                p = complex(values[np.argmax(self._left(values))].conj())
                return [complex(p.real) if abs(p.imag) <= 1e-10 * abs(p) else p]
        return []

    def missed(self, size: float, total: float) -> Array:
        """Estimates of what the factors miss of the values of the poles that are known.

        All that both of these allow. The residuals, whose sizes have the product `size`:
        ``|w^H W| |x^H V| / decay``, with eigenvectors w and x of a pole and the residual factors W
        and V; and the shifts, which have left the part ``left^2`` of the value, at most `total`.
        """
        return self._missed(self._poles, size, total)

    def _missed(self, t: Array, size: float, total: float) -> Array:
        decay = -2 * t.real
        if self._sys.is_discrete:  # 2 (1 - |z|^2)
            decay = 4 * decay / abs(1 - t) ** 2
        return np.minimum(size / decay, total * self._left(t) ** 2)

    def _left(self, t: Array) -> Array:
        """What all shifts have left of the residuals at the poles t."""
        left = np.ones(len(t))
        for p in self._shifts:
            left = left * remaining(t, p, self._real)
        return left

    @property
    def flags(self) -> tuple[str, ...]:
        """That poles may have been overlooked, if so."""
        if self._unseen <= CLEAN and self._tries:
            return ()
        return (
            "the bound may lack modes of little damping: inputs and outputs hardly reach a part of "
            f"the system, of which {self._unseen:.1g} of a random state is left after "
            f"{len(self._shifts)} decompositions; compare with the dense form (to_dense)",
        )

    @property
    def _unseen(self) -> float:
        """What is left of the random columns, which began with a norm of one."""
        return max((side.residual for side in self._sides), default=0.0) ** 0.5

    def _search(self, size: float, total: float, limit: float) -> None:
        """Add the pole that the random columns show, of which more than `limit` may be missed."""
        values, X, Y, residuals = self._ritz()
        sizes = np.maximum(abs(values), 1e-300)
        off = SLACK * residuals.prod(axis=0) * sizes
        nearest = np.minimum(values.real + off, -1e-16 * sizes) + 1j * values.imag
        missed = self._missed(nearest, size, total)
        wanted = (residuals.min(axis=0, initial=1.0) <= SEEN) & (missed > limit)
        for i in np.argsort(-missed):
            if not wanted[i] or not self._tries or self._knows(values[i]):
                continue
            pole = refined(self.pencil, complex(values[i]), X[:, [i]], Y[:, [i]])
            if pole is not None and not self._knows(pole):
                self._add(complex(pole.real, abs(pole.imag)) if self._real else pole)
                if self.missed(size, total)[-1] > limit:
                    return
            self._tries -= 1

    def _knows(self, pole: complex) -> bool:
        return bool((abs(self._poles - pole) <= SAME * abs(pole)).any())

    def _add(self, s: complex) -> None:
        pole = (1 + s) / (1 - s) if self._sys.is_discrete else s
        self._sys.learn_poles([pole, pole.conjugate()] if self._real and pole.imag else [pole])
        if s.real >= 0:
            require_stable(self._sys)
        self._poles = np.append(self._poles, s)

    def _ritz(self) -> tuple[Array, Array, Array, Array]:
        """Poles that the last columns of both sides show, eigenvectors, residuals (2, k)."""
        X, Y = (np.linalg.qr(side.recent_columns())[0] for side in self._sides)
        AX, EX = (self.pencil.product(*which, X) for which in ((1.0, 0.0), (0.0, 1.0)))
        AY, EY = (self.pencil.adjoint_product(*which, Y) for which in ((1.0, 0.0), (0.0, 1.0)))
        found: Any = eig(Y.conj().T @ AX, Y.conj().T @ EX, left=True, right=True)
        values, V, U = found
        at = np.isfinite(values) & (values.imag >= 0 if self._real else True)
        values, U, V = values[at], U[:, at], V[:, at]
        residuals = []
        for A, E, Z, t in ((AX, EX, U, values), (AY, EY, V, values.conj())):
            a, e = A @ Z, t * (E @ Z)
            sizes = np.linalg.norm(a, axis=0) + np.linalg.norm(e, axis=0)
            residuals.append(np.linalg.norm(a - e, axis=0) / np.maximum(sizes, 1e-300))
        return values, X @ U, Y @ V, np.array(residuals)


class _Probe(Side):
    """A column of which only the last solutions are kept."""

    def _append(self, V: Array) -> None:
        self.blocks = [*self.blocks, V][-BLOCKS:]
