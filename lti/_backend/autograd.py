"""Derivatives of the theorems in torch: Lyapunov equations and balanced coordinates.

Nothing is differentiated through an iteration, an LQ factorisation or an SVD. The values come from
the factors, as everywhere; what stands here are the adjoints. A cotangent G of X means
dL = Re tr(G^H dX), torch's convention for complex numbers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from lti._backend.shifts import cheap_shift
from lti.errors import DerivativeError

EPS = 2.0**-52
APART = 1e-8  # relative; values closer than that are one, whatever turns their states into another


class Lyapunov(Function):
    """X: A X A^H - X + M = 0, or A X + X A^H + M = 0; its derivative solves the same equation.

    With Y the solution for A^H and the cotangent of X in place of A and M, that of M is Y, and that
    of A is ``Y A X^H + Y^H A X``, or ``Y X^H + Y^H X``.
    """

    @staticmethod
    def forward(A: Tensor, M: Tensor, discrete: bool, known: Tensor | None) -> Tensor:
        return solve(A, M, discrete) if known is None else known.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        A, _, ctx.discrete, _ = inputs
        ctx.save_for_backward(A, output)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple:
        A, X = ctx.saved_tensors
        Y = Lyapunov.apply(A.mH, cotangents[0], ctx.discrete, None)
        AX, AXh = (A @ X, A @ X.mH) if ctx.discrete else (X, X.mH)
        return Y @ AXh + Y.mH @ AX, Y, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple, A: Tensor, M: Tensor, discrete: bool, known: Any) -> Any:
        A, M, known = (_front(info, x, dim) for x, dim in zip((A, M, known),
                       (in_dims[0], in_dims[1], in_dims[3]), strict=True))  # fmt: skip
        return Lyapunov.apply(A, M, discrete, known), 0


def _front(info: Any, x: Any, dim: int | None) -> Any:
    """The axis that vmap maps, moved to the front."""
    if x is None:
        return None
    return x.expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)


def solve(A: Tensor, M: Tensor, discrete: bool) -> Tensor:
    """The sum of A^k M A^kH by doubling, for any M; continuous time by the bilinear map."""
    if A.shape[-1] == 0:
        return M
    if not discrete:
        a, identity = cheap_shift(A), torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
        E = torch.linalg.inv(a * identity - A)
        A, M = 2 * a * E - identity, 2 * a * (E @ M @ E.mH)
    for _ in range(64):
        step = A @ M @ A.mH
        M = M + step
        if bool((step.abs().amax((-2, -1)) <= EPS * M.abs().amax((-2, -1))).all()):
            break
        A = A @ A
    return M


class Balance(Function):
    """sigma, T, W of W P W^H = T^H Q T = diag(sigma), as functions of P and Q.

    With dP' = W dP W^H and dQ' = T^H dQ T: dsigma = (dP' + dQ')_ii / 2, dT = T X and dW = -X W with
    ``X_ij = (sigma_j dP'_ij + sigma_i dQ'_ij) / (sigma_j^2 - sigma_i^2)`` off the diagonal. What
    only moves between coordinates of one reduced system is left out: the scale of a state (X_ii),
    states of equal values turning into each other (equal to 1e-8), directions that no input
    reaches or no output sees. So derivatives of T and W are right for what does not depend on such
    a choice: transfer functions, Markov parameters, T @ W.
    """

    @staticmethod
    def forward(P: Tensor, Q: Tensor, sigma: Tensor, T: Tensor, W: Tensor) -> tuple:
        return sigma.clone(), T.clone(), W.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        ctx.save_for_backward(*inputs[:2], *output)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple:
        P, Q, sigma, T, W = ctx.saved_tensors
        s_, T_, W_ = cotangents
        k = T.shape[-1]
        half = torch.zeros_like(sigma[..., :k]) if s_ is None else s_[..., :k] / 2
        P_, Q_ = (W.mH * half[..., None, :]) @ W, (T * half[..., None, :]) @ T.mH
        if T_ is not None or W_ is not None:
            s = sigma[..., :k]
            gap = s[..., None, :] ** 2 - s[..., :, None] ** 2
            near = gap.abs() <= APART * torch.maximum(s[..., None, :], s[..., :, None]) ** 2
            F = torch.where(near, 0.0, 1 / torch.where(near, 1.0, gap))
            turn = T.mH @ (torch.zeros_like(T) if T_ is None else T_)
            K = F * (turn if W_ is None else turn - W_ @ W.mH)
            P_ = P_ + W.mH @ (K * s[..., None, :]) @ W
            Q_ = Q_ + T @ (s[..., :, None] * K) @ T.mH
        P_, Q_ = (P_ + P_.mH) / 2, (Q_ + Q_.mH) / 2
        return Once.apply(P_, P), Once.apply(Q_, Q), None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *args: Any) -> tuple:
        stacked = [_front(info, x, dim) for x, dim in zip(args, in_dims, strict=True)]
        return Balance.apply(*stacked), (0, 0, 0)


class First(Function):
    """The identity, through which only a first derivative is taken."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Tensor:
        return Once.apply(cotangents[0], *ctx.saved_tensors)


class Once(Function):
    """The identity, whose own derivative raises: a first derivative without a second one."""

    @staticmethod
    def forward(x: Tensor, source: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple:
        raise DerivativeError(
            "balanced coordinates, Hankel singular values and peak gains have a first derivative "
            "only, and a second one was asked for; use Gramians or the H2 norm, or detach the first"
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple, x: Tensor, source: Tensor) -> Any:
        return Once.apply(_front(info, x, in_dims[0]), _front(info, source, in_dims[1])), 0
