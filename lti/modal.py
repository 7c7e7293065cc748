"""Back to diagonal form: A V = V diag(poles)."""

from __future__ import annotations

import numpy as np

from lti._array import eig, from_numpy, is_complex, namespace, narrow, to_numpy, widen
from lti.errors import DefectiveError, DimensionError
from lti.interop import as_statespace
from lti.system import DiagonalStateSpace, System

__all__ = ["diagonalize"]

EPS = 2.0**-52


def diagonalize(sys: System, conjugate: bool = False) -> tuple[DiagonalStateSpace, float]:
    """poles = V^-1 A V, B = V^-1 B, C = C V: the modal form, and the condition number of V.

    Parameters
    ----------
    sys : StateSpace, or what `as_statespace` accepts
        One system (no stack) of n states.
    conjugate : bool, optional
        Store one mode of each conjugate pair of a real system, the one in the upper half-plane. A
        real pole has no partner: it takes a slot of its own, with half the weight in C.

    Returns
    -------
    modal : DiagonalStateSpace
        Of the same transfer function; its modes are scaled so that row i of B and column i of C
        have equal norms.
    condition : float
        2-norm condition number of V: the rounding of `modal` is ``condition * eps`` relative.

    Raises
    ------
    DimensionError
        If `sys` is a stack, or `conjugate` is asked for a complex system.
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
    if sys.batch_shape:
        raise DimensionError(
            f"diagonalize takes one system, got a stack of shape {sys.batch_shape}; loop over it"
        )
    poles, V = eig(widen(sys.A))
    xp = namespace(poles)
    if sys.order == 0:
        return DiagonalStateSpace(poles, sys.B, sys.C, sys.D, sys.dt, conjugate), 1.0
    gains = to_numpy(xp.linalg.svdvals(V))
    condition = float(gains[0] / gains[-1]) if gains[-1] > 0 else float("inf")
    if condition > 1 / EPS:
        raise DefectiveError(
            f"A of order {sys.order} is not diagonalisable to working precision (its eigenvectors "
            f"have condition number {condition:.3g}); keep it dense, or choose another order"
        )
    B, C = xp.linalg.solve(V, widen(sys.B) + 0j), (widen(sys.C) + 0j) @ V
    if conjugate:
        if is_complex(sys.A) or is_complex(sys.B) or is_complex(sys.C):
            raise DimensionError(
                "only a real system has conjugate pairs, got complex matrices; pass conjugate=False"
            )
        host = to_numpy(poles).imag
        # LAPACK returns real eigenvalues exactly real, and pairs as exact conjugates
        keep = from_numpy(np.flatnonzero(host >= 0), like=poles)
        half = from_numpy(np.where(host > 0, 1.0, 0.5)[host >= 0], like=poles)
        poles, B = xp.take(poles, keep), xp.take(B, keep, axis=0)
        C = xp.take(C, keep, axis=1) * half
    b, c = xp.linalg.vector_norm(B, axis=1), xp.linalg.vector_norm(C, axis=0)
    both = (b > 0) & (c > 0)  # a mode without input or output has no scale
    scale = xp.sqrt(xp.where(both, c, 1.0) / xp.where(both, b, 1.0))
    B, C = B * scale[:, None], C / scale
    poles, B, C = (narrow(x, like=sys.B) for x in (poles, B, C))
    return DiagonalStateSpace(poles, B, C, sys.D, sys.dt, conjugate), condition
