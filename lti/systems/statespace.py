"""Systems: x' = A x + B u (continuous) or x[k+1] = A x[k] + B u[k] (discrete), y = C x + D u."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, cast

import numpy as np

from lti._backend.arrays import (
    Array,
    conj,
    diag,
    eigvals,
    is_complex,
    is_tensor,
    namespace,
    real,
    to_numpy,
    widen,
)
from lti._backend.checks import (
    as_array,
    common,
    complete,
    fit_as_they_are,
    require_matrix,
    timebase,
)
from lti.errors import DimensionError
from lti.systems.descriptor import finite_part
from lti.systems.labels import Labels
from lti.systems.operators import Operators
from lti.systems.protocol import System
from lti.systems.schur import poles_of

__all__ = ["DiagonalStateSpace", "StateSpace"]


@dataclass(frozen=True, eq=False)
class StateSpace(Operators):
    """x' = A x + B u or x[k+1] = A x[k] + B u[k], y = C x + D u, with dense A.

    Parameters
    ----------
    A : array (..., n, n)
        State matrix, real or complex.
    B : array (..., n, m)
        Input matrix.
    C : array (..., p, n)
        Output matrix.
    D : array (..., p, m), optional
        Feedthrough; zero if left out.
    dt : float or True, optional
        0 (the default) is continuous time, a positive number a sampling time, True discrete time
        without one: python-control's convention.
    labels : Labels, optional
        Names of the system, its inputs, outputs and states; a batch shares them.

    Raises
    ------
    DimensionError
        If the shapes, the array libraries, or the numbers of labels do not fit together.
    NonFiniteError
        If an entry is NaN or infinite.
    TimebaseError
        If `dt` is none of the above.

    Notes
    -----
    Leading axes are a batch of systems. The four matrices are brought to one dtype (integers become
    float64) and never changed.

    Examples
    --------
    >>> import lti
    >>> sys = lti.StateSpace([[-1.0, 0.0], [0.0, -2.0]], [[1.0], [1.0]], [[1.0, 1.0]])
    >>> sys
    StateSpace(order=2, inputs=1, outputs=1, continuous, float64)
    """

    A: Array
    B: Array
    C: Array
    D: Array = None
    dt: float | bool = 0
    labels: Labels = cast(Any, None)  # filled in below, as torch.compile cannot copy an object

    def __post_init__(self) -> None:
        if fit_as_they_are(*self.matrices):
            _fill_in(self)
            return
        A, B, C, D = common(A=self.A, B=self.B, C=self.C, D=self.D)
        require_matrix(A=A, B=B, C=C)
        n = A.shape[-1]
        if A.shape[-2] != n:
            raise DimensionError(f"A must be square, got shape {A.shape}; pass A as (..., n, n)")
        A, B, C, D = complete(A, B, C, D, n, "A", A.shape[:-2])
        _fill_in(self, A=A, B=B, C=C, D=D)

    @classmethod
    def from_descriptor(
        cls, E: Any, A: Any, B: Any, C: Any, D: Any = None, dt: float | bool = 0
    ) -> StateSpace:
        """E x' = A x + B u or E x[k+1] = A x[k] + B u[k], E singular or not, without the E.

        The finite part of the pencil is separated from the infinite one by orthogonal
        transformations and a coupled Sylvester equation; the algebraic equations go into D.

        Parameters
        ----------
        E, A : array (n, n)
            NumPy arrays, real or complex.
        B, C, D : array (n, m), (p, n), (p, m)
        dt : float or True, optional
            As in `StateSpace`.

        Returns
        -------
        StateSpace
            Of as many states as the pencil ``s E - A`` has finite eigenvalues.

        Raises
        ------
        OptionError
            If the pencil is singular, or the transfer function improper.

        Warns
        -----
        ReductionWarning
            If half of the digits may be lost.

        Examples
        --------
        >>> import lti, numpy as np
        >>> E, A = np.diag([1.0, 0.0]), np.array([[-1.0, 1.0], [0.0, -2.0]])
        >>> lti.StateSpace.from_descriptor(E, A, np.ones((2, 1)), np.ones((1, 2)))
        StateSpace(order=1, inputs=1, outputs=1, continuous, float64)
        """
        if any(is_tensor(x) for x in (E, A, B, C, D)):
            raise DimensionError("from_descriptor takes NumPy arrays; pass tensor.numpy()")
        E, A, B, C, D = common(E=E, A=A, B=B, C=C, D=D)
        sys = cls(A, B, C, D, dt)
        if sys.batch_shape or E.shape != sys.A.shape:
            raise DimensionError(
                f"E and A must be square and of one size, got {E.shape} and {A.shape}; pass one "
                "system with E of shape (n, n)"
            )
        found = finite_part(sys.A, E, sys.B, sys.C, sys.D)
        return cls(found.A, found.B, found.C, found.D, dt)

    @property
    def matrices(self) -> tuple[Array, Array, Array, Array]:
        """A, B, C, D."""
        return self.A, self.B, self.C, self.D

    @property
    def order(self) -> int:
        """Number of states n."""
        return self.A.shape[-1]

    @property
    def n_inputs(self) -> int:
        """Number of inputs m."""
        return self.B.shape[-1]

    @property
    def n_outputs(self) -> int:
        """Number of outputs p."""
        return self.C.shape[-2]

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the batch, () for a single system."""
        return tuple(self.B.shape[:-2])

    @property
    def is_discrete(self) -> bool:
        """Whether time is discrete."""
        return self.dt is True or self.dt > 0

    @cached_property
    def poles(self) -> Array:
        """Eigenvalues of A (..., n), complex, computed in double precision."""
        A = widen(self.A)
        return poles_of(A) if type(A) is np.ndarray and A.ndim == 2 else eigvals(A)

    def to_dense(self) -> StateSpace:
        """The same system with a dense `A`: itself."""
        return self

    def to_control(self) -> Any:
        """The same system as a `control.StateSpace` (needs python-control; no batches)."""
        import control

        if self.batch_shape:
            raise DimensionError(
                f"python-control has no batches, got one of shape {self.batch_shape}; "
                "convert each system"
            )
        if is_complex(self.A):
            raise DimensionError(
                f"python-control casts complex systems to real, got dtype {self.A.dtype}; convert "
                "its real form, [[Re, -Im], [Im, Re]] of each matrix"
            )
        A, B, C, D = (to_numpy(x) for x in (self.A, self.B, self.C, self.D))
        named = {f.name: getattr(self.labels, f.name) for f in fields(self.labels)}
        return control.StateSpace(A, B, C, D, self.dt, **named)

    def double(self) -> StateSpace:
        """The same system in double precision."""
        if widen(self.B) is self.B:
            return self
        A, B, C, D = (widen(x) for x in (self.A, self.B, self.C, self.D))
        return replace(self, A=A, B=B, C=C, D=D)

    def __repr__(self) -> str:
        return _describe(self, "StateSpace", f"order={self.order}")


@dataclass(frozen=True, eq=False)
class DiagonalStateSpace(Operators):
    """x' = diag(poles) x + B u or x[k+1] = diag(poles) x[k] + B u[k], y = C x + D u.

    Parameters
    ----------
    poles : array (..., n)
        Diagonal of the state matrix.
    B : array (..., n, m)
        Input matrix.
    C : array (..., p, n)
        Output matrix.
    D : array (..., p, m), optional
        Feedthrough; zero if left out. Real if `conjugate`.
    dt : float or True, optional
        As in `StateSpace`; True (discrete) by default.
    conjugate : bool, optional
        False: the system as it stands. True: the *real* system whose modes come in conjugate pairs
        of which one is stored, ``y = 2 Re(C x) + D u``; its order is ``2 n`` real states, and its
        dense form has the state ``[Re x, Im x]``. A layer with ``y = Re(C x)`` is this with
        ``C / 2``.
    labels : Labels, optional
        As in `StateSpace`; those of states are of the dense form.

    Raises
    ------
    DimensionError
        If the shapes, the array libraries, or the numbers of labels do not fit together.
    NonFiniteError
        If an entry is NaN or infinite.
    TimebaseError
        If `dt` is not a time base.

    Examples
    --------
    >>> import lti
    >>> sys = lti.DiagonalStateSpace([0.9j], [[1.0]], [[0.5]], conjugate=True)
    >>> sys
    DiagonalStateSpace(order=2, stored=1, conjugate, inputs=1, outputs=1, discrete, complex128)
    >>> sys.to_dense().A
    array([[ 0. , -0.9],
           [ 0.9,  0. ]])
    """

    poles: Array
    B: Array
    C: Array
    D: Array = None
    dt: float | bool = True
    conjugate: bool = False
    labels: Labels = cast(Any, None)  # filled in below, as torch.compile cannot copy an object

    def __post_init__(self) -> None:
        if self.conjugate and self.D is not None and is_complex(as_array(self.D)):
            raise DimensionError("a conjugate system is real, but D is complex; pass its real part")
        poles, B, C, D = common(poles=self.poles, B=self.B, C=self.C, D=self.D)
        if poles.ndim < 1:
            raise DimensionError("poles must have an axis, got a scalar; pass them as (..., n)")
        require_matrix(B=B, C=C)
        _, B, C, D = complete(None, B, C, D, poles.shape[-1], "poles", poles.shape[:-1])
        xp = namespace(poles)
        poles = xp.broadcast_to(poles, (*B.shape[:-2], poles.shape[-1]))
        if self.conjugate:
            D = real(D)
        _fill_in(self, poles=poles, B=B, C=C, D=D)

    @property
    def A(self) -> Array:
        """The state matrix of the dense form: (..., n, n), real (..., 2n, 2n) if `conjugate`."""
        return self.to_dense().A

    @property
    def matrices(self) -> tuple[Array, Array, Array, Array]:
        """poles, B, C, D."""
        return self.poles, self.B, self.C, self.D

    @property
    def order(self) -> int:
        """Number of states: n, or 2 n real ones if `conjugate`."""
        return self.poles.shape[-1] * (2 if self.conjugate else 1)

    @property
    def n_inputs(self) -> int:
        """Number of inputs m."""
        return self.B.shape[-1]

    @property
    def n_outputs(self) -> int:
        """Number of outputs p."""
        return self.C.shape[-2]

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the batch, () for a single system."""
        return tuple(self.B.shape[:-2])

    @property
    def is_discrete(self) -> bool:
        """Whether time is discrete."""
        return self.dt is True or self.dt > 0

    def to_dense(self) -> StateSpace:
        """The same system as a `StateSpace`, with the state ``[Re x, Im x]`` if `conjugate`."""
        if not self.conjugate:
            return StateSpace(diag(self.poles), self.B, self.C, self.D, self.dt, self.labels)
        xp = namespace(self.poles)
        parts = [(xp.real(x), xp.imag(x)) if is_complex(x) else (x, xp.zeros_like(x))
                 for x in (self.poles, self.B, self.C)]  # fmt: skip
        (a, w), (Br, Bi), (Cr, Ci) = parts
        A = xp.concat(
            [xp.concat([diag(a), -diag(w)], axis=-1), xp.concat([diag(w), diag(a)], axis=-1)],
            axis=-2,
        )
        B = xp.concat([Br, Bi], axis=-2)
        C = xp.concat([2 * Cr, -2 * Ci], axis=-1)
        return StateSpace(A, B, C, self.D, self.dt, self.labels)

    def to_control(self) -> Any:
        """The same system as a `control.StateSpace` (needs python-control; no batches)."""
        return self.to_dense().to_control()

    def double(self) -> DiagonalStateSpace:
        """The same system in double precision."""
        if widen(self.B) is self.B:
            return self
        poles, B, C, D = (widen(x) for x in (self.poles, self.B, self.C, self.D))
        return replace(self, poles=poles, B=B, C=C, D=D)

    def closed(self) -> DiagonalStateSpace:
        """The same system with both modes of every conjugate pair stored (``conjugate=False``)."""
        if not self.conjugate:
            return self
        xp = namespace(self.poles)
        poles = xp.concat([self.poles, conj(self.poles)], axis=-1)
        B = xp.concat([self.B, conj(self.B)], axis=-2)
        C = xp.concat([self.C, conj(self.C)], axis=-1)
        labels = self.labels.without_states()
        return replace(self, poles=poles, B=B, C=C, conjugate=False, labels=labels)

    def __repr__(self) -> str:
        stored = f", stored={self.poles.shape[-1]}, conjugate" if self.conjugate else ""
        return _describe(self, "DiagonalStateSpace", f"order={self.order}{stored}")


def _fill_in(sys: System, **arrays: Array) -> None:
    """Write what was checked, a time base and labels into a system, which is frozen."""
    for name, value in {**arrays, "dt": timebase(sys.dt)}.items():
        object.__setattr__(sys, name, value)
    if sys.labels is None:
        object.__setattr__(sys, "labels", Labels())
    else:
        _check_labels(sys)


def _check_labels(sys: System) -> None:
    if not isinstance(sys.labels, Labels):
        raise DimensionError(
            f"labels must be Labels, got {sys.labels!r}; pass lti.Labels(name=...)"
        )
    counts = {"inputs": sys.n_inputs, "outputs": sys.n_outputs, "states": sys.order}
    for signal, count in counts.items():
        names = getattr(sys.labels, signal)
        if names is not None and len(names) != count:
            raise DimensionError(
                f"the system has {count} {signal} but {len(names)} labels for them, {names}; pass "
                "a label for each, or none"
            )


def _describe(sys: Any, name: str, order: str) -> str:
    time = "continuous" if not sys.is_discrete else "discrete"
    step = f" dt={sys.dt:g}" if sys.is_discrete and sys.dt is not True else ""
    batch = f"batch={sys.batch_shape}, " if sys.batch_shape else ""
    dtype = str(sys.B.dtype).replace("torch.", "")
    return (
        f"{name}({batch}{order}, inputs={sys.n_inputs}, outputs={sys.n_outputs}, "
        f"{time}{step}, {dtype})"
    )
