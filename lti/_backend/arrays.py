"""Operations on arrays of any library: NumPy, torch, and what follows the array API standard.

Compositions are written once on the namespace `xp`. The few operations that the standard lacks, or
that a library does better by another name, are dispatched here.
"""

from __future__ import annotations

import sys
from typing import Any

import array_api_compat as compat
import numpy as np
from scipy.linalg import get_lapack_funcs

from lti.errors import NonFiniteError

Array = Any
"""An array of any library that follows the array API standard; shapes stand in docstrings."""


def namespace(*arrays: Array) -> Any:
    """The array API namespace that all `arrays` share."""
    if {np.ndarray}.issuperset(map(type, arrays)):
        return NUMPY  # the common case, for a tenth of the time
    if all(map(is_tensor, arrays)):
        return torch_backend().xp
    return compat.array_namespace(*arrays)


NUMPY = compat.array_namespace(np.empty(0))


def is_array(x: object) -> bool:
    """Whether `x` belongs to an array library (a list or a number does not)."""
    return is_tensor(x) or compat.is_array_api_obj(x)


def is_tensor(x: object) -> bool:
    """Whether `x` is a torch tensor, without importing torch. `torch.compile` can trace this."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def tracing(*arrays: Array) -> bool:
    """Whether `torch.compile` traces these arrays, which then have no values yet."""
    return any(map(is_tensor, arrays)) and sys.modules["torch"].compiler.is_compiling()


def is_like(x: Array, like: Array) -> bool:
    """Whether both belong to one array library."""
    return namespace(x) is namespace(like)


def device(x: Array) -> Any:
    return x.device if is_tensor(x) else compat.device(x)


def is_complex(x: Array) -> bool:
    if type(x) is np.ndarray:
        return x.dtype.kind == "c"
    return namespace(x).isdtype(x.dtype, "complex floating")


def conj(x: Array) -> Array:
    return namespace(x).conj(x) if is_complex(x) else x


def real(x: Array) -> Array:
    return namespace(x).real(x) if is_complex(x) else x


def H(x: Array) -> Array:
    """X^H, the conjugate transpose of the last two axes."""
    if type(x) is np.ndarray:  # the common case, for a fifth of the time
        x = x.swapaxes(-1, -2)
        return x.conj() if x.dtype.kind == "c" else x
    return conj(namespace(x).matrix_transpose(x))


def real_dtype(x: Array) -> Any:
    """The real dtype of the same precision as `x`."""
    xp = namespace(x)
    if not is_complex(x):
        return x.dtype
    return xp.float32 if x.dtype == xp.complex64 else xp.float64


def widen(x: Array) -> Array:
    """`x` in double precision: float64 or complex128."""
    xp = namespace(x)
    return xp.astype(x, xp.complex128 if is_complex(x) else xp.float64, copy=False)


def narrow(x: Array, like: Array) -> Array:
    """`x` in the precision of `like`; real stays real, complex stays complex."""
    if type(x) is type(like) is np.ndarray and x.dtype == like.dtype:
        return x
    xp = namespace(x)
    if real_dtype(like) != xp.float32:
        return xp.astype(x, xp.complex128 if is_complex(x) else xp.float64, copy=False)
    with np.errstate(over="ignore"):
        single = xp.astype(x, xp.complex64 if is_complex(x) else xp.float32, copy=False)
    if on_host(x) and not tracing(x) and not bool(xp.all(xp.isfinite(single) | ~xp.isfinite(x))):
        raise NonFiniteError(
            f"a result, {float(xp.max(xp.abs(x))):.3g}, is beyond the range of single precision; "
            "convert the system to float64"
        )
    return single


def eye(n: int, like: Array) -> Array:
    if type(like) is np.ndarray:
        return np.eye(n, dtype=like.dtype)
    return namespace(like).eye(n, dtype=like.dtype, device=device(like))


def diag(x: Array) -> Array:
    """The (..., n, n) diagonal matrices of x (..., n)."""
    return x[..., :, None] * eye(x.shape[-1], like=x)


def block_diag(a: Array, b: Array) -> Array:
    """[[a, 0], [0, b]] for batches of matrices."""
    xp = namespace(a, b)
    batch = a.shape[:-2]

    def zeros(rows: int, columns: int) -> Array:
        return xp.zeros((*batch, rows, columns), dtype=a.dtype, device=device(a))

    top = xp.concat([a, zeros(a.shape[-2], b.shape[-1])], axis=-1)
    bottom = xp.concat([zeros(b.shape[-2], a.shape[-1]), b], axis=-1)
    return xp.concat([top, bottom], axis=-2)


def eigvals(x: Array) -> Array:
    """Eigenvalues (..., n), always complex."""
    xp = namespace(x)
    values = xp.linalg.eigvals(x)
    return values if is_complex(values) else values + 0j


def eig(x: Array) -> tuple[Array, Array]:
    """Eigenvalues (..., n) and unit eigenvectors (..., n, n), always complex."""
    values, vectors = namespace(x).linalg.eig(x)
    return (values, vectors) if is_complex(values) else (values + 0j, vectors + 0j)


def tail_sums(x: Array) -> Array:
    """x_i + x_i+1 + ... (..., n), summed from the end, where the small ones are."""
    if type(x) is np.ndarray:
        return x[..., ::-1].cumsum(axis=-1)[..., ::-1]
    xp = namespace(x)
    return xp.flip(xp.cumulative_sum(xp.flip(x, axis=-1), axis=-1), axis=-1)


def square_norms(x: Array) -> Array:
    """|x|^2 (...) of the vectors on the last axis, for NumPy and torch."""
    if type(x) is np.ndarray:
        x = np.ascontiguousarray(x).view(real_dtype(x))  # a complex number is two real ones
        return np.einsum("...i,...i->...", x, x)
    return (abs(x) ** 2).sum(-1)


def spectral_norm(x: Array) -> Array:
    """|x| (...), the largest singular value; zero for an empty matrix."""
    xp = namespace(x)
    if 0 in x.shape[-2:]:
        return xp.sum(xp.abs(x), axis=(-2, -1))
    return xp.max(xp.linalg.svdvals(x), axis=-1)


def cholesky(x: Array) -> tuple[Array, Array]:
    """L with L L^H = X (..., n, n), and |L^-1|_F^2 (...), infinite if X is not positive definite.

    |L^-1|_F^2 = trace X^-1, which is no less than |X^-1|.
    """
    if type(x) is np.ndarray:
        try:
            L = np.linalg.cholesky(x)
        except np.linalg.LinAlgError:
            return x, np.full(x.shape[:-2], np.inf)
        (trtri,) = get_lapack_funcs(("trtri",), (x,))
        inverse = np.stack([trtri(one, lower=1)[0] for one in L.reshape(-1, *x.shape[-2:])])
        return L, (abs(inverse) ** 2).sum((-2, -1)).reshape(x.shape[:-2])
    return torch_backend().cholesky(x)


def lq_factor(x: Array) -> Array:
    """L (..., n, min(n, k)) with L L^H = X X^H for X (..., n, k): the same, in fewer columns."""
    return x if x.shape[-1] <= x.shape[-2] else triangular(x)


def triangular(x: Array) -> Array:
    """L (..., n, min(n, k)), lower triangular, with L L^H = X X^H for X (..., n, k)."""
    if compat.is_numpy_array(x):
        return H(np.linalg.qr(H(x), mode="r"))
    mode = "r" if is_tensor(x) else "reduced"
    return H(namespace(x).linalg.qr(H(x), mode=mode)[1])


def lq_join(L: Array, x: Array) -> Array:
    """The triangular factor of [L, x], for half the work if L is square and triangular."""
    n = L.shape[-2]
    if type(x) is np.ndarray and L.shape == (n, n) and n > 1 and not np.triu(L, 1).any():
        join: Any = get_lapack_funcs("tpqrt", (L, x))
        return H(join(0, min(n, 32), H(L), H(x), overwrite_b=True)[0])
    xp = namespace(L)
    return triangular(xp.concat([L, x], axis=-1))


def on_host(x: Array) -> bool:
    """Whether NumPy reaches the memory of `x`: it is not on an accelerator."""
    return type(x) is np.ndarray or not is_tensor(x) or x.device.type == "cpu"


def to_numpy(x: Array) -> Any:
    """`x` on the host as a NumPy array, for control flow and messages."""
    if type(x) is np.ndarray:
        return x
    return torch_backend().host(x) if is_tensor(x) else np.asarray(x)


def tracked(*arrays: Array) -> bool:
    """Whether torch records derivatives of any of these."""
    return any(map(is_tensor, arrays)) and torch_backend().tracked(*arrays)


def detach(x: Array) -> Array:
    """`x` without derivatives."""
    return torch_backend().plain(x) if is_tensor(x) else x


def torch_backend() -> Any:
    """The operations on tensors, imported when the first tensor arrives."""
    from lti._backend import torch_arrays

    return torch_arrays


def from_numpy(x: np.ndarray, like: Array) -> Array:
    """A NumPy array in the library and on the device of `like`."""
    x = x if x.flags.writeable else x.copy()  # torch warns of read-only memory
    if type(like) is np.ndarray:
        return x
    return namespace(like).asarray(x, device=device(like))


def frobenius(X: Array) -> Array:
    """|X|_F (...), where squares of the entries may overflow or vanish."""
    xp = namespace(X)
    if 0 in X.shape[-2:]:
        return xp.linalg.matrix_norm(X)
    if type(X) is np.ndarray and X.ndim == 2:  # the common case, for a tenth of the time
        entries = X.ravel("K")
        if 2.0**-900 < (square := np.vdot(entries, entries).real) < np.inf:
            return np.sqrt(square)
        top = abs(X).max()
        return top * np.linalg.norm(X / top) if top > 2.0**-1000 else 0.0 * top
    top = xp.max(xp.abs(X), axis=(-2, -1), keepdims=True)
    top = xp.where(top > 2.0**-1000, top, 1.0)  # dividing by a subnormal number overflows
    return top[..., 0, 0] * xp.linalg.matrix_norm(X / top)


def all_finite(x: Array) -> bool:
    """Whether no entry is NaN or infinite."""
    if type(x) is np.ndarray:
        entries = x.ravel("K")
        if np.vdot(entries, entries).real < np.inf:  # for a third of the time of the definition
            return True
    xp = namespace(x)
    return bool(xp.all(xp.isfinite(x)))


def times(X: Array, Y: Array) -> Array:
    """X * Y, where an overflow is left to the caller, without a warning."""
    if tracing(X):
        return X * Y
    with np.errstate(over="ignore"):
        return X * Y


def matmul(X: Array, Y: Array) -> Array:
    """X @ Y, where an overflow is left to the caller, without a warning."""
    if tracing(X):
        return X @ Y
    with np.errstate(over="ignore", invalid="ignore"):
        return X @ Y
