"""loss + weight * penalty: spectra that fall steeply, so that later cuts cost less.

A penalty is a measure of each layer's Hankel singular values sigma, summed over layers.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

import lti
from compressm._renamed import _is_real as is_real
from compressm.errors import OptionError
from compressm.systems.batches import batched, grouped_by_shape, precision
from compressm.systems.find import ssm_layers

__all__ = [
    "HankelPenalty",
    "hankel_nuclear_norm",
    "hankel_smooth_order",
    "hankel_tail_energy",
    "nuclear_norm",
    "smooth_order",
    "tail_energy",
]

Measure = Callable[[Tensor], Tensor]
"""From sigma (..., n), descending, to (...): one number for each system of a stack."""


# ------------------------------------------------------------------ measures of a spectrum


def nuclear_norm(sigma: Tensor) -> Tensor:
    """sum(sigma), the nuclear norm of the Hankel operator.

    Parameters
    ----------
    sigma : Tensor (..., n)

    Returns
    -------
    Tensor (...)
        It falls with the layer's gain as well as with its order.
    """
    return sigma.sum(-1)


def tail_energy(sigma: Tensor, energy: float = 0.9) -> Tensor:
    """sum(sigma[r:]), with r the order that keeps `energy`: only what is to be cut.

    Parameters
    ----------
    sigma : Tensor (..., n)
    energy : float, optional
        Share of sum(sigma) that the leading values hold, which are left alone; in (0, 1).

    Returns
    -------
    Tensor (...)

    Raises
    ------
    ValueError
        If `energy` lies outside.
    """
    if not 0 < energy < 1:
        raise OptionError(f"energy is the share left alone and must lie in (0, 1), got {energy}")
    kept = sigma.detach().cumsum(-1) - sigma.detach()
    tail = kept >= energy * sigma.detach().sum(-1, keepdim=True)
    return (sigma * tail).sum(-1)


def smooth_order(sigma: Tensor, level: float = 0.01) -> Tensor:
    """sum(sigma / (sigma + level sigma[0])): the number of values above a level, smoothly.

    Parameters
    ----------
    sigma : Tensor (..., n)
    level : float, optional
        Where a value counts one half, in units of the largest, which is taken as given; positive.

    Returns
    -------
    Tensor (...)
        From 0 to n. The smaller a value, the harder it is pushed.

    Raises
    ------
    ValueError
        If `level` is not positive.
    """
    if not level > 0:
        raise OptionError(f"level must be positive, got {level}")
    half = level * sigma.detach()[..., :1]
    return (sigma / torch.where(half > 0, sigma + half, 1.0)).sum(-1)


# ------------------------------------------------------------------ penalties of a model


def hankel_nuclear_norm(model: nn.Module, system: Literal["real", "complex"] = "real") -> Tensor:
    """sum over layers of sum(sigma), to be added to a loss.

    Parameters
    ----------
    model : nn.Module
        Its linear state-space layers count: each `SSMLayer`, and what `to_lti` was taught.
    system : {"real", "complex"}, optional
        As in `Compressor`.

    Returns
    -------
    Tensor ()
        With derivatives for the parameters of the layers, the exact ones at every call;
        `HankelPenalty` is cheaper.

    Raises
    ------
    lti.LTIError
        If a layer is not stable or not finite.

    References
    ----------
    Schwerdtner, Berman, Peherstorfer, "Hankel singular value regularization for highly compressible
    state space models", NeurIPS 2025, arXiv:2510.22951.

    Examples
    --------
    >>> import torch
    >>> from compressm import SequenceModel, hankel_nuclear_norm
    >>> model = SequenceModel(d_input=1, d_output=2, d_model=4, d_state=6, n_layers=2)
    >>> loss = model(torch.randn(3, 10, 1)).square().mean()
    >>> (loss + 1e-3 * hankel_nuclear_norm(model)).backward()
    """
    return _exact(model, nuclear_norm, system)


def hankel_tail_energy(
    model: nn.Module, energy: float = 0.9, system: Literal["real", "complex"] = "real"
) -> Tensor:
    """sum over layers of sum(sigma[r:]), see `tail_energy`.

    Parameters
    ----------
    model, system
        As in `hankel_nuclear_norm`.
    energy : float, optional
        As in `tail_energy`.

    Returns
    -------
    Tensor ()
    """
    return _exact(model, partial(tail_energy, energy=energy), system)


def hankel_smooth_order(
    model: nn.Module, level: float = 0.01, system: Literal["real", "complex"] = "real"
) -> Tensor:
    """sum over layers of sum(sigma / (sigma + level sigma[0])), see `smooth_order`.

    Parameters
    ----------
    model, system
        As in `hankel_nuclear_norm`.
    level : float, optional
        As in `smooth_order`.

    Returns
    -------
    Tensor ()
    """
    return _exact(model, partial(smooth_order, level=level), system)


def _exact(model: nn.Module, measure: Measure, system: str) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for names, systems in grouped_by_shape(model, is_real(system)):
        with batched(names, systems) as stack:
            value = measure(lti.hankel_singular_values(stack)).sum()
        total = total.to(value.device) + value
    return total


class HankelPenalty:
    """f(sigma) + <dL/dP, P - P_0> + <dL/dQ, Q - Q_0>: a penalty for every step of training.

    In place of the Hankel singular values at every call, those of every `refresh`-th are used, with
    the Gramians P and Q of each: for the nuclear norm this is the bound ``2 sum(sigma) <= tr(W P
    W^H) + tr(T^H Q T)`` that every balancing T, W of an earlier step gives (if of full rank), tight
    where it was made. A call between costs a few products of n x n matrices.

    Parameters
    ----------
    model : nn.Module
        Its linear state-space layers count: each `SSMLayer`, and what `to_lti` was taught.
    measure : callable, optional
        `nuclear_norm`, `tail_energy`, `smooth_order`, or any other function from sigma (..., n) to
        (...) that does not fall as a value grows.
    every : int, optional
        Evaluate at each `every`-th call only, with `every` times the value; other calls return 0.
    refresh : int, optional
        Evaluations for which one balancing serves; 1 for the exact penalty.
    system : {"real", "complex"}, optional
        As in `Compressor`.
    weight : float, optional
        Factor of all of it.

    Raises
    ------
    ValueError
        If `every` or `refresh` is not a positive integer, or `system` is unknown; at a call, if
        the measure falls as a value grows and `refresh` is not 1.

    Notes
    -----
    After a cut, or when a checkpoint of another order is loaded, the next call balances anew. What
    was below rounding in a balancing (a layer whose B is zero) has no weight until the next one.

    References
    ----------
    The variational form of the nuclear norm, and its use as a majorizer: Recht, Fazel, Parrilo,
    "Guaranteed minimum-rank solutions of linear matrix equations via nuclear norm minimization",
    SIAM Review 52 (2010), section 5.

    Examples
    --------
    >>> import torch
    >>> from compressm import HankelPenalty, SequenceModel
    >>> model = SequenceModel(d_input=1, d_output=2, d_model=4, d_state=6, n_layers=1)
    >>> penalty = HankelPenalty(model, every=2, weight=1e-3)
    >>> for step in range(4):
    ...     loss = model(torch.randn(3, 10, 1)).square().mean() + penalty()
    ...     loss.backward()
    """

    def __init__(
        self,
        model: nn.Module,
        measure: Measure = nuclear_norm,
        *,
        every: int = 1,
        refresh: int = 100,
        system: Literal["real", "complex"] = "real",
        weight: float = 1.0,
    ) -> None:
        for name, value in (("every", every), ("refresh", refresh)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise OptionError(f"{name} must be a positive integer, got {value!r}")
        is_real(system)
        if not 0 <= weight < math.inf:
            raise OptionError(f"weight must be a finite number >= 0, got {weight}")
        self.model = model
        self.measure = measure
        self.every = every
        self.refresh = refresh
        self.system = system
        self.weight = weight
        self._calls = 0
        self._tangents: dict[Any, Tangent] = {}

    def __call__(self) -> Tensor:
        """The penalty at the model as it is.

        Returns
        -------
        Tensor ()
            A plain zero, without derivatives, at calls that `every` leaves out.

        Raises
        ------
        lti.LTIError
            If a layer is not stable or not finite when it is balanced.
        """
        self._calls += 1
        total = torch.zeros((), dtype=torch.float64)
        if (self._calls - 1) % self.every:
            return total
        stale = (self._calls - 1) // self.every % self.refresh == 0
        layers, tangents = dict(ssm_layers(self.model)), {}
        for names, systems in grouped_by_shape(self.model, is_real(self.system)):
            if isinstance(systems[0], lti.StateSpace):  # no closed form: balanced every time
                with batched(names, systems) as stack:
                    value = self.measure(lti.hankel_singular_values(stack)).sum()
                total = total.to(value.device) + value
                continue
            matrices = [torch.stack([getattr(x, k) for x in systems]) for k in ("poles", "B", "C")]
            double = precision(layers[names[0]]) == torch.float64
            dtype = torch.complex128 if double else torch.complex64
            key = (names, matrices[1].shape, dtype, matrices[1].device)
            tangent = None if stale else self._tangents.get(key)
            if tangent is None:
                with batched(names, systems) as stack:
                    tangent = tangent_of(cast(Any, stack), self.measure, dtype, self.refresh > 1)
            tangents[key] = tangent
            value = tangent(*matrices)
            total = total.to(value.device) + value
        self._tangents = tangents  # none of a model that is no more
        return self.weight * self.every * total

    def state_dict(self) -> dict[str, Any]:
        """The balancings in use, and how long they have served: what a resumed run needs."""
        tangents = [
            {"layers": key[0], "shape": tuple(key[1]), "tangent": tuple(tangent)}
            for key, tangent in self._tangents.items()
        ]
        return {"calls": self._calls, "tangents": tangents}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the penalty would have that `state_dict` was called of.

        Parameters
        ----------
        state : dict
            Of a penalty of the same measure. Load the model as well, before.

        Raises
        ------
        ValueError
            If it is that of another model.
        """
        layers = dict(ssm_layers(self.model))
        foreign = {name for part in state["tangents"] for name in part["layers"]} - layers.keys()
        if foreign:
            raise OptionError(
                f"the state is that of a penalty of another model: there is no {min(foreign)}"
            )
        self._calls, self._tangents = int(state["calls"]), {}
        for part in state["tangents"]:
            names = tuple(part["layers"])
            device = next(layers[names[0]].parameters()).device
            tangent = Tangent(*(x.to(device) for x in part["tangent"]))
            self._tangents[names, torch.Size(part["shape"]), tangent.M.dtype, device] = tangent


# ------------------------------------------------------------------ the first order of a measure


class Tangent(NamedTuple):
    """constant + Re tr(M P) + Re tr(N Q) for a stack of systems of one shape, summed.

    M and N (k, ..., n, n) are weights of the stored modes, see `_traces`: k = 2 for a conjugate
    system, else 1. They are meant for b B and c C, of which no square overflows or vanishes.
    """

    constant: Tensor
    b: Tensor
    c: Tensor
    M: Tensor
    N: Tensor

    def __call__(self, poles: Tensor, B: Tensor, C: Tensor) -> Tensor:
        """The value () at another stack of the shape, with its derivatives."""
        return self.constant + _Traces.apply(poles, self.b * B, self.c * C, self.M, self.N)


@torch.inference_mode(False)
@torch.no_grad()
def tangent_of(
    sys: lti.DiagonalStateSpace, measure: Measure, dtype: torch.dtype, stays: bool = True
) -> Tangent:
    """df = sum_i f'(sigma_i) (W dP W^H + T^H dQ T)_ii / 2, to be evaluated in `dtype`.

    Where no f' is negative it is bounded from below, however far P and Q go.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lti.ReductionWarning)
        balancing = lti.balance(sys)
    b, c = (x.abs().sum((-2, -1), keepdim=True) for x in (sys.B, sys.C))
    b, c = (1 / torch.where(x > 0, x, 1.0) for x in (b, c))
    T, W = balancing.T / c, balancing.W / b
    with torch.enable_grad():
        sigma = balancing.sigma.clone().requires_grad_()
        value = measure(sigma).sum()
    half = torch.autograd.grad(value, sigma)[0][..., None, : T.shape[-1]] / 2
    if stays and (half < 0).any():
        raise OptionError(
            "the measure falls as a Hankel singular value grows, and would be driven without end "
            "between two balancings; use refresh=1, or a measure that does not"
        )
    M, N = (W.mH * half) @ W, (T * half) @ T.mH
    # Q belongs to the dual system, whose poles and inputs are conj(p) and C^H
    M, N = (_of_modes(M), _of_modes(4 * N)) if sys.conjugate else (M.conj()[None], N.conj()[None])
    M, N = (x.to(dtype).resolve_conj() for x in (M, N.conj()))
    at, *_ = _traces(sys.poles, b * sys.B, c * sys.C, M, N)
    return Tangent(value.detach() - at, b, c, M, N)


def _of_modes(M: Tensor) -> Tensor:
    """X, Y: tr(M P) = Re sum(X * E[x x^H] + Y * E[conj(x) x^H]), P = E[z z^T], z = [Re x, Im x]."""
    n = M.shape[-1] // 2
    a, b, c = M[..., :n, :n], M[..., :n, n:], M[..., n:, n:]
    return torch.stack(
        [torch.complex((a + c) / 2, (b - b.mT) / 2), torch.complex((a - c) / 2, (b + b.mT) / 2)]
    )


class _Traces(Function):
    """Re tr(M P) + Re tr(N Q) as a function of poles, B and C; its derivatives come along."""

    @staticmethod
    def forward(ctx: Any, poles: Tensor, B: Tensor, C: Tensor, M: Any, N: Any) -> Tensor:
        value, *slopes = _traces(poles, B, C, M, N)
        ctx.save_for_backward(*slopes)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple:
        return *(cotangents[0] * slope for slope in ctx.saved_tensors), None, None


def _traces(p: Tensor, B: Tensor, C: Tensor, M: Tensor, N: Tensor) -> tuple[Tensor, ...]:
    """Re sum((X * B B^H + U * C^T conj(C)) / (1 - p p^H)) and its slopes for p, B and C.

    X, Y = M and U, V = N; where there is a second, ``Re sum((Y * conj(B) B^H + V * C^H conj(C)) /
    (1 - conj(p) p^H))`` is added. Of the first, X and U are Hermitian, of the second symmetric.
    1 - p p^H and its kind are computed in double precision, the rest in that of M.
    """
    dtype, q = M.dtype, torch.stack([p, p.conj()][: len(M)])
    K = q[..., :, None] * p.conj()[..., None, :]
    K = K.neg_().add_(1).to(dtype).reciprocal_()  # in place: new memory costs more than sums
    value, pole, slopes = 0.0, 0.0, []
    for x, weights in ((B.mT, M), (C, N)):
        x = x.to(dtype)
        L = weights * K
        slope = _product(x, L)
        turn = _product(x * q[0, ..., None, :].to(dtype), L.mul_(K))
        value = value + (x.conj() * slope).real.sum()
        pole = pole + 2 * (x.conj() * turn).sum(-2)
        slopes.append(2 * slope)
    b, c = slopes
    return value.to(torch.float64), pole.to(p.dtype), b.mT.to(B.dtype), c.to(C.dtype)


def _product(x: Tensor, L: Tensor) -> Tensor:
    """x X + conj(x) Y for X, Y = L; x X if there is no Y."""
    if len(L) == 1:
        return x @ L[0]
    # Re x (X + Y) + i Im x (X - Y): a real times a complex matrix is half the work of a complex one
    X, Y = L
    return torch.add(_times(x.real, X + Y), _times(x.imag, X - Y), alpha=1j)


def _times(a: Tensor, z: Tensor) -> Tensor:
    """a z for a real and a complex matrix."""
    product = a @ torch.view_as_real(z).flatten(-2)
    return torch.view_as_complex(product.unflatten(-1, (-1, 2)))
