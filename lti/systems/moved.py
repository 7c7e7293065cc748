"""A pencil some of whose poles are moved to one place, by their two invariant subspaces."""

from __future__ import annotations

from typing import Any

import numpy as np

from lti._backend.arrays import Array
from lti.errors import OptionError
from lti.systems.pencil import Factored, Pencil, Scalar, residual_units

__all__ = ["MovedPencil"]

NUDGE = 1e-6  # of the place: a shift that hits a moved pole is moved this far
REFINEMENTS = 3


class MovedPencil:
    """A + E X (s - L) W E with A X = E X L, W A = L W E, W E X = I: the poles L of A moved to s.

    Only the poles: for a system without their part, ``W B = 0`` and ``C X = 0``, nothing else
    changes.

    Parameters
    ----------
    pencil : Pencil
    X, W : array (n, k), array (k, n)
    place : float
        The stable place s.
    """

    def __init__(self, pencil: Pencil, X: Array, W: Array, place: float) -> None:
        self._of, self._X, self._W, self._place = pencil, X, W, place
        self.order, self.is_complex = pencil.order, pencil.is_complex
        self._EX = pencil.product(0.0, 1.0, X)
        self._WE = pencil.adjoint_product(0.0, 1.0, W.conj().T).conj().T

    @property
    def residual_units(self) -> Any:
        """Those of the pencil itself."""
        return residual_units(self._of)

    def without(self, x: Array) -> Array:
        """(1 - X W E) x: the part of a state that the moved poles do not have."""
        return x - self._X @ (self._WE @ x)

    def without_input(self, f: Array) -> Array:
        """(1 - E X W) f: the same of a right-hand side."""
        return f - self._EX @ (self._W @ f)

    def without_output(self, C: Array) -> Array:
        """C (1 - X W E)."""
        return C - (C @ self._X) @ self._WE

    def without_adjoint(self, X: Array) -> Array:
        """(1 - E X W)^H x: the same of a state of the dual system."""
        return X - self._W.conj().T @ (self._EX.conj().T @ X)

    def product(self, a: Scalar, e: Scalar, X: Array) -> Array:
        """(a A + e E) X."""
        moved = (e + a * self._place) * (self._EX @ (self._WE @ X))
        return self.without_input(self._of.product(a, e, self.without(X))) + moved

    def adjoint_product(self, a: Scalar, e: Scalar, X: Array) -> Array:
        """(a A + e E)^H X."""
        Y = self._of.adjoint_product(a, e, self.without_adjoint(X))
        moved = np.conj(e + a * self._place) * (self._WE.conj().T @ (self._EX.conj().T @ X))
        return self._left(Y) + moved

    def factor(self, a: Scalar, e: Scalar) -> Factored:
        """By the decomposition of the pencil itself."""
        place = e + a * self._place
        try:
            inverse, nudged = self._of.factor(a, e), False
        except OptionError:  # a moved pole lies there
            at = e + NUDGE * a * (abs(self._place) + abs(e / a if a else 0.0))
            inverse, nudged = self._of.factor(a, at), True

        def solve(F: Array) -> Array:
            F_rest = self.without_input(F)
            x = self.without(inverse.solve(F_rest))
            for _ in range(REFINEMENTS * nudged):
                left = F_rest - self.without_input(self._of.product(a, e, x))
                x = x + self.without(inverse.solve(left))
            return x + self._X @ (self._W @ F) / place

        def adjoint(F: Array) -> Array:
            F_rest = self._left(F)
            x = self.without_adjoint(inverse.adjoint(F_rest))
            for _ in range(REFINEMENTS * nudged):
                left = F_rest - self._left(self._of.adjoint_product(a, e, x))
                x = x + self.without_adjoint(inverse.adjoint(left))
            return x + self._W.conj().T @ (self._X.conj().T @ F) / np.conj(place)

        return Factored(solve, adjoint)

    def _left(self, F: Array) -> Array:
        """(1 - X W E)^H F."""
        return F - self._WE.conj().T @ (self._X.conj().T @ F)
