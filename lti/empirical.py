"""P = mean of x x^H: Gramians of the states met, or of those that a spectrum drives, as factors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lti._array import (
    Array,
    H,
    device,
    from_numpy,
    is_complex,
    lq_factor,
    lq_join,
    namespace,
    to_numpy,
    widen,
)
from lti._checks import as_array, common, require_finite
from lti.errors import DimensionError, OptionError
from lti.gramians import in_real_coordinates
from lti.interop import as_statespace
from lti.response import points, resolvent
from lti.system import DiagonalStateSpace, System

__all__ = ["GramianFactor", "input_spectrum", "spectral_factor"]

EPS = 2.0**-52


@dataclass(frozen=True, eq=False)
class GramianFactor:
    """P = S S^H, with a word for what P is: what `balance` takes in place of a Gramian.

    Parameters
    ----------
    factor : array (..., n, k)
        S.
    name : str, optional
        Appears in `Reduction.method`.
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
    name: str = "given"
    samples: int = 0

    @classmethod
    def of_gramian(cls, P: Array, name: str = "given") -> GramianFactor:
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
            If P is no mean of states, so that its share in the new one is not known.
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
                f"{tuple(new.factor.shape[:-1])}; join those of one system, or stack"
            )
        total = self.samples + new.samples
        old = self.factor * (self.samples / total) ** 0.5
        joined = lq_join(old, new.factor * (new.samples / total) ** 0.5)
        return GramianFactor(joined, self.name, total)


def named(factor: Array | GramianFactor | None) -> GramianFactor | None:
    """A bare factor as one that is just given."""
    plain = factor is None or isinstance(factor, GramianFactor)
    return factor if plain else GramianFactor(factor)


def spectral_factor(
    sys: System, w: Array, roots: Array, name: str = "of the input's spectrum"
) -> GramianFactor:
    """P = sum_k X_k X_k^H,  X_k = (z_k - A)^-1 B Phi_k^1/2, of a real system its real part.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        A system of n states and m inputs; with ``conjugate=True`` n counts its real states.
    w : array (k,)
        Frequencies in rad per unit of time; z = j w, in discrete time exp(j w dt). Of a real system
        those at -w go without saying: their share is to be in that at w.
    roots : array (k, m, q)
        Phi_k^1/2 with the weight of the frequency in it; `input_spectrum` makes them of data.
    name : str, optional

    Returns
    -------
    GramianFactor
        What Enns's weighting by a spectral factor of Phi tends to, as the frequencies get dense.

    Raises
    ------
    DimensionError
        If the shapes do not fit.
    NonFiniteError
        If a number is not finite.
    OptionError
        If a pole lies at one of the frequencies.

    See Also
    --------
    GramianFactor.of_states : The same from states.

    References
    ----------
    Enns, "Model reduction with balanced realizations: an error bound and a frequency weighted
    generalization", CDC (1984).

    Examples
    --------
    >>> import lti, numpy as np
    >>> sys = lti.StateSpace(np.diag([0.5, 0.2]), np.ones((2, 1)), np.ones((1, 2)), dt=True)
    >>> w = 2 * np.pi * np.arange(64) / 64
    >>> white = np.ones((64, 1, 1)) / 8
    >>> S = lti.spectral_factor(sys, w, white).factor
    >>> np.allclose(S @ S.T, lti.controllability_gramian(sys))
    True
    """
    sys = as_statespace(sys).double()
    z, roots = points(sys, w), common(roots=as_array(roots))[0]
    if roots.ndim != 3 or tuple(roots.shape[:2]) != (z.shape[0], sys.n_inputs):
        raise DimensionError(
            f"roots have shape {tuple(roots.shape)}, but there are {z.shape[0]} frequencies and "
            f"{sys.n_inputs} inputs; pass ({z.shape[0]}, {sys.n_inputs}, q)"
        )
    roots = widen(from_numpy(to_numpy(roots), sys.B))
    both = sys.closed() if isinstance(sys, DiagonalStateSpace) else sys
    at_pole = OptionError("a pole lies at one of the frequencies in w; move it a little")
    if bool(namespace(z).any(z[:, None] == namespace(z).reshape(both.poles, (1, -1)))):
        raise at_pole
    if isinstance(both, DiagonalStateSpace):
        X = both.B[..., None, :, :] / (z[:, None, None] - both.poles[..., None, :, None])
        blocks: Any = [(slice(None), X)]
    else:
        blocks = resolvent(both, z)
    try:
        S = stacked_factor(sys, (X @ (roots[at] + 0j) for at, X in blocks))
    except (np.linalg.LinAlgError, RuntimeError) as error:
        raise at_pole from error
    require_finite("the factor", S)
    return GramianFactor(S, name)


def stacked_factor(sys: System, blocks: Iterable[Array]) -> Array:
    """The LQ factor of all X_k side by side, (..., n, n) at most, in the coordinates of `sys`.

    Parameters
    ----------
    sys : StateSpace or DiagonalStateSpace
    blocks : iterable of array (..., k, n, q)
        Of a system with ``conjugate=True`` those of both modes of each pair.
    """
    S = None
    for X in blocks:
        xp = namespace(X)
        X = xp.moveaxis(X, -3, -2)
        X = xp.reshape(X, (*X.shape[:-2], X.shape[-2] * X.shape[-1]))
        if isinstance(sys, DiagonalStateSpace) and sys.conjugate:
            X = in_real_coordinates(X, sys.poles.shape[-1])
        elif not (is_complex(sys.matrices[0]) or is_complex(sys.B)):
            X = xp.concat([xp.real(X), xp.imag(X)], axis=-1)
        S = lq_factor(X if S is None else xp.concat([S, X], axis=-1))
    return S


def input_spectrum(u: Array) -> tuple[Array, Array]:
    """Phi(w_k) = mean over sequences of U_k U_k^H / length^2,  U_k = sum_t u[t] exp(-j w_k t).

    Parameters
    ----------
    u : array (sequences, length, m)
        Real, one sample per unit of time.

    Returns
    -------
    w : array (k,)
        From 0 to pi.
    roots : array (k, m, sequences)
        Phi^1/2, with the share of -w: as `spectral_factor` takes them for a real system. The states
        are then those in the steady state under inputs that repeat themselves.

    Raises
    ------
    DimensionError
        If `u` is not of that form.
    NonFiniteError
        If it has entries that are not finite.

    Examples
    --------
    >>> import lti, numpy as np
    >>> w, roots = lti.input_spectrum(np.ones((5, 8, 1)))
    >>> w.shape, roots.shape, float(np.sum(np.abs(roots) ** 2))
    ((5,), (5, 1, 5), 1.0)
    """
    u = common(u=as_array(u))[0]
    if u.ndim != 3 or 0 in u.shape[:2] or is_complex(u):
        raise DimensionError(
            f"u must be real, (sequences, length, m), not empty, got shape {tuple(u.shape)}, dtype "
            f"{u.dtype}"
        )
    xp, (batch, length, _) = namespace(u), u.shape
    U = xp.fft.rfft(widen(u), axis=1) / (length * batch**0.5)
    k = np.arange(U.shape[1])
    share = np.where((k == 0) | (2 * k == length), 1.0, 2.0) ** 0.5
    w = xp.asarray(2 * np.pi * k / length, device=device(u))
    share = xp.asarray(share, device=device(u))
    return w, xp.permute_dims(U, (1, 2, 0)) * share[:, None, None]
