"""Checks of the arrays of a system: library, dtype, shape, finite numbers, time base."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from lti._backend.arrays import (
    Array,
    all_finite,
    device,
    is_array,
    is_tensor,
    namespace,
    on_host,
    to_numpy,
    torch_backend,
    tracing,
    tracked,
)
from lti.errors import DerivativeError, DimensionError, NonFiniteError, OptionError, TimebaseError

DTYPES = {np.dtype(name) for name in ("float32", "float64", "complex64", "complex128")}


def as_array(x: Any) -> Array:
    """`x` as an array of its library; a list becomes a NumPy array."""
    if isinstance(x, np.ma.MaskedArray):
        raise DimensionError(
            "a masked array hides entries that the theory needs; fill them in with .filled(value), "
            "or pass .data"
        )
    if is_array(x):
        return x
    try:
        return np.asarray(x)
    except ValueError as error:
        raise DimensionError(f"the rows of {x!r:.80} have different lengths ({error})") from error


def common(**named: Any) -> list[Array]:
    """The named arrays in one library and one dtype, checked to be finite; None stays None."""
    present = {name: as_array(x) for name, x in named.items() if x is not None}
    if _plain(*present.values()):
        return [present.get(name) for name in named]
    try:
        xp = namespace(*present.values())
    except TypeError as error:
        kinds = ", ".join(f"{name}: {type(x).__name__}" for name, x in present.items())
        raise DimensionError(
            f"the matrices come from different array libraries or hold no numbers ({kinds}); "
            "pass all of them as NumPy arrays or all as torch tensors"
        ) from error
    for name, x in present.items():
        if is_tensor(x) and not tracing(x):
            torch_backend().require_plain_storage(name, x)
        if not xp.isdtype(x.dtype, ("numeric", "bool")):
            raise DimensionError(f"{name} has dtype {x.dtype}; pass real or complex numbers")
    arrays = dict(zip(present, same_dtype(*present.values()), strict=True))
    for name, x in arrays.items():
        require_finite(name, x)
    return [arrays.get(name) for name in named]


def _plain(*arrays: Any) -> bool:
    """Whether they are finite NumPy arrays of one supported dtype, the common case."""
    if not {np.ndarray}.issuperset(map(type, arrays)):
        return False
    first, *others = {x.dtype for x in arrays}
    return not others and first in DTYPES and all(map(all_finite, arrays))


def fit_as_they_are(A: Any, B: Any, C: Any, D: Any) -> bool:
    """Whether they are the finite NumPy matrices of one system and one dtype, the common case."""
    if not (type(A) is type(B) is type(C) is type(D) is np.ndarray and A.ndim == D.ndim == 2):
        return False
    n, (p, m) = len(A), D.shape
    fit = A.shape == (n, n) and B.shape == (n, m) and C.shape == (p, n)
    return fit and _plain(A, B, C, D)


def same_dtype(*arrays: Array) -> list[Array]:
    """All arrays in the narrowest of float32, float64, complex64, complex128 that holds them."""
    xp = namespace(*arrays)
    inexact = ("real floating", "complex floating")
    floats = [x if xp.isdtype(x.dtype, inexact) else xp.astype(x, xp.float64) for x in arrays]
    dtype = xp.result_type(*floats)
    if dtype not in (xp.float32, xp.float64, xp.complex64, xp.complex128):
        raise DimensionError(f"dtype {dtype} is not supported; convert to float32 or float64")
    return [xp.astype(x, dtype, copy=False) for x in floats]


def require_finite(name: str, x: Array) -> None:
    if tracing(x) or all_finite(x):  # what is traced is checked when it runs
        return
    host = to_numpy(x)
    bad = np.argwhere(~np.isfinite(host))
    first = tuple(int(i) for i in bad[0])
    raise NonFiniteError(
        f"{name} has {len(bad)} entries that are not finite, the first {host[first]} "
        f"at index {first}; clean the data first"
    )


def in_range(
    what: str,
    x: Array,
    remedy: str = "choose units in which the inputs or outputs are smaller",
) -> Array:
    """`x`, or `NonFiniteError` where a result has left the range of numbers."""
    if on_host(x) and not tracing(x) and not all_finite(x):
        raise NonFiniteError(f"{what} beyond the range of double precision; {remedy}")
    return x


def require_matrix(**named: Array) -> None:
    for name, x in named.items():
        if x is None:
            raise DimensionError(f"{name} is None; pass a matrix")
        if x.ndim < 2:
            raise DimensionError(
                f"{name} must be a matrix or a batch of matrices, got shape {tuple(x.shape)}; "
                f"a single column is (n, 1), a single row (1, n)"
            )


def complete(
    A: Array, B: Array, C: Array, D: Array, n: int, owner: str, batch: tuple[int, ...]
) -> list[Array]:
    """Check the shapes against `n` states, fill in `D`, and give all the same batch shape."""
    xp = namespace(B)
    if B.shape[-2] != n:
        raise DimensionError(
            f"B has shape {tuple(B.shape)} but {owner} has {n} states; B must be (..., {n}, m)"
        )
    if C.shape[-1] != n:
        raise DimensionError(
            f"C has shape {tuple(C.shape)} but {owner} has {n} states; C must be (..., p, {n})"
        )
    p, m = C.shape[-2], B.shape[-1]
    if D is None:
        D = xp.zeros((p, m), dtype=B.dtype, device=device(B))
    if D.ndim < 2 or tuple(D.shape[-2:]) != (p, m):
        raise DimensionError(
            f"D has shape {tuple(D.shape)} but C has {p} outputs and B {m} inputs; "
            f"D must be (..., {p}, {m})"
        )
    matrices = [x for x in (A, B, C, D) if x is not None]
    try:
        batch = np.broadcast_shapes(batch, *(tuple(x.shape[:-2]) for x in matrices))
    except ValueError as error:
        shapes = ", ".join(str(tuple(x.shape)) for x in matrices)
        raise DimensionError(f"the leading axes do not broadcast: {shapes}") from error
    if 0 in batch:
        raise DimensionError(f"a batch of shape {batch} holds no system; pass at least one")
    return [
        x if x is None or x.shape[:-2] == batch else xp.broadcast_to(x, (*batch, *x.shape[-2:]))
        for x in (A, B, C, D)
    ]


def timebase(dt: Any) -> float | bool:
    """`dt` checked: 0, a positive number or True."""
    if dt is True or (dt is not False and finite_number(dt) and dt >= 0):
        return dt
    if isinstance(dt, np.generic):
        return timebase(dt.item())
    raise TimebaseError(
        f"dt={dt!r} is not a time base; pass 0 (continuous), a sampling time, or True (discrete)"
    )


def finite_number(x: Any) -> bool:
    """Whether `x` is a real number that a float can hold."""
    try:
        return isinstance(x, (int, float)) and math.isfinite(x)
    except OverflowError:  # 10**400
        return False


def no_derivative(what: str, *arrays: Array) -> None:
    """`DerivativeError` if torch records derivatives of any array; `what` is as "irka has"."""
    if tracked(*arrays):
        raise DerivativeError(f"{what} no derivative; detach the system from its graph first")


def positive(name: str, value: Any) -> None:
    number = value.item() if isinstance(value, np.number) else value
    if not (finite_number(number) and number > 0):
        raise OptionError(f"{name} must be a finite number > 0, got {value!r}")


def one_of(name: str, value: Any, options: Iterable[str]) -> None:
    if value not in list(options):
        known = ", ".join(map(repr, options))
        raise OptionError(f"{name} must be one of {known}; got {value!r}")
