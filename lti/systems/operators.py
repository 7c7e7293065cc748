"""Operators on systems: G + F, G - F, -G, G F, k G."""

from __future__ import annotations

import numbers
from dataclasses import replace
from typing import Any

import numpy as np

from lti._backend.arrays import Array, block_diag, device, from_numpy, is_array, namespace
from lti._backend.checks import common, same_dtype
from lti.errors import DimensionError, OptionError, TimebaseError
from lti.systems.labels import Labels
from lti.systems.protocol import System

__all__ = ["Operators", "common_timebase", "difference", "joined_states", "product", "total"]


class Operators:
    """G + F, G - F, -G, G * F, k * G; a matrix stands for a system without states."""

    __array_ufunc__ = None  # NumPy leaves ``matrix * sys`` to `__rmul__`

    def __neg__(self: Any) -> Any:
        """-G = (A, B, -C, -D)."""
        return _scaled(self, -1)

    def __add__(self: Any, other: Any) -> Any:
        """G + F in parallel, or D + K of a matrix K."""
        if _is_system(other):
            return total(self, other)
        K = _gain(self, other)
        return NotImplemented if K is None else _fed(self, K)

    __radd__ = __add__

    def __sub__(self: Any, other: Any) -> Any:
        """The parallel difference G - F, of order n + n_F."""
        if _is_system(other):
            return difference(self, other)
        K = _gain(self, other)
        return NotImplemented if K is None else _fed(self, -K)

    def __rsub__(self: Any, other: Any) -> Any:
        K = _gain(self, other)
        return NotImplemented if K is None else _fed(-self, K)

    def __mul__(self: Any, other: Any) -> Any:
        """G F, the response of G to the output of F; (A, B K, C, D K) of a matrix K."""
        if _is_system(other):
            return product(self, other)
        if _is_number(other):
            return _scaled(self, other)
        if (K := _gain(self, other)) is None:
            return NotImplemented
        G = self.to_dense()
        if K.shape[-2] != G.n_inputs:
            raise DimensionError(
                f"a matrix of {K.shape[-2]} rows cannot come before {G.n_inputs} inputs; pass one "
                f"of shape ({G.n_inputs}, m)"
            )
        return replace(G, B=G.B @ K, D=G.D @ K, labels=replace(G.labels, inputs=None))

    def __rmul__(self: Any, other: Any) -> Any:
        """K G = (A, B, K C, K D)."""
        if _is_number(other):
            return _scaled(self, other)
        if (K := _gain(self, other)) is None:
            return NotImplemented
        G = self.to_dense()
        if K.shape[-1] != G.n_outputs:
            raise DimensionError(
                f"a matrix of {K.shape[-1]} columns cannot follow {G.n_outputs} outputs; pass one "
                f"of shape (p, {G.n_outputs})"
            )
        return replace(G, C=K @ G.C, D=K @ G.D, labels=replace(G.labels, outputs=None))

    def __truediv__(self: Any, other: Any) -> Any:
        """(1 / k) G of a number k."""
        if not _is_number(other):
            return NotImplemented
        if other == 0:
            raise OptionError("a system cannot be divided by zero; divide by another number")
        return _scaled(self, 1 / other)


def _is_system(x: Any) -> bool:
    return isinstance(x, Operators)


def _is_number(x: Any) -> bool:
    return isinstance(x, numbers.Number)


def _scaled(sys: Any, k: Any) -> Any:
    """k G of a number k, in the form of G."""
    if isinstance(k, complex) and getattr(sys, "conjugate", False):
        sys = sys.to_dense()  # a conjugate system is real
    if isinstance(k, np.generic):
        k = k.item()  # a NumPy number would change the dtype
    return replace(sys, C=k * sys.C, D=k * sys.D)


def _fed(sys: Any, K: Array) -> Any:
    """G + K of a matrix K."""
    G = sys.to_dense()
    if tuple(K.shape[-2:]) != (G.n_outputs, G.n_inputs):
        raise DimensionError(
            f"a system of {G.n_inputs} inputs, {G.n_outputs} outputs and a matrix of shape "
            f"{tuple(K.shape)} cannot be added; pass one of shape ({G.n_outputs}, {G.n_inputs})"
        )
    return replace(G, D=G.D + K)


def _gain(sys: Any, K: Any) -> Array | None:
    """K as a matrix in the library of `sys`, a number as (1, 1); None if it is no such thing."""
    if not _is_number(K) and not is_array(K):
        return None
    if not is_array(K) or isinstance(K, np.ndarray | np.generic):
        K = from_numpy(np.asarray(K), like=sys.B)
    K = common(K=K)[0]
    K = K[None, None] if K.ndim == 0 else K
    if K.ndim < 2:
        raise DimensionError(
            f"a gain is a matrix or a number, got shape {tuple(K.shape)}; a single column is "
            "(n, 1), a single row (1, n)"
        )
    K, _ = same_dtype(K, sys.D)
    return K


def total(G: System, F: System) -> Any:
    """G + F = (diag(A, A_F), [B; B_F], [C, C_F], D + D_F), in parallel."""
    return _parallel(G, F, 1, "added")


def difference(G: System, F: System) -> Any:
    """G - F = (diag(A, A_F), [B; B_F], [C, -C_F], D - D_F): the error system, in parallel form."""
    return _parallel(G, F, -1, "subtracted")


def _parallel(G: System, F: System, sign: int, what: str) -> Any:
    G, F = G.to_dense(), F.to_dense()
    dt = common_timebase(G.dt, F.dt)
    if (G.n_inputs, G.n_outputs) != (F.n_inputs, F.n_outputs):
        raise DimensionError(
            f"only systems with equal inputs and outputs can be {what}, got "
            f"{G.n_inputs} inputs, {G.n_outputs} outputs and {F.n_inputs}, {F.n_outputs}"
        )
    if G.batch_shape != F.batch_shape:
        raise DimensionError(
            f"only batches of one shape can be {what}, got {G.batch_shape} and {F.batch_shape}"
        )
    A, FA, B, FB, C, FC, D, FD = same_dtype(G.A, F.A, G.B, F.B, G.C, F.C, G.D, F.D)
    xp = namespace(A)
    B, C = xp.concat([B, FB], axis=-2), xp.concat([C, sign * FC], axis=-1)
    labels = Labels(
        inputs=G.labels.inputs or F.labels.inputs,
        outputs=G.labels.outputs or F.labels.outputs,
        states=joined_states(G, F),
    )
    return replace(G, A=block_diag(A, FA), B=B, C=C, D=D + sign * FD, dt=dt, labels=labels)


def product(G: System, F: System) -> Any:
    """G F: x' = [A_G, B_G C_F; 0, A_F] x + [B_G D_F; B_F] u, y = [C_G, D_G C_F] x + D_G D_F u."""
    G, F = G.to_dense(), F.to_dense()
    dt = common_timebase(G.dt, F.dt)
    if G.n_inputs != F.n_outputs:
        raise DimensionError(
            f"a system of {G.n_inputs} inputs cannot follow one of {F.n_outputs} outputs; an input "
            "weight must have as many outputs as the system has inputs, an output weight as many "
            "inputs as the system has outputs"
        )
    batch = np.broadcast_shapes(G.batch_shape, F.batch_shape)
    xp = namespace(G.A)
    A, B, C, D, FA, FB, FC, FD = (
        xp.broadcast_to(x, (*batch, *x.shape[-2:]))
        for x in same_dtype(G.A, G.B, G.C, G.D, F.A, F.B, F.C, F.D)
    )
    zero = xp.zeros((*batch, F.order, G.order), dtype=A.dtype, device=device(A))
    top, bottom = xp.concat([A, B @ FC], axis=-1), xp.concat([zero, FA], axis=-1)
    return replace(
        G,
        A=xp.concat([top, bottom], axis=-2),
        B=xp.concat([B @ FD, FB], axis=-2),
        C=xp.concat([C, D @ FC], axis=-1),
        D=D @ FD,
        dt=dt,
        labels=Labels(inputs=F.labels.inputs, outputs=G.labels.outputs, states=joined_states(G, F)),
    )


def joined_states(G: System, F: System) -> tuple[str, ...] | None:
    """The names of the states of G and then of F, if both have names, and no two the same."""
    names = []
    for sys in (G, F):
        if sys.order and sys.labels.states is None:
            return None
        names += sys.labels.states or ()
    return tuple(names) if 0 < len(names) == len(set(names)) else None


def common_timebase(one: float | bool, other: float | bool) -> float | bool:
    """The time base that two systems share; True goes with any sampling time."""
    if one is True and (other is True or other > 0):
        return other
    if other is True and one > 0:
        return one
    if one is other or (one is not True and other is not True and one == other):
        return one
    raise TimebaseError(
        f"the systems have different time bases, dt={one} and dt={other}; "
        "convert one of them first, for example with lti.bilinear"
    )
