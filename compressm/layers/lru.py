"""The linear recurrent unit of Orvieto et al. (2023)."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

import lti
from compressm.layers.base import SSMLayer
from compressm.scan import linear_ssm
from compressm.surgery import resize_

__all__ = ["LRU"]


class LRU(SSMLayer):
    """x[t] = lambda * x[t-1] + gamma * (B u[t]),  y[t] = Re(C x[t]) + D * u[t].

    ``lambda = exp(-(exp(nu_log) + floor) + i exp(theta_log))`` and ``gamma = exp(gamma_log)``. The
    floor, four units of rounding, keeps ``|lambda| < 1`` for every finite `nu_log` even after
    rounding, so the layer is stable by construction. Every parameter is a real tensor:

    ========= =============== ==========================================
    parameter shape           meaning
    ========= =============== ==========================================
    nu_log    (n,)            log of the decay rate
    theta_log (n,)            log of the phase
    gamma_log (n,)            log of the input gain
    B         (n, d_model, 2) input matrix, real and imaginary part last
    C         (d_model, n, 2) output matrix, likewise
    D         (d_model,)      elementwise feed-through
    ========= =============== ==========================================

    Parameters
    ----------
    d_model : int
        Number of inputs and of outputs.
    d_state : int
        Number of complex states n.
    r_min, r_max : float, optional
        Initial eigenvalues are uniform on the ring between these radii ...
    max_phase : float, optional
        ... with phases in [0, max_phase].

    Notes
    -----
    Parameters and initialisation follow [1]_: ``|lambda|^2`` and the phase uniform,
    ``gamma = sqrt(1 - |lambda|^2)``, normal real and imaginary parts of variance 1/(2 d_model) in B
    and 1/n in C, normal D of variance 1.

    References
    ----------
    .. [1] A. Orvieto, S. L. Smith, A. Gu, A. Fernando, C. Gulcehre, R. Pascanu, S. De,
       "Resurrecting recurrent neural networks for long sequences", ICML 2023, arXiv:2303.06349.
    """

    state_axes: ClassVar[dict[str, int]] = {
        "nu_log": 0,
        "theta_log": 0,
        "gamma_log": 0,
        "B": 0,
        "C": 1,
    }

    def __init__(
        self,
        d_model: int,
        d_state: int,
        *,
        r_min: float = 0.9,
        r_max: float = 0.999,
        max_phase: float = 2 * math.pi,
    ) -> None:
        super().__init__()
        radius = torch.empty(d_state).uniform_(r_min**2, r_max**2).sqrt()
        phase = max_phase * (1 - torch.rand(d_state))  # never 0, whose log is not finite
        self.nu_log = nn.Parameter(radius.log().neg().log())
        self.theta_log = nn.Parameter(phase.log())
        self.gamma_log = nn.Parameter((1 - radius**2).log() / 2)
        self.B = nn.Parameter(torch.randn(d_state, d_model, 2) / math.sqrt(2 * d_model))
        self.C = nn.Parameter(torch.randn(d_model, d_state, 2) / math.sqrt(max(d_state, 1)))
        self.D = nn.Parameter(torch.randn(d_model))

    @property
    def d_model(self) -> int:
        """Number of inputs and of outputs."""
        return self.D.shape[0]

    @property
    def poles(self) -> Tensor:
        """lambda = exp(-(exp(nu_log) + floor) + i exp(theta_log)), (n,) complex."""
        return self._system()[0]

    @property
    def _floor(self) -> float:
        return 4 * torch.finfo(self.nu_log.dtype).eps

    def _system(self, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """lambda, diag(gamma) B and C, complex, computed in `dtype`."""
        nu_log, theta_log, gamma_log, B, C = (
            p.to(dtype) for p in (self.nu_log, self.theta_log, self.gamma_log, self.B, self.C)
        )
        poles = torch.polar((-(nu_log.exp() + self._floor)).exp(), theta_log.exp())
        B = torch.view_as_complex(gamma_log.exp()[:, None, None] * B)
        return poles, B, torch.view_as_complex(C)

    def forward(self, u: Tensor, state: Tensor | None = None) -> Tensor:
        """y[t] = Re(C x[t]) + D * u[t] for a whole sequence.

        Parameters
        ----------
        u : (batch, length, d_model)
        state : (batch, n) complex, optional
            State before the first step; zero when absent.

        Returns
        -------
        (batch, length, d_model)
        """
        y, _ = linear_ssm(u, *self._system(), state)
        return torch.addcmul(y, self.D, u)

    def step(self, u: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x = lambda * state + gamma * (B u),  y = Re(C x) + D * u: one time step.

        Parameters
        ----------
        u : (batch, d_model)
        state : (batch, n) complex, optional
            State before the step; zero when absent.

        Returns
        -------
        y : (batch, d_model)
        state : (batch, n) complex
        """
        poles, B, C = self._system()
        x = u.to(B.dtype) @ B.mT
        if state is not None:
            x = x + poles * state
        return (x @ C.mT).real + self.D * u, x

    def to_lti(self, conjugate: bool = True) -> lti.DiagonalStateSpace:
        """G(z) = C (z I - diag(lambda))^-1 diag(gamma) B, in double precision.

        The layer is ``z G(z) + diag(D)``: its output reads the state *after* the update, one step
        ahead of G. On the unit circle ``|z| = 1``, so what approximates G approximates the layer
        with the same error, and the bounds for G are the layer's. D is no part of G.

        Parameters
        ----------
        conjugate : bool, optional
            True: the real system ``y = 2 Re((C/2) x)``, which is what the layer computes. False:
            the complex system ``y = C x``, of whose output the layer takes the real part.
        """
        poles, B, C = self._system(torch.float64)
        C = C * (0.5 if conjugate else 1.0)  # a new tensor either way, not a view of the parameter
        return lti.DiagonalStateSpace(poles, B, C, dt=True, conjugate=conjugate)

    @torch.no_grad()
    def load_lti_(self, system: lti.DiagonalStateSpace, optimizer: Any = None) -> None:
        """Write `system` into the parameters, so that `to_lti` returns it up to a change of basis.

        The basis of a diagonal system is free up to one factor per state, and gamma is another.
        They are spent so that rows of B and columns of C are as long as they were on average, and
        gamma says how much a state does. D is left alone.

        Parameters
        ----------
        system : lti.DiagonalStateSpace
            Discrete, d_model inputs and outputs, any number of states, no feed-through.
        optimizer : torch.optim.Optimizer, optional
            Starts these parameters afresh; see `resize_`.

        Raises
        ------
        lti.UnstableError
            If a pole is not inside the unit circle by the layer's floor. As with every error here,
            nothing has been written then.
        """
        for name, value in self._parameters_of(system).items():
            parameter = self.get_parameter(name)
            resize_(parameter, value.to(parameter), optimizer)

    def _mean_lengths(self) -> tuple[float, float]:
        """Of the rows of B and of the columns of C; 1 if there are none, or all are zero."""
        rows, columns = self.B.double().flatten(1), self.C.double().transpose(0, 1).flatten(1)
        lengths = [float(x.norm(dim=1).mean()) if len(x) else 1.0 for x in (rows, columns)]
        return lengths[0] or 1.0, lengths[1] or 1.0

    def _parameters_of(self, system: lti.DiagonalStateSpace) -> dict[str, Tensor]:
        if not system.is_discrete:
            raise lti.TimebaseError("an LRU is a discrete system, got dt=0; discretize it first")
        poles, B, C, D = (_on_host(x) for x in (system.poles, system.B, system.C, system.D))
        if D.any():
            raise lti.DimensionError(
                "an LRU cannot take up the feed-through D of a system, got one that is not zero; "
                "reduce with a method that leaves D alone"
            )
        n, d = poles.shape[0], self.d_model
        if B.shape != (n, d) or C.shape != (d, n):
            raise lti.DimensionError(
                f"this LRU has {d} inputs and outputs, got B {tuple(B.shape)} and C "
                f"{tuple(C.shape)} for {n} poles; pass one system of matching size"
            )
        if system.conjugate:  # of each pair, the mode in the upper half-plane
            below = poles.imag < 0
            poles = torch.where(below, poles.conj(), poles)
            B = torch.where(below[:, None], B.conj(), B)
            C = 2 * torch.where(below, C.conj(), C)

        dtype = torch.finfo(self.nu_log.dtype)
        decay = -poles.abs().clamp(min=dtype.tiny).log()
        if (decay < self._floor - torch.finfo(torch.float64).eps).any():
            raise lti.UnstableError(
                f"the largest pole has modulus {poles.abs().max():.12g}, but an LRU in "
                f"{self.nu_log.dtype} needs less than 1 - {self._floor:.3g}; reduce to fewer states"
            )
        rate = (decay - self._floor).clamp(min=self._floor * dtype.eps)
        phase = poles.angle().remainder(2 * math.pi)
        # Phase 0 has no log. 2 pi can learn, and its rounding cancels in a real mode; else nearly 0
        real_mode = (B.imag == 0).all(1) & (C.imag == 0).all(0) & (phase < dtype.eps)
        phase = torch.where(real_mode, 2 * math.pi, phase.clamp(min=dtype.eps**2))
        # What a state does is one number, |B_i| |C_i|; gamma takes it, while rows of B and columns
        # of C stay as long as they were: a step of the optimizer goes about as far as before
        rows, columns = B.norm(dim=1), C.norm(dim=0)
        row, column = self._mean_lengths()
        alive = (rows > 0) & (columns > 0)
        gamma = torch.where(
            alive, rows * columns / (row * column), (-torch.expm1(-2 * decay)).sqrt()
        )
        B = B * torch.where(alive, row / rows, 1 / gamma)[:, None]
        C = C * torch.where(alive, column / columns, 1.0)
        new = {
            "nu_log": rate.log(),
            "theta_log": phase.log(),
            "gamma_log": gamma.log(),
            "B": torch.view_as_real(B),
            "C": torch.view_as_real(C),
        }
        new = {name: value.to(self.nu_log.dtype) for name, value in new.items()}
        for name, value in {**new, "gamma": gamma.to(self.nu_log.dtype)}.items():
            if not value.isfinite().all():
                raise lti.NonFiniteError(
                    f"{name} would not be finite in {value.dtype}; leave this layer as it is"
                )
        return new


def _on_host(x: Any) -> Tensor:
    x = x if isinstance(x, Tensor) else torch.tensor(x)
    return x.to("cpu", torch.complex128)
