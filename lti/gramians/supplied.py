"""User-supplied Gramians, each as a factor: any P = S S^H, for example the mean of x x^H."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lti._backend.arrays import Array, H, lq_factor, lq_join, namespace, to_numpy, widen
from lti._backend.checks import as_array, common
from lti.errors import DimensionError, OptionError

__all__ = ["GramianFactor", "named"]

EPS = 2.0**-52


@dataclass(frozen=True, eq=False)
class GramianFactor:
    """P = S S^H with the name of P: what `balance` takes in place of a Gramian.

    Parameters
    ----------
    factor : array (..., n, k)
        S.
    name : str, optional
        Appears in `Reduction.method`. Empty for the exact Gramian of the system; its poles are not
        looked at then, as whoever computed it knows that they are stable.
    samples : int, optional
        Number of states that P is the mean of; 0 if it is no such mean.

    Examples
    --------
    >>> import lti, numpy as np
    >>> rng = np.random.default_rng(0)
    >>> P = lti.GramianFactor.of_states(rng.standard_normal((50, 2)))
    >>> P = P.joined(rng.standard_normal((150, 2)))
    >>> P.factor.shape, P.samples
    ((2, 2), 200)
    >>> sys = lti.StateSpace(np.diag([0.9, 0.1]), np.ones((2, 1)), np.ones((1, 2)), dt=True)
    >>> lti.balanced_truncation(sys, order=1, controllability=P).method
    'balanced truncation, Gramians empirical'
    """

    factor: Array = field(repr=False)
    name: str = "user-supplied"
    samples: int = 0

    @classmethod
    def of_gramian(cls, P: Array, name: str = "user-supplied") -> GramianFactor:
        """S = U diag(lambda)^1/2 of a Gramian P = U diag(lambda) U^H.

        Half of the digits of its small directions are lost in P already: where there is a choice,
        pass a factor.

        Parameters
        ----------
        P : array (..., n, n)
            Hermitian, positive semidefinite.
        name : str, optional

        Raises
        ------
        DimensionError
            If it is not square.
        OptionError
            If it is not Hermitian, or an eigenvalue is negative by more than rounding.
        """
        P = common(P=as_array(P))[0]
        if P.ndim < 2 or P.shape[-1] != P.shape[-2]:
            raise DimensionError(f"a Gramian is square, (..., n, n), got shape {tuple(P.shape)}")
        eps = float(np.finfo(to_numpy(P).dtype).eps)
        P, xp = widen(P), namespace(P)
        values, U = xp.linalg.eigh((P + H(P)) / 2)
        size = to_numpy(xp.max(xp.abs(values), axis=-1)).max(initial=0.0) if P.shape[-1] else 0.0
        allowed = 10 * P.shape[-1] * eps * size
        skew = to_numpy(xp.abs(P - H(P))).max(initial=0.0)
        lowest = to_numpy(values).min(initial=0.0)
        if skew > allowed or lowest < -allowed:
            what = f"an eigenvalue {lowest:.3g}" if lowest < -allowed else f"|P - P^H| = {skew:.3g}"
            raise OptionError(
                f"a Gramian is Hermitian and positive semidefinite, this one has {what} at a size "
                f"of {size:.3g}; pass a factor S with P = S S^H, or the Hermitian part"
            )
        return cls(U * xp.sqrt(xp.where(values > 0, values, 0.0))[..., None, :], name)

    @classmethod
    def of_states(cls, states: Array, name: str = "empirical") -> GramianFactor:
        """S with S S^H = mean of x x^H, the mean of the states included.

        Parameters
        ----------
        states : array (..., samples, n)
        name : str, optional

        Raises
        ------
        DimensionError
            If there is none.
        NonFiniteError
            If a state is not finite.
        """
        x = common(states=as_array(states))[0]
        if x.ndim < 2 or x.shape[-2] == 0:
            raise DimensionError(
                f"states are (..., samples, n) with at least one sample, got shape {tuple(x.shape)}"
            )
        x = namespace(x).matrix_transpose(widen(x))
        return cls(lq_factor(x) / x.shape[-1] ** 0.5, name, x.shape[-1])

    def joined(self, states: Array) -> GramianFactor:
        """With more states in the mean: one LQ decomposition, in which nothing is squared.

        Parameters
        ----------
        states : array (..., samples, n)

        Raises
        ------
        OptionError
            If P is no mean of states: then its weight in the new mean is unknown.
        DimensionError
            If there is none, or they are of another system.
        NonFiniteError
            If a state is not finite.
        """
        if self.samples < 1:
            raise OptionError("P is no mean of states; begin with GramianFactor.of_states")
        new = self.of_states(states, self.name)
        if new.factor.shape[:-1] != self.factor.shape[:-1]:
            raise DimensionError(
                f"the states so far were {tuple(self.factor.shape[:-1])}, the new ones are "
                f"{tuple(new.factor.shape[:-1])}; join states of one system or batch"
            )
        total = self.samples + new.samples
        old = self.factor * (self.samples / total) ** 0.5
        joined = lq_join(old, new.factor * (new.samples / total) ** 0.5)
        return GramianFactor(joined, self.name, total)


def named(factor: Array | GramianFactor) -> GramianFactor:
    """A bare factor as one that the user has supplied."""
    return factor if isinstance(factor, GramianFactor) else GramianFactor(factor)
