"""The diagonal state-space layer S4D of Gu, Gupta, Goel and Re (2022)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from compressm.layers.channels import ChannelLayer, decaying, initial_log_dt
from compressm.layers.hippo import s4d_inv, s4d_legs, s4d_lin
from compressm.layers.modes import one_of
from compressm.layers.sampling import DISCRETIZATIONS

__all__ = ["S4D"]

INITS = {"lin": s4d_lin, "inv": s4d_inv, "legs": s4d_legs}


class S4D(ChannelLayer):
    """x[t] = p * x[t-1] + b u[t],  y[t] = 2 Re(C x[t]) + D u[t], in each of H = d_model channels.

    It samples ``x' = A x + u`` with step ``dt = exp(log_dt)``. ``A = -exp(log_A_real) + i A_imag``
    and ``w = dt * A`` give

    ======== ======================= =====================
    method   p                       b
    ======== ======================= =====================
    zoh      exp(w)                  dt (exp(w) - 1) / w
    bilinear (1 + w / 2) / (1 - w/2) dt / (1 - w / 2)
    ======== ======================= =====================

    and ``|p| < 1``: the layer is stable by construction. Where rounding could undo this, p is
    scaled to four units of rounding inside the unit circle. Every parameter is a real tensor:

    ========== ============ ==================================================================
    parameter  shape        meaning
    ========== ============ ==================================================================
    log_dt     (H,)         log of the step size
    log_A_real (H, n)       log of the decay rates
    A_imag     (H, n)       frequencies
    C          (H, n, 2)    output matrix, real and imaginary part last; (H, 2, n, 2) if
                            bidirectional
    D          (H,)         feed-through
    ========== ============ ==================================================================

    Parameters
    ----------
    d_model : int
        Number of channels H.
    d_state : int
        Number of stored states n, a complex one for each conjugate pair: N = 2n in [1]_.
    init : {"lin", "inv", "legs"}, optional
        Initial A: S4D-Lin, S4D-Inv or S4D-LegS, see `compressm.layers.hippo`.
    discretization : {"zoh", "bilinear"}, optional
        How p and b come from A and dt.
    bidirectional : bool, optional
        Whether a second row of C reads the same recurrence run from the end to the start. There is
        no `step` then.
    dt_min, dt_max : float, optional
        Initial step sizes are log-uniform between these.

    Notes
    -----
    Parameters and initialisation are those of the authors' standalone module:
    B is 1, C complex normal of variance 1, D normal of variance 1.

    References
    ----------
    .. [1] A. Gu, A. Gupta, K. Goel, C. Re, "On the parameterization and initialization of diagonal
       state space models", NeurIPS 2022, arXiv:2206.11893.
    """

    state_axes: ClassVar[dict[str, int]] = {"log_A_real": 1, "A_imag": 1, "C": -2}

    def __init__(
        self,
        d_model: int,
        d_state: int,
        *,
        init: str = "lin",
        discretization: str = "zoh",
        bidirectional: bool = False,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
    ) -> None:
        super().__init__()
        one_of("init", init, tuple(INITS))
        one_of("discretization", discretization, tuple(DISCRETIZATIONS))
        self.discretization, self.bidirectional = discretization, bidirectional

        A = INITS[init](d_state).to(torch.get_default_dtype().to_complex()).repeat(d_model, 1)
        rows = (d_model, 2) if bidirectional else (d_model,)
        self.log_dt = initial_log_dt(d_model, dt_min, dt_max)
        self.log_A_real = nn.Parameter((-A.real).log())
        self.A_imag = nn.Parameter(A.imag.clone())
        self.C = nn.Parameter(torch.randn(*rows, d_state, 2) / 2**0.5)
        self.D = nn.Parameter(torch.randn(d_model))

    def _system(self, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor, Tensor]:
        log_dt, log_A_real, A_imag, C = (
            p.to(dtype) for p in (self.log_dt, self.log_A_real, self.A_imag, self.C)
        )
        dt = log_dt.exp()[:, None]
        to_discrete, _ = DISCRETIZATIONS[self.discretization]
        poles, gain = to_discrete(decaying(dt, log_A_real, A_imag))
        C = C if self.bidirectional else C[:, None]
        return self._inside(poles), dt * gain, 2 * torch.view_as_complex(C)

    def _parameters_of(self, poles: Tensor, weights: Tensor) -> dict[str, Tensor]:
        to_discrete, to_continuous = DISCRETIZATIONS[self.discretization]
        dt = self.log_dt.double().exp()[:, None]
        w = to_continuous(poles, torch.finfo(self.D.dtype).tiny)
        C = torch.view_as_real(weights / (2 * dt * to_discrete(w)[1])[:, None])
        return {
            "log_A_real": (-w.real / dt).log(),
            "A_imag": w.imag / dt,
            "C": C if self.bidirectional else C[:, 0],
        }
