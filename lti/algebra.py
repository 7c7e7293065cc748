"""Systems from systems: in series, dual, static."""

from __future__ import annotations

import numpy as np

from lti._array import Array, H, device, namespace
from lti._checks import same_dtype
from lti.errors import DimensionError
from lti.system import StateSpace, System, common_timebase

__all__ = ["dual", "series", "static"]


def series(G: System, F: System) -> StateSpace:
    """G F: x' = [A_G, B_G C_F; 0, A_F] x + [B_G D_F; B_F] u, y = [C_G, D_G C_F] x + D_G D_F u."""
    G, F = G.to_dense(), F.to_dense()
    dt = common_timebase(G.dt, F.dt)
    if G.n_inputs != F.n_outputs:
        raise DimensionError(
            f"a system of {G.n_inputs} inputs cannot follow one of {F.n_outputs} outputs; an input "
            "weight must have as many outputs as the system has inputs, an output weight as many "
            "inputs as the system has outputs"
        )
    stack = np.broadcast_shapes(G.batch_shape, F.batch_shape)
    xp = namespace(G.A)
    A, B, C, D, FA, FB, FC, FD = (
        xp.broadcast_to(x, (*stack, *x.shape[-2:]))
        for x in same_dtype(G.A, G.B, G.C, G.D, F.A, F.B, F.C, F.D)
    )
    zero = xp.zeros((*stack, F.order, G.order), dtype=A.dtype, device=device(A))
    top, bottom = xp.concat([A, B @ FC], axis=-1), xp.concat([zero, FA], axis=-1)
    return StateSpace(
        xp.concat([top, bottom], axis=-2),
        xp.concat([B @ FD, FB], axis=-2),
        xp.concat([C, D @ FC], axis=-1),
        D @ FD,
        dt,
    )


def dual(sys: StateSpace) -> StateSpace:
    """(A^H, C^H, B^H, D^H): its controllability Gramian is the observability Gramian of `sys`."""
    return StateSpace(H(sys.A), H(sys.C), H(sys.B), H(sys.D), sys.dt)


def static(D: Array, dt: float | bool) -> StateSpace:
    """y = D u, a system without states."""
    xp, (p, m) = namespace(D), D.shape[-2:]

    def empty(rows: int, columns: int) -> Array:
        return xp.zeros((rows, columns), dtype=D.dtype, device=device(D))

    return StateSpace(empty(0, 0), empty(0, m), empty(p, 0), D, dt)
