"""The linear recurrent unit of Orvieto et al. (2023)."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

import lti
from compressm.layers.base import SSMLayer
from compressm.layers.modes import mean_lengths, read_modes, stored
from compressm.ops.checks import require_sequence, require_step
from compressm.ops.precision import as_given
from compressm.ops.resize import resize_
from compressm.ops.scan import linear_ssm

__all__ = ["LRU", "lru_parameters"]


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
        Initial eigenvalues are uniform on the ring between these radii.
    max_phase : float, optional
        Initial phases are uniform in (0, max_phase].

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
        if not 0 <= r_min <= r_max <= 1:
            raise lti.OptionError(
                f"r_min and r_max must be radii with 0 <= r_min <= r_max <= 1, got {r_min}, {r_max}"
            )
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
        require_sequence(u, self.d_model, self.D)
        self._require_state(state, u)
        if torch.compiler.is_exporting():
            return self._exported(u, state)
        return as_given(linear_ssm(u, *self._system(), state, D=self.D)[0], u)

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
        self._require_exportable()
        require_step(u, self.d_model, self.D)
        self._require_state(state, u)
        v = u.to(self.D.dtype)
        poles, B, C = self._system()
        x = v.to(B.dtype) @ B.mT
        if state is not None:
            x = x + poles * state
        return as_given((x @ C.mT).real + self.D * v, u), x

    def to_lti(self, conjugate: bool = True) -> lti.DiagonalStateSpace:
        """G(z) = C (z I - diag(lambda))^-1 diag(gamma) B, in double precision.

        The layer is ``z G(z) + diag(D)``: its output reads the state *after* the update, one step
        ahead of G. On the unit circle ``|z| = 1``, so what approximates G approximates the layer
        with the same error, and the bounds for G hold for the layer. G does not include D.

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

        Each state has a free scale, and gamma is another. They are chosen so that rows of B and
        columns of C are as long as they were on average, and gamma holds the gain of the state.
        D does not change.

        Parameters
        ----------
        system : lti.DiagonalStateSpace
            Discrete, d_model inputs and outputs, any number of states, no feed-through.
        optimizer : torch.optim.Optimizer, optional
            Its state of these parameters is reset; see `resize_`.

        Raises
        ------
        lti.UnstableError
            If a pole is closer to the unit circle than the layer's floor allows. On any error
            nothing has been written.
        """
        for name, value in self._parameters_of(system).items():
            parameter = self.get_parameter(name)
            resize_(parameter, value.to(parameter), optimizer)

    def _parameters_of(self, system: lti.DiagonalStateSpace) -> dict[str, Tensor]:
        modes = read_modes(system, "an LRU", self.d_model, self.d_model)
        lengths = mean_lengths(self.B, self.C)
        return lru_parameters(*modes, lengths, self.nu_log.dtype, self._floor)


def lru_parameters(
    poles: Tensor,
    B: Tensor,
    C: Tensor,
    lengths: tuple[float, float],
    dtype: torch.dtype,
    floor: float = 0.0,
) -> dict[str, Tensor]:
    """nu_log, theta_log, gamma_log, B and C of an LRU with these modes, ``y = Re(C x)``.

    Parameters
    ----------
    poles, B, C : Tensor (n,), (n, m), (p, n)
        Complex in double precision.
    lengths : (float, float)
        Length that the rows of B and the columns of C shall have.
    dtype : torch.dtype
        Of the parameters.
    floor : float, optional
        Decay that the layer adds to ``exp(nu_log)``.

    Returns
    -------
    dict of str to Tensor
        Matrices as (n, m, 2) and (p, n, 2).

    Raises
    ------
    lti.UnstableError
        If a pole is closer to the unit circle than four units of rounding.
    lti.NonFiniteError
        If a value is too large or too small for `dtype`.
    """
    eps, least = torch.finfo(dtype).eps, 4 * torch.finfo(dtype).eps
    decay = -poles.abs().clamp(min=torch.finfo(dtype).tiny).log()
    if (decay < least - torch.finfo(torch.float64).eps).any():
        raise lti.UnstableError(
            f"the largest pole has modulus {poles.abs().max():.12g}, but an LRU in {dtype} needs "
            f"less than 1 - {least:.3g}; reduce to fewer states"
        )
    rate = (decay - floor).clamp(min=least * eps)
    phase = poles.angle().remainder(2 * math.pi)
    # Phase 0 has no log. A real mode gets 2 pi, which can be trained and whose rounding cancels;
    # any other gets nearly 0
    real_mode = (B.imag == 0).all(1) & (C.imag == 0).all(0) & (phase < eps)
    phase = torch.where(real_mode, 2 * math.pi, phase.clamp(min=eps**2))
    # The gain of a state is one number, |B_i| |C_i|. gamma takes it, while rows of B and columns
    # of C stay as long as they were: an optimizer step changes them about as much as before
    rows, columns = B.norm(dim=1), C.norm(dim=0)
    row, column = lengths
    alive = (rows > 0) & (columns > 0)
    gamma = torch.where(alive, rows * columns / (row * column), (-torch.expm1(-2 * decay)).sqrt())
    B = B * torch.where(alive, row / rows, 1 / gamma)[:, None]
    C = C * torch.where(alive, column / columns, 1.0)
    new = {
        "nu_log": rate.log(),
        "theta_log": phase.log(),
        "gamma_log": gamma.log(),
        "B": torch.view_as_real(B),
        "C": torch.view_as_real(C),
        "gamma": gamma,
    }
    new = stored(new, dtype)
    del new["gamma"]  # not a parameter: it was there so that `stored` sees an overflow
    return new
