"""Between continuous and discrete time: the bilinear map, which keeps Gramians and norms."""

from __future__ import annotations

from dataclasses import replace

from lti._backend.arrays import Array, eye, namespace, real, to_numpy
from lti._backend.checks import timebase
from lti.errors import TimebaseError
from lti.systems.convert import as_statespace
from lti.systems.protocol import System, SystemLike
from lti.systems.statespace import DiagonalStateSpace

__all__ = ["bilinear"]


def bilinear(sys: SystemLike, dt: float | bool = True) -> System:
    """s = a (z - 1) / (z + 1), a = 2 / dt: continuous to discrete time, or back (Tustin).

    The scaled form ``A_d = (a + A)(a - A)^-1``, ``B_d = sqrt(2a) (a - A)^-1 B``,
    ``C_d = sqrt(2a) C (a - A)^-1``, ``D_d = D + C (a - A)^-1 B`` keeps both Gramians, hence the
    Hankel singular values, and the H-infinity norm. A diagonal system stays diagonal.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        A continuous system is made discrete with `dt`, a discrete one continuous with its own.
    dt : float or True, optional
        Sampling time of the discrete system; True stands for ``a = 1``.

    Returns
    -------
    StateSpace or DiagonalStateSpace
        Of the other time domain. Back and forth gives the same system.

    Raises
    ------
    TimebaseError
        If `dt` is not a sampling time.

    References
    ----------
    Glover, "All optimal Hankel-norm approximations of linear multivariable systems and their
    L-infinity error bounds", Int. J. Control 39 (1984), section 2.

    Examples
    --------
    >>> import lti
    >>> sys = lti.StateSpace([[-1.0]], [[1.0]], [[1.0]])
    >>> lti.hankel_singular_values(sys), lti.hankel_singular_values(lti.bilinear(sys, dt=0.1))
    (array([0.5]), array([0.5]))
    """
    sys = as_statespace(sys)
    if not sys.is_discrete:
        dt = timebase(dt)
        if dt == 0:
            raise TimebaseError("dt=0 is no sampling time; pass a positive number, or True")
    step = sys.dt if sys.is_discrete else dt
    a = 1.0 if step is True else 2 / step
    singular = -1.0 if sys.is_discrete else a
    if (to_numpy(sys.poles) == singular).any():
        raise TimebaseError(f"the pole {singular:g} would go to infinity; use another dt")
    return to_continuous(sys, a) if sys.is_discrete else to_discrete(sys, a, dt)


def to_discrete(sys: System, a: Array, dt: float | bool = True) -> System:
    """The bilinear map at shift `a`, a number or (..., 1, 1)."""
    return _map(sys, a, sign=-1, dt=dt)


def to_continuous(sys: System, a: Array) -> System:
    """The inverse bilinear map at shift `a`, a number or (..., 1, 1)."""
    return _map(sys, a, sign=+1, dt=0)


def _map(sys: System, a: Array, sign: int, dt: float | bool) -> System:
    """Both directions: E = a - A and A -> 2a E^-1 - 1, or E = 1 + A and A -> a (1 - 2 E^-1).

    For a diagonal system `a` is a number.
    """
    discrete = sign < 0
    if isinstance(sys, DiagonalStateSpace):
        root = (2 * a) ** 0.5
        inverse = 1 / (a - sys.poles) if discrete else 1 / (1 + sys.poles)
        CE = sys.C * inverse[..., None, :]
        feed = CE @ sys.B
        feed = 2 * real(feed) if sys.conjugate else feed
        return replace(
            sys,
            poles=(a + sys.poles) * inverse if discrete else a * (sys.poles - 1) * inverse,
            B=(root * inverse)[..., :, None] * sys.B,
            C=root * CE,
            D=sys.D - sign * feed,
            dt=dt,
            labels=sys.labels.without_states(),
        )
    n = sys.order
    xp = namespace(sys.A)
    identity = eye(n, like=sys.A)
    E = a * identity - sys.A if discrete else identity + sys.A
    solved = xp.linalg.solve(E, xp.concat([xp.broadcast_to(identity, E.shape), sys.B], axis=-1))
    inverse, EB = solved[..., :n], solved[..., n:]
    root = (2 * a) ** 0.5
    return replace(
        sys,
        A=2 * a * inverse - identity if discrete else a * (identity - 2 * inverse),
        B=root * EB,
        C=root * (sys.C @ inverse),
        D=sys.D - sign * (sys.C @ EB),
        dt=dt,
        labels=sys.labels.without_states(),
    )
