"""Sparse systems: E x' = A x + B u or E x[k+1] = A x[k] + B u[k], y = C x + D u."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np
from scipy.sparse import csc_matrix, issparse

from lti._backend.arrays import Array, is_tensor, widen
from lti._backend.checks import common, timebase
from lti._backend.condition import inverse_singular_to_rounding
from lti.errors import DenseWarning, DimensionError, NonFiniteError, OptionError, warn
from lti.systems.constrained import ConstrainedPencil
from lti.systems.index_one import IndexOnePencil, algebraic_part
from lti.systems.irreducible import SMALL
from lti.systems.labels import Labels
from lti.systems.pencil import (
    Factored,
    MatrixPencil,
    Pencil,
    ScaledPencil,
    cayley,
    nonsingular_factor,
)
from lti.systems.rightmost import some_poles
from lti.systems.statespace import StateSpace, _check_labels, _describe

__all__ = ["SparseStateSpace", "as_sparse"]

MOST_DENSE = 20_000  # states; a dense A takes 3.2 GB then


@dataclass(frozen=True, eq=False)
class SparseStateSpace:
    """E x' = A x + B u or E x[k+1] = A x[k] + B u[k], y = C x + D u, with sparse A and E.

    Parameters
    ----------
    A : sparse matrix (n, n), or a pencil
        Any format of `scipy.sparse`, real or complex. Or an object with the members of
        `lti.systems.pencil.Pencil` (products and solutions with ``a A + e E``), which then also
        stands for E.
    B : array or sparse matrix (n, m)
        Input matrix; stored dense, as it has few columns.
    C : array or sparse matrix (p, n)
        Output matrix; stored dense, as it has few rows.
    D : array (p, m), optional
        Feedthrough; zero if left out.
    E : sparse matrix or array (n, n), optional
        The identity if left out. It is nonsingular, or has zero rows and columns for algebraic
        equations that determine as many states (index 1), or with as many multipliers restrict
        the others (index 2, as in Stokes flow, or 3, as in mechanics); these are then eliminated
        without being solved, and a reduction is one of the system without them.
    dt : float or True, optional
        As in `StateSpace`.
    labels : Labels, optional
        As in `StateSpace`.

    Raises
    ------
    DimensionError
        If shapes or types do not fit together.
    NonFiniteError
        If an entry is NaN or infinite.
    TimebaseError
        If `dt` is not a time base.

    Notes
    -----
    `frequency_response`, `dcgain`, `gramian_factors`, `hankel_singular_values`, `hankel_norm`,
    `balance`, `balanced_truncation`, `singular_perturbation`, `second_order_truncation`, `irka` and
    `verify` work with sparse solutions. All other functions make the system dense, up to 20,000
    states, with a `DenseWarning`.

    Examples
    --------
    >>> import lti, numpy as np, scipy.sparse as sparse
    >>> A = sparse.diags([1.0, -2.0, 1.0], [-1, 0, 1], shape=(1000, 1000))
    >>> B = np.eye(1000, 1)
    >>> rod = lti.SparseStateSpace(A, B, B.T)
    >>> rod
    SparseStateSpace(order=1000, inputs=1, outputs=1, continuous, float64)
    >>> lti.frequency_response(rod, [1.0]).shape
    (1, 1, 1)
    """

    A: Any
    B: Any
    C: Any
    D: Any = None
    E: Any = None
    dt: float | bool = 0
    labels: Labels = cast(Any, None)  # filled in below

    def __post_init__(self) -> None:
        n, values = self._checked_pencil()
        given = common(B=_plain("B", self.B), C=_plain("C", self.C), D=_plain("D", self.D),
                            A=values)  # fmt: skip
        B, C, D = (x if x is None else np.asarray(widen(x)) for x in given[:3])
        B, C = np.asarray(B), np.asarray(C)
        if B.ndim != 2 or B.shape[0] != n:
            raise DimensionError(f"B has shape {B.shape} but A has {n} states; B must be ({n}, m)")
        if C.ndim != 2 or C.shape[1] != n:
            raise DimensionError(f"C has shape {C.shape} but A has {n} states; C must be (p, {n})")
        shape = (C.shape[0], B.shape[1])
        D = np.zeros(shape, dtype=B.dtype) if D is None else D
        if D.shape != shape:
            raise DimensionError(
                f"D has shape {D.shape} but C has {shape[0]} outputs and B {shape[1]} inputs; D "
                f"must be {shape}"
            )
        labels = Labels() if self.labels is None else self.labels
        for name, x in (("B", B), ("C", C), ("D", D), ("dt", timebase(self.dt)),
                        ("labels", labels)):  # fmt: skip
            object.__setattr__(self, name, x)
        _check_labels(cast(Any, self))

    def __sub__(self, other: Any) -> Any:
        """The parallel difference G - F, of dense matrices."""
        return self.to_dense() - other

    def _checked_pencil(self) -> tuple[int, np.ndarray]:
        """The number of states, and an array of the dtype of A and E."""
        if hasattr(self.A, "factor"):
            if self.E is not None:
                raise DimensionError(
                    "A is a pencil, which stands for E as well; leave E out, or pass two matrices"
                )
            return self.A.order, np.zeros(0, dtype=complex if self.A.is_complex else float)
        A, E = as_sparse("A", self.A), as_sparse("E", self.E)
        if A is None or A.shape[0] != A.shape[1]:
            shape = None if A is None else A.shape
            raise DimensionError(f"A must be square, got shape {shape}; pass A as (n, n)")
        if E is not None and E.shape != A.shape:
            raise DimensionError(f"E has shape {E.shape} but A {A.shape}; pass E of the same size")
        object.__setattr__(self, "A", A)
        object.__setattr__(self, "E", E)
        kinds = [x.dtype for x in (A, E) if x is not None]
        return A.shape[0], np.zeros(0, dtype=np.result_type(*kinds))

    @cached_property
    def pencil(self) -> Pencil:
        """The products and solutions with a A + e E that all methods use."""
        return self.A if hasattr(self.A, "factor") else MatrixPencil(self.A, self.E)

    @cached_property
    def stability_pencil(self) -> Pencil:
        """The pencil itself, or in discrete time its Cayley transform: stable is Re < 0."""
        return cayley(self.pencil) if self.is_discrete else self.pencil

    @cached_property
    def equilibrated(self) -> Equilibrated:
        """The same system in units in which its matrices have entries of about one size.

        All that is computed of a sparse system is computed of this one.
        """
        equilibrate = getattr(self.pencil, "equilibrated", None)
        if equilibrate is None or self.order == 0:
            one = np.ones(self.order)
            return Equilibrated(self, one, one)
        pencil, left, right = equilibrate(self.B, self.C)
        A, E = (pencil.A, pencil.E) if isinstance(pencil, MatrixPencil) else (pencil, None)
        system = SparseStateSpace(A, left[:, None] * self.B, self.C * right, self.D, E, self.dt)
        one = np.ones(self.order)
        vars(system)["equilibrated"] = Equilibrated(system, one, one)
        return Equilibrated(system, left, right)

    @cached_property
    def finite_part(self) -> SparseStateSpace:
        """The system without the algebraic equations that zero rows and columns of E show.

        Of semi-explicit systems of index 1, and of index 2 and 3 where A holds nothing in their
        block: ``E = diag(E_1, 0)`` up to the order of rows and columns. Others are returned as they
        are.
        """
        if self.E is None or hasattr(self.A, "factor"):
            return self
        rows, columns = algebraic_part(self.E)
        even, left, right = self.equilibrated
        A, E = even.A, even.E
        if not rows.any():
            nonsingular_factor(E, "E", "its algebraic equations do not show as zero rows and "
                               "columns: transform it to diag(E_1, 0), or use a dense "
                               "lti.StateSpace.from_descriptor")  # fmt: skip
            vars(even)["finite_part"] = even  # known, so cached
            return self
        if A[rows][:, columns].nnz:
            pencil = IndexOnePencil(A, E, rows, columns)
        else:
            pencil = ConstrainedPencil(A, E, rows, columns, self.is_discrete)
        B, C, D = pencil.ports(even.B, even.C, even.D, rows, columns)
        left, right = left[~rows], right[~columns]
        pencil = ScaledPencil(pencil, left, right)
        labels = self.labels.without_states()
        return SparseStateSpace(pencil, B / left[:, None], C / right, D, dt=self.dt, labels=labels)

    @property
    def matrices(self) -> tuple[Any, Any, Any, Any]:
        """A, B, C, D."""
        return self.A, self.B, self.C, self.D

    @property
    def order(self) -> int:
        """Number of states n."""
        return self.B.shape[0]

    @property
    def n_inputs(self) -> int:
        """Number of inputs m."""
        return self.B.shape[1]

    @property
    def n_outputs(self) -> int:
        """Number of outputs p."""
        return self.C.shape[0]

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """(): sparse systems have no batches."""
        return ()

    @property
    def is_discrete(self) -> bool:
        """Whether time is discrete."""
        return self.dt is True or self.dt > 0

    def times_E(self, X: Array) -> Array:
        """E X."""
        return self.pencil.product(0.0, 1.0, X)

    @property
    def poles(self) -> Array:
        """Some finite eigenvalues of (A, E), those closest to zero, or in discrete time to one.

        And unstable and lightly damped ones that a few Arnoldi steps see, or the computation of
        the Gramians. All of them of each irreducible diagonal block of up to 200 states, as of
        a triangular matrix.
        """
        return self.finite_part.equilibrated.system._some_poles

    def learn_poles(self, poles: Any) -> None:
        """Add `poles` (k,) to those that are known."""
        vars(self.finite_part.equilibrated.system)["_some_poles"] = np.append(self.poles, poles)

    @cached_property
    def _some_poles(self) -> Array:
        pencil = self.pencil
        if self.order <= SMALL:
            poles = self.small_dense().poles
            if isinstance(pencil, ConstrainedPencil):  # without those that the projection moved
                order = np.argsort(abs(poles - pencil.place), kind="stable")
                poles = poles[np.sort(order[pencil.moved :])]
            return poles
        return some_poles(pencil, self.is_discrete)

    def to_dense(self) -> StateSpace:
        """(E^-1 A, E^-1 B, C, D) with a dense state matrix, which is warned of."""
        dense = self.small_dense()
        warn(
            f"a sparse system is made dense: {self.order:,} x {self.order:,}, "
            f"{dense.A.nbytes / 1e6:,.1f} MB",
            DenseWarning,
        )
        return dense

    def double(self) -> StateSpace:
        """The dense system, for functions that have no sparse form: see `to_dense`."""
        return self.to_dense()

    def small_dense(self) -> StateSpace:
        """`to_dense` without a warning, where the system is known to be small."""
        if self.order > MOST_DENSE:
            raise DimensionError(
                f"a system of {self.order:,} states is too large for this function, which works "
                f"with dense matrices up to {MOST_DENSE:,}; reduce the system first "
                "(lti.balanced_truncation)"
            )
        if self.finite_part is not self:
            return self.finite_part.small_dense()
        if self.E is None and self.pencil is not self.A:
            return StateSpace(self.A.toarray(), self.B, self.C, self.D, self.dt, self.labels)
        even, _, right = self.equilibrated
        pencil, right = even.pencil, right[:, None]
        inverse = pencil.factor(0.0, 1.0).solve
        A = right * inverse(pencil.product(1.0, 0.0, np.eye(self.order))) / right.T
        B = right * inverse(even.B.astype(np.result_type(A, even.B)))
        return StateSpace(A, B, self.C, self.D, self.dt, self.labels)

    def to_control(self) -> Any:
        """The same system as a dense `control.StateSpace` (needs python-control)."""
        return self.to_dense().to_control()

    def projected(self, T: Array, W: Array) -> StateSpace:
        """(W A T, W B, C T, D), where ``W E T = I``."""
        A = W @ self.pencil.product(1.0, 0.0, T)
        return StateSpace(A, W @ self.B, self.C @ T, self.D, self.dt)

    def transfer_function(self, s: Array) -> Array:
        """C (s E - A)^-1 B + D at the points s (k,): (k, p, m), one sparse solution for each."""
        found = np.empty((len(s), self.n_outputs, self.n_inputs), dtype=complex)
        for i, point in enumerate(s):
            found[i] = self.gain(point.real if point.imag == 0 else point)
        return found

    def gain(self, s: complex, *, off_poles: bool = False) -> Array:
        """C (s E - A)^-1 B + D (p, m), real of a real system at a real point.

        With `off_poles`, `OptionError` if s is a pole to the rounding of the entries of A and E.
        """
        even = self.equilibrated.system
        inverse = even.pencil.factor(-1.0, s)
        if off_poles and self._has_pole_at(s, inverse):
            raise OptionError(f"{s:g} is a pole, to the rounding of the entries of A and E")
        if even.n_inputs <= even.n_outputs:
            return even.C @ inverse.solve(even.B) + even.D
        return inverse.adjoint(even.C.conj().T).conj().T @ even.B + even.D

    def has_pole_at(self, s: complex) -> bool:
        """Whether s is a pole, to the rounding of the entries; of unknown entries, exactly."""
        try:
            return self._has_pole_at(s, self.equilibrated.system.pencil.factor(-1.0, s))
        except OptionError:
            return True

    def _has_pole_at(self, s: complex, inverse: Factored) -> bool:
        sums = getattr(self.equilibrated.system.pencil, "row_sums", None)
        return sums is not None and inverse_singular_to_rounding(
            sums(-1.0, s), inverse.solve, inverse.adjoint
        )

    def dual(self) -> SparseStateSpace:
        """E^H x' = A^H x + C^H u, y = B^H x + D^H u."""
        if not issparse(self.A):
            raise DimensionError("the dual of a pencil object is not formed; pass two matrices")
        E = None if self.E is None else self.E.conj().T
        H = [x.conj().T for x in (self.A, self.C, self.B, self.D)]
        return replace(self, A=H[0], B=H[1], C=H[2], D=H[3], E=E, labels=Labels())

    def __repr__(self) -> str:
        return _describe(self, "SparseStateSpace", f"order={self.order}")


class Equilibrated(NamedTuple):
    """(L A R, L B, C R, D, L E R) with L = diag(l) and R = diag(r), powers of two."""

    system: SparseStateSpace
    left: Array
    right: Array


def as_sparse(name: str, x: Any) -> Any:
    """A copy in double precision, finite, compressed by columns and sorted.

    What scipy sorts in place, when it decomposes, must share no array with a matrix of the user.
    """
    if x is None:
        return None
    if not issparse(x):
        x = _plain(name, x)
        if x.ndim != 2:
            raise DimensionError(f"{name} must be a matrix, got shape {x.shape}")
    if x.dtype.kind not in "biufc":
        raise DimensionError(f"{name} has dtype {x.dtype}; pass real or complex numbers")
    x = csc_matrix(x, dtype=complex if x.dtype.kind == "c" else float, copy=True)
    x.sum_duplicates()
    if not np.isfinite(x.data).all():
        bad = int(np.count_nonzero(~np.isfinite(x.data)))
        raise NonFiniteError(f"{name} has {bad} entries that are not finite; clean the data first")
    return x


def _plain(name: str, x: Any) -> Any:
    """A dense NumPy array of what may be sparse."""
    if is_tensor(x):
        raise DimensionError(
            f"{name} is a torch tensor, and sparse systems work with NumPy; pass {name}.numpy()"
        )
    return x.toarray() if issparse(x) else None if x is None else np.asarray(x)
