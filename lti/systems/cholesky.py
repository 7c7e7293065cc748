"""M = L L^T of sparse symmetric definite matrices by CHOLMOD, where scikit-sparse is installed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from typing import Any

import numpy as np
from scipy.sparse import csc_array

from lti._backend.arrays import Array

__all__ = ["definite_solver"]

EPS = 2.0**-52


def definite_solver(M: Any) -> Callable[[Array], Array] | None:
    """X -> M^-1 X of real M = M^T > 0 or < 0; None of others, or without scikit-sparse."""
    cholmod, diagonal, n = _cholmod(), M.diagonal(), M.shape[0]
    if cholmod is None or M.dtype.kind == "c" or n == 0 or not diagonal.all():
        return None
    sign = np.sign(diagonal[0])
    if (np.sign(diagonal) != sign).any() or (M != M.T).nnz:
        return None
    try:
        factor = cholmod.cho_factor(csc_array(sign * M), lower=True, order="amd")
    except cholmod.CholmodNotPositiveDefiniteError:
        return None
    if factor.rcond < n * EPS:
        return None
    return partial(_solved, factor, sign)


def _solved(factor: Any, sign: float, X: Array) -> Array:
    if X.dtype.kind == "c":
        return _solved(factor, sign, X.real) + 1j * _solved(factor, sign, X.imag)
    return sign * factor.solve(np.array(X, dtype=float, order="F"))


@cache
def _cholmod() -> Any:
    """The module of scikit-sparse 0.5 or later, which is optional."""
    with contextlib.suppress(ImportError):
        found = import_module("sksparse.cholmod")
        return found if hasattr(found, "cho_factor") else None
    return None
