"""The linear state-space layer LSSL of Gu et al. (2021)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

import lti
from compressm.layers.base import Layout
from compressm.layers.channels import ChannelLayer, initial_log_dt
from compressm.layers.hippo import hippo_legs
from compressm.layers.sampling import DISCRETIZATIONS
from compressm.ops.powers import krylov

__all__ = ["LSSL"]

to_discrete, to_continuous = DISCRETIZATIONS["bilinear"]
MARGIN = 1e-4  # of the damping, so that no pole of `to_lti` is on the boundary


class LSSL(ChannelLayer):
    """x' = A x + B u,  y = C x + D u, with dense real A, in each of H = d_model channels.

    The bilinear transform of step ``dt = exp(log_dt)`` gives ``A' = (1 - dt/2 A)^-1 (1 + dt/2 A)``
    and ``B' = (1 - dt/2 A)^-1 dt B`` of ``x[t] = A' x[t-1] + B' u[t]``. The layer is stable by
    construction: ``A = K - K^T - L L^T - 1e-4``, K the upper triangle of a matrix M without its
    diagonal and L the lower one with it, has ``A + A^T < 0``, which makes A' a contraction. Every
    parameter is a real tensor:

    ========= ====== ======================== =================================
    parameter dense  diagonal                 meaning
    ========= ====== ======================== =================================
    log_dt    (H,)   (H,)                     log of the step size
    M         (n, n) (H, n, 2)                K and L of A; poles if diagonal
    B         (n,)   (0,), which stands for 1 input matrix
    C         (H, n) (H, n, 2)                output matrix
    D         (H,)   (H,)                     feed-through
    ========= ====== ======================== =================================

    All channels share the dense M and B. A reduced system differs between channels, and is kept in
    diagonal form with n stored complex states, ``y = 2 Re(C x) + D u``, real and imaginary parts
    last. In that form poles outside the unit circle are scaled to four units of rounding inside.

    Parameters
    ----------
    d_model : int
        Number of channels H.
    d_state : int
        Number of real states n.
    dt_min, dt_max : float, optional
        Initial step sizes are log-uniform between these.

    Notes
    -----
    A and B start as HiPPO-LegS, for which ``A + A^T = -1 - B B^T``; C and D are normal of variance
    1. The A of [1]_ is free, and leaves the stable region where it trains fast. The kernel
    ``C A'^l B'`` is a Krylov sequence, computed by doubling in O(n^3 log L + n^2 L) for each
    channel.

    References
    ----------
    .. [1] A. Gu, I. Johnson, K. Goel, K. Saab, T. Dao, A. Rudra, C. Re, "Combining recurrent,
       convolutional, and continuous-time models with linear state-space layers", NeurIPS 2021,
       arXiv:2110.13985.
    """

    state_axes: ClassVar[dict[str, int]] = {"M": 1, "B": 0, "C": 1}

    def __init__(
        self, d_model: int, d_state: int, *, dt_min: float = 0.001, dt_max: float = 0.1
    ) -> None:
        super().__init__()
        dtype, (A, B) = torch.get_default_dtype(), hippo_legs(d_state)
        damping = -(A + A.mT) / 2 - MARGIN * torch.eye(d_state, dtype=A.dtype)
        M = (A - A.mT).triu(1) / 2 + torch.linalg.cholesky(damping)
        self.log_dt = initial_log_dt(d_model, dt_min, dt_max)
        self.M = nn.Parameter(M.to(dtype))
        self.B = nn.Parameter(B.to(dtype))
        self.C = nn.Parameter(torch.randn(d_model, d_state))
        self.D = nn.Parameter(torch.randn(d_model))

    @property
    def is_diagonal(self) -> bool:
        """Whether a reduced system has been written into the layer."""
        return self.M.ndim == 3

    @property
    def _is_modal(self) -> bool:
        return self.is_diagonal

    @property
    def A(self) -> Tensor:
        """The state matrix (n, n), or its poles (H, n, 2) if it is diagonal."""
        return self.M if self.is_diagonal else _dissipative(self.M)

    def _layouts(self) -> list[Layout]:
        H = self.d_model
        return [
            {"M": ("n", "n"), "B": ("n",), "C": (H, "n")},
            {"M": (H, "n", 2), "B": (0,), "C": (H, "n", 2)},
        ]

    def _dense(self, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """A' (H, n, n), B' (H, n), C (H, 1, n), real."""
        log_dt, M, B, C = (p.to(dtype) for p in (self.log_dt, self.M, self.B, self.C))
        A = _dissipative(M)
        half = log_dt.exp()[:, None, None] / 2
        identity = torch.eye(len(A), dtype=A.dtype, device=A.device)
        right = torch.cat([identity + half * A, 2 * half * B[:, None]], -1)
        solved = torch.linalg.solve(identity - half * A, right)
        return solved[..., :-1], solved[..., -1], C[:, None]

    def _system(self, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor, Tensor]:
        log_dt, M, C = (p.to(dtype) for p in (self.log_dt, self.M, self.C))
        dt = log_dt.exp()[:, None]
        poles, gain = to_discrete(dt * torch.view_as_complex(M))
        return self._inside(poles), dt * gain, 2 * torch.view_as_complex(C)[:, None]

    def initial_state(self, batch: int) -> Tensor:
        """The state before the first step, zeros (batch, d_model, n); real while A is dense."""
        state = super().initial_state(batch)
        return state if self.is_diagonal else state.real.clone()

    def to_lti(self, conjugate: bool = True) -> lti.DiagonalStateSpace | lti.StateSpace:
        """G(z) = C (z I - A')^-1 B' of every channel, a batch (d_model,) in double precision.

        The layer is ``z G(z) + D``, as explained at `LRU.to_lti`.

        Parameters
        ----------
        conjugate : bool, optional
            True: the real system, which is what the layer computes. False: the complex one of
            whose output the layer takes the real part. A dense G is the real system in both cases.
        """
        if self.is_diagonal:
            return super().to_lti(conjugate)
        A, B, C = self._dense(torch.float64)
        return lti.StateSpace(A, B[..., None], C.clone(), dt=True)

    def _kernel(self, length: int) -> Tensor:
        if self.is_diagonal:
            return super()._kernel(length)
        A, B, C = self._dense()
        return (krylov(A, C, length) @ B[:, None, :, None])[..., 0]

    def _free(self, state: Tensor, length: int) -> Tensor:
        if self.is_diagonal:
            return super()._free(state, length)
        A, _, C = self._dense()
        x = (A @ state.to(A.dtype)[..., None])[..., 0]
        return torch.einsum("hln,bhn->bhl", krylov(A, C, length)[:, 0], x)

    def _constants(self) -> tuple[Tensor, ...]:
        return super()._constants() if self.is_diagonal else self._dense()

    def _advance(self, u: Tensor, state: Tensor | None, *system: Tensor) -> Tensor:
        if self.is_diagonal:
            return super()._advance(u, state, *system)
        A, B = system
        x = B * u[..., None]
        return x if state is None else x + (A @ state[..., None])[..., 0]

    def _parameters_of(self, poles: Tensor, weights: Tensor) -> dict[str, Tensor]:
        w = to_continuous(poles, torch.finfo(self.D.dtype).tiny)
        dt = self.log_dt.double().exp()[:, None]
        return {
            "M": torch.view_as_real(w / dt),
            "B": self.B.new_empty(0),
            "C": torch.view_as_real(weights[:, 0] / (2 * dt * to_discrete(w)[1])),
        }


def _dissipative(M: Tensor) -> Tensor:
    """A = K - K^T - L L^T - 1e-4, for M = K + L, K strictly upper and L lower triangular."""
    K, L = M.triu(1), M.tril()
    return K - K.mT - L @ L.mT - MARGIN * torch.eye(len(M), dtype=M.dtype, device=M.device)
