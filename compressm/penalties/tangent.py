"""f(sigma) to first order in the Gramians P and Q: exact where it is made, cheap elsewhere."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

import lti
from compressm.errors import OptionError
from compressm.penalties.measures import Measure

__all__ = ["Tangent", "tangent_of"]


class Tangent(NamedTuple):
    """constant + Re tr(M P) + Re tr(N Q) summed over a batch of systems of one shape.

    M and N (k, ..., n, n) are weights of the stored modes, see `_traces`: k = 2 for a conjugate
    system, else 1. They apply to the scaled b B and c C, whose squares neither overflow nor vanish.
    """

    constant: Tensor
    b: Tensor
    c: Tensor
    M: Tensor
    N: Tensor

    def __call__(self, poles: Tensor, B: Tensor, C: Tensor) -> Tensor:
        """The value () at another batch of this shape, with its derivatives."""
        return self.constant + _Traces.apply(poles, self.b * B, self.c * C, self.M, self.N)


@torch.inference_mode(False)
@torch.no_grad()
def tangent_of(
    sys: lti.DiagonalStateSpace, measure: Measure, dtype: torch.dtype, reused: bool = True
) -> Tangent:
    """df = sum_i f'(sigma_i) (W dP W^H + T^H dQ T)_ii / 2, to be evaluated in `dtype`.

    It has a lower bound over all P and Q if no f' is negative, which is required if it is `reused`
    at other Gramians.
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
    if reused and (half < 0).any():
        raise OptionError(
            "the measure decreases when a Hankel singular value grows, so its expansion has no "
            "lower bound between two balancings; use refresh=1, or a measure that does not decrease"
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
    """Re tr(M P) + Re tr(N Q) as a function of poles, B and C; forward computes the derivatives."""

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
    1 - p p^H and 1 - conj(p) p^H are computed in double precision, the rest in that of M.
    """
    dtype, q = M.dtype, torch.stack([p, p.conj()][: len(M)])
    K = q[..., :, None] * p.conj()[..., None, :]
    K = K.neg_().add_(1).to(dtype).reciprocal_()  # in place: new memory takes longer than the sums
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
