"""A reduced system and its certificate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np

from lti._backend.arrays import Array, frobenius, from_numpy, to_numpy
from lti._renamed import renamed
from lti.errors import CertificateError
from lti.peak import peak
from lti.reduction.sampled import sampled_error
from lti.systems.algebra import member
from lti.systems.operators import difference, product
from lti.systems.protocol import System
from lti.systems.response import response_of
from lti.systems.sparse import SparseStateSpace
from lti.systems.stability import boundary_gap, require_stable
from lti.systems.statespace import StateSpace

__all__ = ["Claim", "Reduction"]

UNSTABLE = "try a neighbouring order; error_response() gives the error at frequencies"
MOVED = 2.0  # times eps |A|: how far rounding may have moved a pole


@dataclass(frozen=True, eq=False, kw_only=True)
class Claim:
    """lower_bound <= ||W_o (F - F_r) W_i||_inf <= error_bound: what theory says of a reduction.

    Parameters
    ----------
    error_bound : array (...)
        Upper bound of the error, including what rounding to single precision adds; infinite where
        theory has none.
    lower_bound : array (...)
        What the error of any system of this order is at least; zero where theory says nothing.
    pair : (F, F_r), optional
        The two systems whose difference is bounded, the stable parts; by default the original and
        the reduced system.
    weights : (W_o, W_i)
        Weights of the error; None stands for the identity.
    roundoff_scale : array (...), optional
        What rounding is relative to, ``|R| |S|`` of the Gramian factors; by default ``hsv[0]``.
    form : StateSpace, optional
        F in coordinates in which it is quick to evaluate, its Schur form; of a sparse system, its
        projection on the computed factors.
    minimal : StateSpace, optional
        What is above rounding of F, in balanced coordinates.
    """

    error_bound: Array
    lower_bound: Array
    pair: tuple[System, System] | None = None
    weights: tuple[StateSpace | None, StateSpace | None] = (None, None)
    roundoff_scale: Array | None = None
    form: System | None = None
    minimal: StateSpace | None = None


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Reduction:
    """lower_bound <= ||G - G_r||_inf <= error_bound: a system with its certificate.

    Parameters
    ----------
    original : StateSpace or DiagonalStateSpace
        The system G that was reduced, of n states.
    system : StateSpace
        The reduced system G_r, of r states, in the dtype of the original.
    order : int
        Number of states r that were kept.
    hsv : array (..., n)
        Hankel singular values, those of the weighted or limited Gramians if such were balanced.
        Infinite for the states of unstable poles, which are kept as they are.
    claim : Claim
        The bounds of the error, and of which error.
    T, W : array (..., n, r), array (..., r, n), optional
        Projections with ``W T = I``: ``A_r = W A T``, ``C_r = C T`` and, unless a static correction
        was made, ``B_r = W B``. None where the reduced system is no projection.
    method : str
        The name of the method.
    flags : tuple of str
        Properties of the reduction that its user should know of; empty for a plain one.

    Attributes
    ----------
    error_bound, lower_bound, pair, weights, scale
        Those of `claim`; `scale` is its `roundoff_scale`.
    """

    original: System
    system: StateSpace
    order: int
    hsv: Array
    claim: Claim
    T: Array | None = None
    W: Array | None = None
    method: str = "balanced truncation"
    flags: tuple[str, ...] = ()

    # What `verify` has measured: no part of what the certificate claims
    _measured: ClassVar[tuple[Any, Any] | None] = None
    _measured_exactly: ClassVar[bool] = True

    @property
    def error_bound(self) -> Array:
        """Upper bound of the error (...); infinite where theory has none."""
        return self.claim.error_bound

    @property
    def lower_bound(self) -> Array:
        """Lower bound of the error of any system of this order (...); zero if theory has none."""
        return self.claim.lower_bound

    @property
    def pair(self) -> tuple[System, System] | None:
        """The systems whose difference is bounded, if not the original and the reduced system."""
        return self.claim.pair

    @property
    def weights(self) -> tuple[StateSpace | None, StateSpace | None]:
        """Output and input weight of the error; None stands for the identity."""
        return self.claim.weights

    @property
    def scale(self) -> Array | None:
        """What rounding is relative to: `roundoff_scale` of the claim."""
        return self.claim.roundoff_scale

    @property
    def error(self) -> StateSpace:
        """The error system ``F - F_r``, with its weights if there are any."""
        W_o, W_i = self.weights
        error = difference(*(self.pair or (self.original, self.system)))
        error = product(error, W_i) if W_i else error
        return product(W_o, error) if W_o else error

    def error_response(self, w: Array) -> Array:
        """The frequency response of `error` at the frequencies `w`: (..., k, p, m)."""
        F, F_r = (response_of(sys, w) for sys in self.pair or (self.original, self.system))
        error = F - F_r  # evaluated apart: what is equal in the two leaves no rounding
        for W, left in zip(self.weights, (True, False), strict=True):
            if W:
                gain = response_of(W, w)
                error = gain @ error if left else error @ gain
        return error

    @renamed(tol="rtol")
    def verify(
        self, rtol: float = 1e-8, *, return_frequency: bool = False
    ) -> Array | tuple[Array, Array]:
        """||F - F_r||_inf, measured, and checked against both bounds.

        Parameters
        ----------
        rtol : float, optional
            Relative accuracy of the measured norm, as far as the rounding of both responses allows.
        return_frequency : bool, optional
            Also return the frequency of the largest error, as `hinf_norm` does.

        Returns
        -------
        error : array (...)
            The H-infinity norm of the error: of ``G - G_r``, or with weights of
            ``W_o (G - G_r) W_i``. From then on ``print`` shows it, with its frequency.
        w : array (...)
            Only with `return_frequency`.

        Raises
        ------
        CertificateError
            If it lies outside the bounds by more than `rtol` and the rounding of the arithmetic.
        UnstableError
            If the reduced system is unstable beyond the poles that were kept: then there is no
            norm.

        Notes
        -----
        The error of a `SparseStateSpace` of more than 500 states is the largest at some
        frequencies, chosen by its poles and by its projection: a lower estimate of the norm, which
        `print` shows as "at least". The lower bound is not checked then.
        """
        _, reduced = self.pair or (self.original, self.system)
        require_stable(reduced, "the error has no norm: of the reduced system, ", UNSTABLE)
        exact = True
        if isinstance(self.original, SparseStateSpace):
            F, F_r = cast(Any, self.pair or (self.original, self.system))
            error, w, exact = sampled_error(F, F_r, self.claim.form, rtol)
        elif any(self.weights):
            error, w = peak(self.error, None, rtol)
        else:  # apart, so that a diagonal system is evaluated as one
            pair, claim = self.pair or (self.original, self.system), self.claim
            error, w = peak(*pair, rtol, claim.form, claim.minimal)
        error = to_numpy(error)
        lower, upper = to_numpy(self.lower_bound), to_numpy(self.error_bound)
        rounding = self._rounding()

        def outside(rounding: Any) -> Any:
            above = error > upper * (1 + rtol) + rounding
            return above | (error < lower * (1 - rtol) - rounding) if exact else above

        wrong = outside(rounding)
        if wrong.any() and self.claim.minimal is None:  # such values say nothing of the gain
            wrong = outside(rounding + self._rounding_at(to_numpy(w), wrong))
        if wrong.any():
            at = np.unravel_index(np.argmax(wrong), wrong.shape)
            raise CertificateError(
                f"the measured error {error[at]:.6g} lies outside its bounds, from {lower[at]:.6g} "
                f"to {upper[at]:.6g}: rounding is larger than the bounds allow for; read .flags, "
                "and reduce its modal form (lti.diagonalize) or choose another order"
            )
        object.__setattr__(self, "_measured", (error, to_numpy(w)))
        object.__setattr__(self, "_measured_exactly", exact)
        error = from_numpy(error, like=self.hsv)
        return (error, w) if return_frequency else error

    def _rounding(self) -> Any:
        """The rounding of the values, ``|R| |S| eps``, and that of a gain by the stored poles."""
        hsv = to_numpy(self.hsv)
        finite = np.where(np.isfinite(hsv), hsv, 0.0)
        scale = finite.max(axis=-1, initial=0.0) if self.scale is None else to_numpy(self.scale)
        _, F_r = self.pair or (self.original, self.system)
        moved = 2 * finite.sum(axis=-1) * self._moved()
        fed = np.linalg.norm(to_numpy(F_r.D), axis=(-2, -1))  # swallows a small static correction
        eps = np.finfo(hsv.dtype).eps
        return eps * (1e3 * hsv.shape[-1] * scale + moved + 4 * fed)

    def _moved(self) -> Any:
        """How much rounding of the stored A, in units of eps, changes a gain, relatively (...)."""
        F, F_r = self.pair or (self.original, self.system)
        gap = np.minimum(boundary_gap(F), boundary_gap(F_r))
        return MOVED * (1.0 if F.is_discrete else frobenius(to_numpy(F_r.A))) / gap

    def _rounding_at(self, w: np.ndarray, which: np.ndarray) -> np.ndarray:
        """eps (1e3 ||W| |T|| + moved) |W_o F W_i| at the frequency w (...) of some of a batch."""
        F, _ = self.pair or (self.original, self.system)
        found, spread = np.zeros(w.shape), np.ones(w.shape)
        if self.T is not None and self.W is not None:
            spread = np.linalg.norm(abs(to_numpy(self.W)) @ abs(to_numpy(self.T)), axis=(-2, -1))
        lost = 1e3 * np.maximum(1.0, spread) + self._moved()
        for i in map(tuple, np.argwhere(which & np.isfinite(w))):
            found[i] = np.finfo(to_numpy(self.hsv).dtype).eps * np.asarray(lost)[i]
            for G in (F, *self.weights):
                if G:
                    one = member(G, i) if G.batch_shape else G
                    found[i] *= np.linalg.norm(to_numpy(response_of(one, w[i][None])))
        return found

    def __repr__(self) -> str:
        notes = "".join(f"\n  note: {flag}" for flag in self.flags)
        return f"Reduction: order {self.original.order} -> {self.order}, {self._claim()}{notes}"

    def __str__(self) -> str:
        sys, hsv, r = self.original, to_numpy(self.hsv), self.order
        ports = f"{_count(sys.n_inputs, 'input')}, {_count(sys.n_outputs, 'output')}"
        name = f"{sys.labels.name}, " if sys.labels.name else ""
        batch = f"batch of shape {sys.batch_shape}, " if sys.batch_shape else ""
        time = "discrete" if sys.is_discrete else "continuous"
        lines = [
            f"{self.method[:1].upper()}{self.method[1:]}: order {sys.order} -> {r}",
            f"  system   {name}{batch}{time}, {ports}",
        ]
        k = int(np.isinf(hsv).sum(axis=-1).max(initial=0))
        if k:
            lines.append(f"  kept     {_count(k, 'state')} not reduced")
        for word, part in (("kept", hsv[..., k:r]), ("cut", hsv[..., r:])):
            if part.shape[-1]:
                ends = " to ".join(_span(part[..., i]) for i in (0, -1)[: part.shape[-1]])
                lines.append(f"  {word:<8} {_count(part.shape[-1], 'value')}, {ends}")
        lines.append(f"  error    {self._claim()}")
        if self._measured is not None:
            error, w = map(_span, self._measured)
            unit = "rad/sample" if sys.dt is True else "rad/s"
            least = "" if self._measured_exactly else "at least "
            lines.append(f"  measured {least}{error} at w = {w} {unit}")
        return "\n".join(lines + [f"  note     {flag}" for flag in self.flags])

    def _claim(self) -> str:
        """What the certificate says, in one line."""
        error = "weighted H-infinity error" if any(self.weights) else "H-infinity error"
        upper, lower = (_span(to_numpy(x)) for x in (self.error_bound, self.lower_bound))
        if not np.isfinite(to_numpy(self.error_bound)).all():
            return f"{error}: no bound known, verify() measures it"
        return f"{lower} <= {error} <= {upper}"


def _span(x: np.ndarray) -> str:
    """One number, or the range over a batch, to three digits."""
    return f"{float(x):.3g}" if x.ndim == 0 else f"[{x.min():.3g} .. {x.max():.3g}]"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
