"""The diagonal state-space layer DSS of Gupta, Gu and Berant (2022)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import lti
from compressm.layers.base import Layout
from compressm.layers.channels import ChannelLayer, decaying, diagonal_kernel, initial_log_dt
from compressm.layers.hippo import s4d_legs
from compressm.layers.modes import one_of
from compressm.layers.sampling import DISCRETIZATIONS

__all__ = ["DSS"]

to_discrete, to_continuous = DISCRETIZATIONS["zoh"]


class DSS(ChannelLayer):
    """x[t] = p * x[t-1] + b u[t],  y[t] = Re(W x[t]) + D u[t], in each of H = d_model channels.

    All channels share the eigenvalues Lambda of ``x' = Lambda x + u``, each samples them with its
    own step ``dt = exp(log_dt)``. With ``w = dt * Lambda`` and L = `l_max`

    ======= =============================== ==================== =======================
    version Lambda                          p                    b
    ======= =============================== ==================== =======================
    exp     -exp(Lambda_log_neg_re) + i ... exp(w)               (p - 1) / Lambda
    softmax Lambda_re + i Lambda_im         exp(w)               (p - 1) / Lambda / (p^L - 1)
    ======= =============================== ==================== =======================

    so that the kernel of "softmax" is ``Re(W / Lambda . softmax(w l))``, a softmax over the time
    steps l < L. "exp" is stable by construction: where rounding could undo ``|p| < 1``, p is scaled
    to four units of rounding inside the unit circle. "softmax" is not: Lambda may move to the right
    half-plane, where the softmax gives the largest weight to the distant past. Every parameter is a
    real tensor:

    ================= ========= ==============================================================
    parameter         shape     meaning
    ================= ========= ==============================================================
    log_dt            (H,)      log of the step size
    Lambda_log_neg_re (1, n)    log of the decay rates ("exp")
    Lambda_re         (1, n)    real parts ("softmax")
    Lambda_im         (1, n)    frequencies
    W                 (H, n, 2) output matrix, real and imaginary part last
    D                 (H,)      feed-through
    ================= ========= ==============================================================

    A reduction gives each channel its own eigenvalues: Lambda is (H, n) from then on.

    Parameters
    ----------
    d_model : int
        Number of channels H.
    d_state : int
        Number of complex states n. They do not stand for conjugate pairs: there is no factor 2.
    version : {"exp", "softmax"}, optional
        How the kernel is normalised.
    l_max : int, optional
        The length L in the normalisation of "softmax", required there; sequences may be longer or
        shorter. In [1]_ it is the length of each sequence, so that the system depends on it; a
        layer that is reduced or run step by step must be one system.
    dt_min, dt_max : float, optional
        Initial step sizes are log-uniform between these.

    Notes
    -----
    Initialisation follows [1]_: Lambda holds the eigenvalues of the normal part of HiPPO-LegS of
    2n states in the upper half-plane; real and imaginary parts of W, and D, are normal of
    variance 1. As in [1]_ "softmax" has no value where Lambda or ``p^L - 1`` is exactly 0.

    References
    ----------
    .. [1] A. Gupta, A. Gu, J. Berant, "Diagonal state spaces are as effective as structured state
       spaces", NeurIPS 2022, arXiv:2203.14343.
    """

    l_max: Tensor

    def __init__(
        self,
        d_model: int,
        d_state: int,
        *,
        version: str = "exp",
        l_max: int | None = None,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
    ) -> None:
        super().__init__()
        one_of("version", version, ("exp", "softmax"))
        if version == "softmax" and (l_max is None or l_max < 1):
            raise lti.OptionError(
                f"version 'softmax' normalises over a length, got l_max={l_max}; pass the length "
                "of the training sequences"
            )
        self.version = version
        self._re = "Lambda_log_neg_re" if version == "exp" else "Lambda_re"
        self.state_axes = {self._re: 1, "Lambda_im": 1, "W": 1}

        poles = s4d_legs(d_state).to(torch.get_default_dtype().to_complex()).unsqueeze(0)
        re = (-poles.real).log() if version == "exp" else poles.real.clone()
        self.log_dt = initial_log_dt(d_model, dt_min, dt_max)
        self.register_parameter(self._re, nn.Parameter(re))
        self.Lambda_im = nn.Parameter(poles.imag.clone())
        self.W = nn.Parameter(torch.randn(d_model, d_state, 2))
        self.D = nn.Parameter(torch.randn(d_model))
        if version == "softmax":
            self.register_buffer("l_max", torch.tensor(l_max))  # W depends on it

    @property
    def _is_modal(self) -> bool:
        return self.version == "exp"  # modes of "softmax" may grow

    def _layouts(self) -> list[Layout]:
        H = self.d_model
        return [{self._re: (h, "n"), "Lambda_im": (h, "n"), "W": (H, "n", 2)} for h in (1, H)]

    def _continuous(self, dtype: torch.dtype | None) -> tuple[Tensor, Tensor]:
        """dt (H, 1) and w = dt * Lambda (H, n)."""
        parameters = (self.log_dt, getattr(self, self._re), self.Lambda_im)
        log_dt, re, im = (p.to(dtype) for p in parameters)
        dt = log_dt.exp()[:, None]
        return dt, decaying(dt, re, im) if self.version == "exp" else torch.complex(
            dt * re, dt * im
        )

    def _gain(self, dt: Tensor, w: Tensor, ahead: int = 0) -> Tensor:
        """b, for "softmax" times p^ahead."""
        gain = dt * to_discrete(w)[1]
        if self.version == "exp":
            return gain
        # p^ahead / (p^L - 1), for growing modes in powers of 1/p: powers of p would overflow
        L = self.l_max
        grows = w.real > 0
        s = torch.where(grows, -w, w)
        power = (s * torch.where(grows, L - ahead, ahead)).exp() / (L * s).expm1()
        return gain * torch.where(grows, -power, power)

    def _system(self, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor, Tensor]:
        dt, w = self._continuous(dtype)
        poles, _ = to_discrete(w)
        poles = torch.where(w.real < 0, self._inside(poles), poles)
        return poles, self._gain(dt, w), torch.view_as_complex(self.W.to(dtype))[:, None]

    def _kernel(self, length: int) -> Tensor:
        if self._is_modal:
            return super()._kernel(length)
        dt, w = self._continuous(torch.float64)
        grows = w.real > 0
        if not grows.any():
            return super()._kernel(length)
        # A mode that grows is one that decays from the end of the kernel to its start
        poles, B, C = self._system(torch.float64)
        end = self._gain(dt, w, length - 1)
        falling, rising = (
            diagonal_kernel(torch.where(k, p, 0), C * torch.where(k, b, 0)[:, None], length,
                            self.D.dtype)
            for k, p, b in ((~grows, poles, B), (grows, 1 / poles, end))
        )  # fmt: skip
        return falling + rising.flip(-1)

    def _parameters_of(self, poles: Tensor, weights: Tensor) -> dict[str, Tensor]:
        w = to_continuous(poles, torch.finfo(self.D.dtype).tiny)
        dt = self.log_dt.double().exp()[:, None]
        re = w.real / dt
        return {
            self._re: (-re).log() if self.version == "exp" else re,
            "Lambda_im": w.imag / dt,
            "W": torch.view_as_real(weights[:, 0] / self._gain(dt, w)),
        }
