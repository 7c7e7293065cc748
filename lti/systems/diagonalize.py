"""Modal form, A V = V diag(poles), and how well conditioned its eigenvectors are."""

from __future__ import annotations

from typing import Any

import numpy as np

from lti._backend.arrays import (
    Array,
    eig,
    from_numpy,
    is_complex,
    namespace,
    narrow,
    to_numpy,
    widen,
)
from lti.errors import DefectiveError, DimensionError
from lti.systems.convert import as_statespace
from lti.systems.protocol import SystemLike
from lti.systems.statespace import DiagonalStateSpace

__all__ = ["diagonalize", "eigenvectors"]


EPS = 2.0**-52


def diagonalize(sys: SystemLike, conjugate: bool = False) -> tuple[DiagonalStateSpace, Any]:
    """poles = V^-1 A V, B = V^-1 B, C = C V: the modal form, and the condition number of V.

    Parameters
    ----------
    sys : StateSpace, or what `as_statespace` accepts
        A system of n states.
    conjugate : bool, optional
        Store one mode of each conjugate pair of a real system, the one in the upper half-plane. A
        real pole has no partner: it takes a whole stored state, with half the weight in C. A system
        of a batch that needs fewer stored states than another ends in modes without input or
        output.

    Returns
    -------
    modal : DiagonalStateSpace
        Of the same transfer function; its modes are scaled so that row i of B and column i of C
        have equal norms.
    condition : float, or array (...) for a batch
        2-norm condition number of V. By rounding, `modal` is the form of an A that differs by
        about ``condition * eps * |A|``. What this does to the response depends on the damping of
        the poles; where the number is above 1e6, compare `frequency_response` of the two.

    Raises
    ------
    DimensionError
        If `conjugate` is asked for a complex system.
    DefectiveError
        If A is not diagonalisable to working precision.

    Examples
    --------
    >>> import lti
    >>> sys = lti.StateSpace([[0.0, -0.81], [1.0, 0.0]], [[1.0], [0.0]], [[0.0, 1.0]], dt=True)
    >>> modal, condition = lti.diagonalize(sys, conjugate=True)
    >>> modal.poles
    array([0.+0.9j])
    """
    sys = as_statespace(sys).to_dense()
    poles, V, condition = eigenvectors(widen(sys.A))
    xp = namespace(poles)
    condition = from_numpy(condition, like=sys.B) if sys.batch_shape else float(condition)
    if sys.order == 0:
        return DiagonalStateSpace(poles, sys.B, sys.C, sys.D, sys.dt, conjugate), condition
    B, C = xp.linalg.solve(V, widen(sys.B) + 0j), (widen(sys.C) + 0j) @ V
    if conjugate:
        if is_complex(sys.A) or is_complex(sys.B) or is_complex(sys.C):
            raise DimensionError(
                "only a real system has conjugate pairs, got complex matrices; pass conjugate=False"
            )
        # LAPACK returns real eigenvalues exactly real, and pairs as exact conjugates
        imag = to_numpy(poles).imag
        stored = np.count_nonzero(imag >= 0, axis=-1).max(initial=0)
        upper = np.argsort(imag < 0, axis=-1, kind="stable")[..., :stored]
        chosen = np.eye(sys.order)[upper] + 0j
        kept = chosen * (imag >= 0)[..., None, :]
        half = kept * np.where(imag > 0, 1.0, 0.5)[..., None, :]
        chosen, kept, half = (from_numpy(x, like=poles) for x in (chosen, kept, half))
        poles = (chosen @ poles[..., None])[..., 0]
        B, C = kept @ B, C @ xp.matrix_transpose(half)
    b, c = xp.linalg.vector_norm(B, axis=-1), xp.linalg.vector_norm(C, axis=-2)
    both = (b > 0) & (c > 0)  # a mode without input or output has no scale
    scale = xp.sqrt(xp.where(both, c, 1.0) / xp.where(both, b, 1.0))
    B, C = B * scale[..., None], C / scale[..., None, :]
    poles, B, C = (narrow(x, like=sys.B) for x in (poles, B, C))
    return DiagonalStateSpace(poles, B, C, sys.D, sys.dt, conjugate), condition


def eigenvectors(A: Array) -> tuple[Array, Array, np.ndarray]:
    """A V = V diag(poles), and the condition number of V (...)."""
    poles, V = eig(A)
    gains = to_numpy(namespace(V).linalg.svdvals(V))
    if A.shape[-1] == 0:
        return poles, V, np.ones(A.shape[:-2])
    with np.errstate(divide="ignore"):
        condition = gains[..., 0] / gains[..., -1]
    if condition.max(initial=0.0) > 1 / EPS:
        raise DefectiveError(
            f"A of order {A.shape[-1]} is not diagonalisable to working precision (its "
            f"eigenvectors have condition number {condition.max():.3g}); keep it dense, or choose "
            "another order"
        )
    return poles, V, condition
