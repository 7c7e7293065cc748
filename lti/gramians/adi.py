"""A Lyapunov equation by the alternating-direction implicit iteration in residual form."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
from scipy.linalg import eigvals, qr

from lti._backend.arrays import Array
from lti.errors import ConvergenceError, OptionError
from lti.systems.pencil import Factored, Pencil

__all__ = ["Side", "above", "remaining"]


class Side:
    """One of the two equations: its factor so far, and the factor W L of its residual.

    Of B = U diag(s) X^H, W begins as U s^1/2 and L = diag(s)^1/2, relative to the largest: a small
    direction of the inputs counts by what it adds to the values, not by its square.
    """

    def __init__(self, pencil: Pencil, B: Array, units: Array, dual: bool, drop: float) -> None:
        self.pencil, self.dual, self.units = pencil, dual, units[:, None]
        B = self.units * B
        top = float(abs(B).max(initial=0.0)) or 1.0
        self.scale = top * float(np.linalg.norm(B / top, 2) or 1.0) if B.size else 1.0
        B = B / self.scale  # so that squares neither overflow nor vanish
        # Inputs that say the same as others take no columns
        Q, R = np.linalg.qr(B)
        U, s, _ = np.linalg.svd(R)
        k = int(np.count_nonzero(s > 1e-15 * s.max(initial=0.0)))
        self.level = np.sqrt(s[:k])
        self.drop = max(drop * float(self.level.min(initial=1.0)), 1e-14)
        self.W = Q @ (U[:, :k] * self.level) / self.units
        self.blocks: list[Array] = []
        self.columns, self.last = 0, self.W
        self.best = np.zeros((len(B), 0), dtype=B.dtype)
        self.residual = 1.0 if self.W.shape[1] else 0.0

    def product(self, a: float, e: float, X: Array) -> Array:
        return (self.pencil.adjoint_product if self.dual else self.pencil.product)(a, e, X)

    @property
    def size(self) -> float:
        """|W|, in the units of the Gramian."""
        return float(self.scale) * float(np.linalg.norm(self.W * self.level))

    def step(self, inverse: Factored, p: complex, real: bool) -> None:
        """One shift, or in real arithmetic a pair of conjugate ones."""
        if not self.W.shape[1]:
            return
        V: Any = (inverse.adjoint if self.dual else inverse.solve)(self.W)
        a = p.real
        if not real or p.imag == 0:
            self._append((-2 * a) ** 0.5 * self.level * V)
            self.W = self.W - 2 * a * self.product(0.0, 1.0, V)
        else:
            d = a / (-p.imag if self.dual else p.imag)
            X = V.real + d * V.imag
            columns = [self.level * X, (d * d + 1) ** 0.5 * self.level * V.imag]
            self._append(2 * (-a) ** 0.5 * np.hstack(columns))
            self.W = self.W - 4 * a * self.product(0.0, 1.0, X)
        W = self.units * self.W
        square = W.conj().T @ W
        self.residual = float(np.linalg.norm(square, 2)) if np.isfinite(square).all() else np.inf

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

    def projected_poles(self, V: Array = None) -> Array:
        """Eigenvalues of the pencil, projected on V, or on the last columns."""
        V = self.recent_columns() if V is None else V
        Q, R = np.linalg.qr(V / np.maximum(np.linalg.norm(V, axis=0), 1e-300))
        sizes = abs(np.diag(R))
        Q = Q[:, sizes > 1e-10 * sizes.max(initial=0.0)]
        A, E = (Q.conj().T @ self.product(*which, Q) for which in ((1.0, 0.0), (0.0, 1.0)))
        values: Any = eigvals(A, E)
        values = values[np.isfinite(values) & (values != 0)]
        return values.conj() if self.dual else values

    def _larger_space(self) -> Array:
        """[V, E^-1 A V, A^-1 E V] of the last columns V, or of the dual pencil."""
        V = self.recent_columns()
        spaces = [V]
        for (a, e), factors in (((1.0, 0.0), (0.0, 1.0)), ((0.0, 1.0), (1.0, 0.0))):
            with contextlib.suppress(OptionError):  # A is singular
                inverse = self.pencil.factor(*factors)
                solve = inverse.adjoint if self.dual else inverse.solve
                spaces.append(solve(self.product(a, e, V)))
        found = np.hstack(spaces)
        return found[:, np.isfinite(found).all(axis=0)]

    def next_shifts(self, real: bool) -> list[complex]:
        """Half of the projected poles in the left half-plane; of conjugate pairs one.

        Each is the pole at which the factors ``|(t - conj(p)) / (t + p)|`` of those before leave
        most; the next half comes from newer columns.
        """
        values: Any = self.projected_poles()
        if not (values.real < 0).any():  # as where A is skew on these columns
            values = np.concatenate([values, self.projected_poles(self._larger_space())])
        inside = values[values.real < 0]
        if not inside.size:  # their mirror images
            inside = -abs(values.real) - 1e-8 * abs(values) + 1j * values.imag
        if not inside.size:
            raise ConvergenceError(
                "the low-rank iteration finds no shift: projected on its columns V, A V and A^-1 V "
                "the pencil has no eigenvalue but zero; reduce a dense form (to_dense)"
            )
        if real:
            inside = inside[inside.imag >= 0]
            inside = np.where(inside.imag > 1e-10 * abs(inside), inside, inside.real)
        left, candidates, shifts = np.ones(len(inside)), inside.conj(), []
        i = int(np.argmin([remaining(inside, p, real).max() for p in candidates]))
        while len(shifts) < (len(inside) + 1) // 2:
            shifts.append(complex(candidates[i]))
            left = left * remaining(inside, candidates[i], real)
            i = int(np.argmax(left))
        return shifts


def remaining(t: Array, p: complex, real: bool) -> Array:
    """What a step with the shift p leaves of the residual at the poles t; of a pair, both steps."""
    left = abs((t - np.conj(p)) / (t + p))
    return left * abs((t - p) / (t + np.conj(p))) if real and p.imag else left


def _leading(Z: Array, drop: float) -> Array:
    """Z Z^H ~ S S^H with orthogonal columns, those above `drop` times the largest; Z is lost."""
    found: Any = qr(Z, mode="economic", overwrite_a=True, check_finite=False)
    Q, R = found
    U, s, _ = np.linalg.svd(R, full_matrices=False)
    return Q @ above(U * s, drop)


def above(S: Array, drop: float) -> Array:
    """The columns of S that are larger than `drop` times the largest."""
    sizes = np.linalg.norm(S, axis=0)
    return S[:, sizes > drop * sizes.max(initial=0.0)]
