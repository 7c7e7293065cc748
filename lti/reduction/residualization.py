"""Singular perturbation: A_11 - A_12 A_22^-1 A_21, the truncated states residualized."""

from __future__ import annotations

from operator import attrgetter
from typing import Unpack

import numpy as np

from lti._backend.arrays import Array, eye, namespace
from lti.errors import OptionError
from lti.reduction.balancing import Balancing, balance
from lti.reduction.certificate import Reduction
from lti.reduction.method import ReductionMethod
from lti.reduction.methods import register_method
from lti.reduction.options import BalanceOptions, with_options_of
from lti.systems.protocol import SystemLike
from lti.systems.statespace import StateSpace

__all__ = ["singular_perturbation"]


@with_options_of(balance)
def singular_perturbation(
    sys: SystemLike,
    order: int | None = None,
    tol: float | None = None,
    *,
    relative: bool = False,
    energy: float | None = None,
    **options: Unpack[BalanceOptions],
) -> Reduction:
    """A_r = A_11 - A_12 A_22^-1 A_21 in balanced coordinates: G_r(0) = G(0), or G_r(1) = G(1).

    The states with the smallest Hankel singular values are residualized, ``x' = 0`` or
    ``x[k+1] = x[k]``, so that the DC gain is preserved. In discrete time ``A_22 - I`` stands for
    A_22.

    Parameters
    ----------
    sys, order, tol, relative, energy
        As in `balanced_truncation`, whose error bound holds as well.
    **options
        Those of `balance`.

    Returns
    -------
    Reduction
        Its D differs from that of `sys`. Its DC gain is that of the system of `minimal_order`
        states: of `sys`, unless user-supplied Gramians have a lower rank.

    Raises
    ------
    UnstableError, OrderError
        As `balanced_truncation`.
    OptionError
        If the truncated states have a pole at frequency zero to working precision.

    References
    ----------
    Liu, Anderson, "Singular perturbation approximation of balanced systems", Int. J. Control 50
    (1989).

    Examples
    --------
    >>> import lti, numpy as np
    >>> sys = lti.StateSpace(np.diag([-1.0, -2.0]), np.ones((2, 1)), np.ones((1, 2)))
    >>> reduction = lti.singular_perturbation(sys, order=1)
    >>> bool(np.isclose(lti.frequency_response(reduction.system, [0.0])[0, 0, 0], 1.5))
    True
    """
    return balance(sys, **options).reduce(
        RESIDUALIZATION, order, tol=tol, relative=relative, energy=energy
    )


def _residualized(balancing: Balancing, order: int) -> tuple[StateSpace, Array, Array]:
    """The leading states, the others residualized: x_2 = -E^-1 (A_21 x_1 + B_2 u)."""
    sys, T, W = balancing.coordinates(order)
    xp, (A, B, C) = namespace(sys.A), (sys.A, sys.B, sys.C)
    lead, rest = slice(0, order), slice(order, None)
    E = A[..., rest, rest]
    if sys.is_discrete:
        E = E - eye(E.shape[-1], like=E)
    try:
        solved = -xp.linalg.solve(E, xp.concat([A[..., rest, lead], B[..., rest, :]], axis=-1))
    except (np.linalg.LinAlgError, RuntimeError):
        raise OptionError(
            f"the states beyond order {order} have a pole at frequency zero to working precision, "
            "where they cannot be residualized; choose another order, or balanced_truncation"
        ) from None
    X, U = solved[..., :order], solved[..., order:]  # x_2 = X x_1 + U u
    reduced = StateSpace(
        A[..., lead, lead] + A[..., lead, rest] @ X,
        B[..., lead, :] + A[..., lead, rest] @ U,
        C[..., lead] + C[..., rest] @ X,
        sys.D + C[..., rest] @ U,
        sys.dt,
    )
    return reduced, T[..., lead] + T[..., rest] @ X, W[..., lead, :]


RESIDUALIZATION = register_method(
    ReductionMethod("singular-perturbation", _residualized, attrgetter("residual_bounds"))
)
