"""Pencils: products with a A + e E and solutions of (a A + e E) X = F, without a dense matrix."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
from scipy.sparse import csc_matrix, diags_array, eye_array
from scipy.sparse.linalg import splu

from lti._backend.arrays import Array
from lti.errors import OptionError
from lti.systems.cholesky import definite_solver
from lti.systems.equilibrate import even_units, largest_to_one, rescaled
from lti.systems.irreducible import irreducible_blocks

__all__ = [
    "Factored",
    "MappedPencil",
    "MatrixPencil",
    "Pencil",
    "ScaledPencil",
    "cayley",
    "nearly_symmetric",
    "nonsingular_factor",
    "residual_units",
    "sparse_factor",
]

Scalar = complex | float
PANEL = 4  # columns of SuperLU's panels: supernodes of sparse factors are narrow


@dataclass(frozen=True)
class Factored:
    """X -> (a A + e E)^-1 X and X -> (a A + e E)^-H X."""

    solve: Callable[[Array], np.ndarray]
    adjoint: Callable[[Array], np.ndarray]


class Pencil(Protocol):
    """What low-rank methods need of A and E: products, adjoint products and solutions."""

    @property
    def order(self) -> int:
        """Number of states n."""
        ...

    @property
    def is_complex(self) -> bool:
        """Whether A or E is complex."""
        ...

    def product(self, a: Scalar, e: Scalar, X: Array) -> Array:
        """(a A + e E) X."""
        ...

    def adjoint_product(self, a: Scalar, e: Scalar, X: Array) -> Array:
        """(a A + e E)^H X."""
        ...

    def factor(self, a: Scalar, e: Scalar) -> Factored:
        """(a A + e E)^-1, or `OptionError` if the matrix is singular."""
        ...


class MatrixPencil:
    """The pencil of two sparse matrices; E = None is the identity."""

    def __init__(self, A: Any, E: Any = None) -> None:
        self.A: Any = csc_matrix(A)
        self.E: Any = None if E is None else csc_matrix(E)
        self._identity = eye_array(self.order, format="csc")

    @property
    def order(self) -> int:
        """Number of states n."""
        return self.A.shape[0]

    @property
    def is_complex(self) -> bool:
        """Whether A or E is complex."""
        return "c" in (self.A.dtype.kind, "f" if self.E is None else self.E.dtype.kind)

    def product(self, a: Scalar, e: Scalar, X: Array) -> Array:
        """(a A + e E) X."""
        Y = a * (self.A @ X) if a else 0.0
        return Y + e * (X if self.E is None else self.E @ X) if e else Y

    def adjoint_product(self, a: Scalar, e: Scalar, X: Array) -> Array:
        """(a A + e E)^H X."""
        Y = np.conj(a) * (self.A.conj().T @ X) if a else 0.0
        return Y + np.conj(e) * (X if self.E is None else self.E.conj().T @ X) if e else Y

    def factor(self, a: Scalar, e: Scalar) -> Factored:
        """(a A + e E)^-1 by a sparse LU decomposition."""
        E = self._identity if self.E is None else self.E
        M = a * self.A + e * E if a and e else a * self.A if a else e * E
        return sparse_factor(M, f"{a:.6g} A + {e:.6g} E", self._symmetric)

    def row_sums(self, a: Scalar, e: Scalar) -> Array:
        """|a A| 1 + |e E| 1 (n,)."""
        E = self._identity if self.E is None else self.E
        return sum(np.ravel(abs(x * M).sum(axis=1)) for x, M in ((a, self.A), (e, E)))

    def equilibrated(self, B: Array, C: Array) -> tuple[Pencil, Array, Array]:
        """(L A R, L E R), even and then with the largest entries of E about 1; l and r."""
        E = self._identity if self.E is None else self.E
        left, right, w = even_units((self.A, E), B, C)
        left = w * left
        u, v = largest_to_one(rescaled(E, left, right))
        left, right = u * left, v * right
        return MatrixPencil(*(rescaled(x, left, right) for x in (self.A, E))), left, right

    def irreducible(self) -> tuple[Array, list[Pencil]]:
        """The poles of small irreducible diagonal blocks, and the large ones as pencils."""
        E = self._identity if self.E is None else self.E
        poles, large = irreducible_blocks((self.A, E), _eigenvalues)
        if len(large) == 1 and not poles.size:
            return poles, [self]
        return poles, [MatrixPencil(A, E) for A, E in large]

    @cached_property
    def residual_units(self) -> tuple[Array, Array]:
        """Those of A."""
        return largest_to_one(self.A)

    @cached_property
    def _symmetric(self) -> bool:
        return nearly_symmetric(abs(self.A) + abs(self._identity if self.E is None else self.E))


def _eigenvalues(A: Array, E: Array) -> Array:
    """Those of the dense pencils (A, E) (k, s, s)."""
    return np.linalg.eigvals(np.linalg.solve(E, A))


class MappedPencil:
    """(p A + q E, r A + s E): the poles mapped by a fraction, (p z + q) / (r z + s).

    Parameters
    ----------
    pencil : Pencil
    p, q, r, s : float
    """

    def __init__(self, pencil: Pencil, p: float, q: float, r: float = 0.0, s: float = 1.0) -> None:
        self._of, self._map = pencil, ((p, q), (r, s))
        self.order, self.is_complex = pencil.order, pencil.is_complex

    def product(self, a: Scalar, e: Scalar, X: Array) -> Array:
        """(a (p A + q E) + e (r A + s E)) X."""
        a, e = self._mapped(a, e)
        return self._of.product(a, e, X)

    def adjoint_product(self, a: Scalar, e: Scalar, X: Array) -> Array:
        """(a (p A + q E) + e (r A + s E))^H X."""
        a, e = self._mapped(a, e)
        return self._of.adjoint_product(a, e, X)

    def factor(self, a: Scalar, e: Scalar) -> Factored:
        """(a (p A + q E) + e (r A + s E))^-1."""
        a, e = self._mapped(a, e)
        return self._of.factor(a, e)

    def _mapped(self, a: Scalar, e: Scalar) -> tuple[Scalar, Scalar]:
        (p, q), (r, s) = self._map
        return a * p + e * r, a * q + e * s


def cayley(pencil: Pencil) -> MappedPencil:
    """(A - E, A + E): what is stable in discrete time for (A, E) is in continuous time for it.

    ``(A - E) P (A + E)^H + (A + E) P (A - E)^H = 2 (A P A^H - E P E^H)``, so that the Gramian is
    the same, of sqrt(2) B.
    """
    return MappedPencil(pencil, 1.0, -1.0, 1.0, 1.0)


class ScaledPencil:
    """L^-1 (a A + e E) R^-1: a pencil (A, E) of even entries in the units of the user.

    Parameters
    ----------
    pencil : Pencil
    left, right : array (n,)
        The diagonals l and r.
    """

    def __init__(self, pencil: Pencil, left: Array, right: Array) -> None:
        self.of, self._left, self._right = pencil, left[:, None], right[:, None]
        self.order, self.is_complex = pencil.order, pencil.is_complex

    def product(self, a: Scalar, e: Scalar, X: Array) -> Array:
        """L^-1 (a A + e E) R^-1 X."""
        return self.of.product(a, e, X / self._right) / self._left

    def adjoint_product(self, a: Scalar, e: Scalar, X: Array) -> Array:
        """R^-1 (a A + e E)^H L^-1 X."""
        return self.of.adjoint_product(a, e, X / self._left) / self._right

    def factor(self, a: Scalar, e: Scalar) -> Factored:
        """R (a A + e E)^-1 L."""
        inverse = self.of.factor(a, e)
        return Factored(lambda X: self._right * inverse.solve(self._left * X),
                        lambda X: self._left * inverse.adjoint(self._right * X))  # fmt: skip

    def equilibrated(self, B: Array, C: Array) -> tuple[Pencil, Array, Array]:
        """The pencil (A, E), with l and r."""
        return self.of, self._left[:, 0], self._right[:, 0]


def residual_units(pencil: Pencil) -> Any:
    """l and r (n,) of A with largest entries of 1: there slow and fast states count alike."""
    return getattr(pencil, "residual_units", np.ones((2, pencil.order)))


def sparse_factor(M: Any, name: str = "the matrix", symmetric: bool | None = None) -> Factored:
    """M^-1, or `OptionError` if elimination breaks down."""
    M = csc_matrix(M)
    M.sum_duplicates()
    if solve := definite_solver(M):
        return Factored(solve, solve)
    try:
        lu = _decomposed(M, symmetric)
    except RuntimeError as error:
        raise OptionError(
            f"{name} is singular ({error}): a pole lies there, or the pencil is singular; move the "
            "frequency or shift a little, or remove states that no equation determines"
        ) from error
    is_complex = M.dtype.kind == "c"
    return Factored(partial(_solved, lu, is_complex, "N"),
                    partial(_solved, lu, is_complex, "H" if is_complex else "T"))  # fmt: skip


def nonsingular_factor(M: Any, name: str, remedy: str, symmetric: bool | None = None) -> Factored:
    """M^-1, or `OptionError` if the pivots say that M is singular to working precision.

    Of M with rows, and then columns, of one size, so that no units decide.
    """
    M, scale = csc_matrix(M), []
    for axis in (1, 0):
        sizes = np.ravel(abs(M).max(axis=axis).toarray())
        scale.append((1 / np.where(sizes > 0, sizes, 1.0))[:, None])
        by = diags_array(scale[-1][:, 0])
        M = csc_matrix(by @ M if axis else M @ by)
    lu: Any = None
    with contextlib.suppress(RuntimeError):
        lu = _decomposed(M, symmetric)
    pivots = np.zeros(1) if lu is None else abs(lu.U.diagonal())
    if pivots.min(initial=1.0) <= 1e-14:
        raise OptionError(f"{name} is singular; {remedy}")
    (left, right), is_complex = scale, M.dtype.kind == "c"
    return Factored(
        lambda X: right * _solved(lu, is_complex, "N", left * X),
        lambda X: left * _solved(lu, is_complex, "H" if is_complex else "T", right * X),
    )


def _decomposed(M: Any, symmetric: bool | None) -> Any:
    """By SuperLU, with an ordering for M + M^T where the pattern is nearly symmetric."""
    if not (nearly_symmetric(M) if symmetric is None else symmetric):
        return splu(M)
    options = {"SymmetricMode": True}
    return splu(M, "MMD_AT_PLUS_A", diag_pivot_thresh=0.1, panel_size=PANEL, options=options)


def _solved(lu: Any, is_complex: bool, trans: str, X: Any) -> Array:
    """The solution by a decomposition, whose dtype need not be that of X."""
    if X.dtype.kind == "c" and not is_complex:
        return _solved(lu, False, trans, X.real) + 1j * _solved(lu, False, trans, X.imag)
    return lu.solve(np.array(X, dtype=complex if is_complex else float, order="F"), trans)


def nearly_symmetric(M: Any) -> bool:
    """Whether most entries off the diagonal have a partner."""
    pattern = csc_matrix(M, dtype=bool, copy=True)
    both = pattern.multiply(pattern.T).nnz
    return both >= 0.8 * pattern.nnz
