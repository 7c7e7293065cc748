"""From other libraries: python-control, scipy.signal, tuples."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from scipy.sparse import issparse

from lti.errors import DimensionError, TimebaseError
from lti.systems.algebra import static
from lti.systems.labels import Labels
from lti.systems.protocol import System
from lti.systems.sparse import SparseStateSpace
from lti.systems.statespace import DiagonalStateSpace, StateSpace

__all__ = ["as_statespace", "without_sparse"]

GENERIC = re.compile(r"(sys|[uyx])\[\d+\]")  # names that python-control makes up


def as_statespace(obj: Any, dt: float | bool | None = None) -> System:
    """`obj` as a system of `lti`; every function that takes a system calls this first.

    Parameters
    ----------
    obj : object
        A `StateSpace`, `DiagonalStateSpace` or `SparseStateSpace` (returned as it is); a
        state-space system or transfer function of python-control (whose labels are kept) or
        `scipy.signal`; or a tuple
        ``(A, B, C)``, ``(A, B, C, D)``, ``(A, B, C, D, dt)``, sparse if A is.
    dt : float or True, optional
        Time base to use where `obj` states none: a tuple (then 0 by default), or a python-control
        system with ``dt=None``.

    Returns
    -------
    StateSpace, DiagonalStateSpace or SparseStateSpace

    Raises
    ------
    DimensionError
        If `obj` is none of these.
    TimebaseError
        If `obj` does not say whether it is continuous or discrete.

    Examples
    --------
    >>> import lti
    >>> lti.as_statespace(([[-1.0]], [[1.0]], [[1.0]]))
    StateSpace(order=1, inputs=1, outputs=1, continuous, float64)
    """
    if isinstance(obj, (StateSpace, DiagonalStateSpace, SparseStateSpace)):
        return obj
    if isinstance(obj, (tuple, list)):
        if 3 <= len(obj) <= 5:
            defaults: tuple[Any, ...] = (None, dt or 0)
            A, B, C, D, base = (*obj, *defaults[len(obj) - 3 :])
            if issparse(A):
                return SparseStateSpace(A, B, C, D, dt=base)
            return StateSpace(A, B, C, D, base)
        raise DimensionError(
            f"a tuple of {len(obj)} entries is not a system; pass (A, B, C), (A, B, C, D) or "
            "(A, B, C, D, dt)"
        )
    labels = Labels()
    library = type(obj).__module__.partition(".")[0]
    if library == "control":
        import control

        ss: Any = _converted(control.ss, obj)
        base = dt if ss.dt is None else ss.dt
        labels = _labels(obj.name, ss)
    elif library == "scipy" and hasattr(obj, "to_ss"):
        ss = _converted(type(obj).to_ss, obj)
        base = 0 if ss.dt is None else ss.dt  # scipy: None is continuous
        if not (ss.A.any() or ss.B.any() or ss.C.any()):  # what scipy makes of a static gain
            return static(np.atleast_2d(ss.D) + 0.0, base)
    else:
        hint = "its .system, " if hasattr(obj, "system") else ""
        raise DimensionError(
            f"a {type(obj).__name__} is not a system; pass {hint}a StateSpace, a "
            "DiagonalStateSpace, a tuple (A, B, C, D), or a system of python-control or "
            "scipy.signal"
        )
    if base is None:
        raise TimebaseError(
            "the system has dt=None, neither continuous nor discrete; set its dt, or pass dt= to "
            "as_statespace"
        )
    return StateSpace(ss.A, ss.B, ss.C, ss.D, base, labels)


def without_sparse(sys: System) -> System:
    """`sys`, or the dense form of a sparse one, for functions that have no sparse form."""
    return sys.to_dense() if isinstance(sys, SparseStateSpace) else sys


def _labels(name: str, ss: Any) -> Labels:
    """The labels of a python-control system, without generated ones."""

    def chosen(names: list[str]) -> tuple[str, ...] | None:
        return None if all(map(GENERIC.fullmatch, names)) else tuple(names)

    signals = map(chosen, (ss.input_labels, ss.output_labels, ss.state_labels))
    return Labels(None if GENERIC.fullmatch(name) else name, *signals)


def _converted(convert: Any, obj: Any) -> Any:
    try:
        return convert(obj)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise DimensionError(
            f"a {type(obj).__name__} has no state-space form ({error}); pass a proper transfer "
            "function, or state matrices"
        ) from error
