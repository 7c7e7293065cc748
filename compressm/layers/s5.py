"""The simplified state-space layer S5 of Smith, Warrington and Linderman (2023)."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

import lti
from compressm.layers.base import SSMLayer
from compressm.layers.hippo import hippo_normal
from compressm.layers.modes import mean_lengths, one_of, read_modes, stored
from compressm.layers.sampling import DISCRETIZATIONS
from compressm.ops.checks import require_sequence, require_step
from compressm.ops.precision import as_given
from compressm.ops.resize import resize_
from compressm.ops.scan import linear_ssm

__all__ = ["S5"]

CLIP = 1e-4
MIDDLE_STEP = 1e-2  # middle of the published range, for a layer that had no states


class S5(SSMLayer):
    """x[t] = p * x[t-1] + g * (B u[t]),  y[t] = 2 Re(C x[t]) + D * u[t].

    One system with all inputs and outputs, sampled from ``x' = Lambda x + B u`` with a step size
    for each state. ``Lambda = min(Lambda_re, -1e-4) + i Lambda_im`` and ``step = exp(log_step)``
    give, with ``w = step * Lambda``,

    ======== ======================= ========================
    method   p                       g
    ======== ======================= ========================
    zoh      exp(w)                  step (exp(w) - 1) / w
    bilinear (1 + w / 2) / (1 - w/2) step / (1 - w / 2)
    ======== ======================= ========================

    and ``|p| < 1``: the layer is stable by construction. Where the step is so short that rounding
    could undo this, p is scaled to four units of rounding inside the unit circle. Every parameter
    is a real tensor:

    ========= =============== ==========================================
    parameter shape           meaning
    ========= =============== ==========================================
    Lambda_re (n,)            real part of the continuous eigenvalues
    Lambda_im (n,)            their imaginary part
    log_step  (n,)            log of the step size
    B         (n, d_model, 2) input matrix, real and imaginary part last
    C         (d_model, n, 2) output matrix, likewise
    D         (d_model,)      elementwise feed-through
    ========= =============== ==========================================

    Parameters
    ----------
    d_model : int
        Number of inputs and of outputs.
    d_state : int
        Number of stored complex states n.
    blocks : int, optional
        Number of equal blocks of the initial state matrix, a divisor of `d_state`.
    conj_sym : bool, optional
        True: each stored state stands for a conjugate pair, as above. False: it stands for itself,
        and the output is ``Re(C x) + D * u``.
    bidirectional : bool, optional
        Whether a second output matrix reads the same recurrence run from the end to the start. C
        is then (2 d_model, n, 2), first the rows of the forward direction, and there is no `step`.
    discretization : {"zoh", "bilinear"}, optional
        How p and g come from Lambda, B and the step size.
    C_init : {"lecun_normal", "complex_normal"}, optional
        Initial C, see the notes.
    dt_min, dt_max : float, optional
        Initial step sizes are log-uniform between these.

    Notes
    -----
    Initialisation follows [1]_ and its authors' code: Lambda holds the eigenvalues of the normal
    part of HiPPO-LegS, of one matrix per block, with N states in all, N = 2 n for `conj_sym` (of
    each pair the one in the upper half-plane) and N = n otherwise; V its eigenvectors. B is
    ``V^-1`` times a real normal matrix of variance 1/N; C is ``M V`` with normal real and imaginary
    parts of variance 1/N in M, or, for "complex_normal", itself normal of variance 1; D is normal
    of variance 1.

    References
    ----------
    .. [1] J. T. H. Smith, A. Warrington, S. W. Linderman, "Simplified state space layers for
       sequence modeling", ICLR 2023, arXiv:2208.04933.
    """

    state_axes: ClassVar[dict[str, int]] = {
        "Lambda_re": 0,
        "Lambda_im": 0,
        "log_step": 0,
        "B": 0,
        "C": 1,
    }

    def __init__(
        self,
        d_model: int,
        d_state: int,
        *,
        blocks: int = 1,
        conj_sym: bool = True,
        bidirectional: bool = False,
        discretization: str = "zoh",
        C_init: str = "lecun_normal",
        dt_min: float = 0.001,
        dt_max: float = 0.1,
    ) -> None:
        super().__init__()
        one_of("discretization", discretization, tuple(DISCRETIZATIONS))
        one_of("C_init", C_init, ("lecun_normal", "complex_normal"))
        if blocks < 1 or d_state % blocks:
            raise lti.OptionError(
                f"blocks must divide the {d_state} states, got {blocks}; pass a divisor"
            )
        self.conj_sym, self.bidirectional = conj_sym, bidirectional
        self.discretization = discretization

        outputs, kept = 2 * d_model if bidirectional else d_model, d_state // blocks
        size = 2 * kept if conj_sym else kept  # of each block, in states of the full system
        poles, V = hippo_normal(size)
        poles, V = poles[size - kept :], V[:, size - kept :]  # ascending: the upper half-plane
        scale = math.sqrt(max(blocks * size, 1))
        B = V.mH @ (torch.randn(blocks, size, d_model) / scale).to(V)
        if C_init == "complex_normal":
            C = torch.randn(outputs, d_state, dtype=torch.cfloat)
        else:
            M = torch.randn(outputs, blocks, size, 2) / scale
            C = (torch.view_as_complex(M).to(V) @ V).flatten(1)
        real = torch.get_default_dtype()
        self.Lambda_re = nn.Parameter(poles.real.repeat(blocks).to(real))
        self.Lambda_im = nn.Parameter(poles.imag.repeat(blocks).to(real))
        self.log_step = nn.Parameter(
            torch.empty(d_state).uniform_(math.log(dt_min), math.log(dt_max))
        )
        self.B = nn.Parameter(torch.view_as_real(B.flatten(0, 1)).to(real))
        self.C = nn.Parameter(torch.view_as_real(C).to(real))
        self.D = nn.Parameter(torch.randn(d_model))

    @property
    def d_model(self) -> int:
        """Number of inputs and of outputs."""
        return self.D.shape[0]

    @property
    def poles(self) -> Tensor:
        """p, the discrete eigenvalues, (n,) complex."""
        return self._system()[0]

    @property
    def _bound(self) -> float:
        return 1 - 4 * torch.finfo(self.Lambda_re.dtype).eps

    def _system(self, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """p, diag(g) B and C of ``y = Re(C x)``, complex, computed in `dtype`."""
        re, im, log_step, B, C = (
            p.to(dtype) for p in (self.Lambda_re, self.Lambda_im, self.log_step, self.B, self.C)
        )
        step = log_step.exp()
        to_discrete, _ = DISCRETIZATIONS[self.discretization]
        poles, gain = to_discrete(step * torch.complex(re.clamp(max=-CLIP), im))
        poles = poles * (self._bound / poles.abs().clamp(min=self._bound))
        B = (step * gain).unsqueeze(1) * torch.view_as_complex(B)
        return poles, B, torch.view_as_complex(C) * (2 if self.conj_sym else 1)

    def forward(self, u: Tensor, state: Tensor | None = None) -> Tensor:
        """y[t] = 2 Re(C x[t]) + D * u[t] for a whole sequence.

        Parameters
        ----------
        u : (batch, length, d_model)
        state : (batch, n) complex, optional
            State before the first step; zero when absent, as it must be if bidirectional.

        Returns
        -------
        (batch, length, d_model)
        """
        require_sequence(u, self.d_model, self.D)
        self._require_state(state, u)
        if torch.compiler.is_exporting():
            return self._exported(u, state)
        poles, B, C = self._system()
        y, _ = linear_ssm(u, poles, B, C[: self.d_model], state, D=self.D)
        if self.bidirectional:
            y = y + linear_ssm(u, poles, B, C[self.d_model :], reverse=True)[0]
        return as_given(y, u)

    def step(self, u: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x = p * state + g * (B u),  y = 2 Re(C x) + D * u: one time step.

        Parameters
        ----------
        u : (batch, d_model)
        state : (batch, n) complex, optional
            State before the step; zero when absent.

        Returns
        -------
        y : (batch, d_model)
        state : (batch, n) complex

        Raises
        ------
        lti.OptionError
            If the layer is bidirectional.
        """
        if self.bidirectional:
            raise self._no_state()
        self._require_exportable()
        require_step(u, self.d_model, self.D)
        self._require_state(state, u)
        v = u.to(self.D.dtype)
        poles, B, C = self._system()
        x = v.to(B.dtype) @ B.mT
        if state is not None:
            x = x + poles * state
        return as_given((x @ C.mT).real + self.D * v, u), x

    def initial_state(self, batch: int) -> Tensor:
        """The state before the first step, zeros (batch, n); there is none if bidirectional."""
        if self.bidirectional:
            raise self._no_state()
        return super().initial_state(batch)

    def to_lti(self, conjugate: bool = True) -> lti.DiagonalStateSpace:
        """G(z) = C (z I - diag(p))^-1 diag(g) B, in double precision.

        The layer is ``z G(z) + diag(D)``, as explained at `LRU.to_lti`. If it is bidirectional, G
        has the 2 d_model outputs of both directions; they share A and B, and a reduction keeps
        them shared.

        Parameters
        ----------
        conjugate : bool, optional
            True: the real system that the layer computes. False: the complex system ``y = 2 C x``
            (``C x`` without `conj_sym`), of whose output the layer takes the real part.
        """
        poles, B, C = self._system(torch.float64)
        C = C * (0.5 if conjugate else 1.0)  # a new tensor either way, not a view of the parameter
        return lti.DiagonalStateSpace(poles, B, C, dt=True, conjugate=conjugate)

    @torch.no_grad()
    def load_lti_(self, system: lti.DiagonalStateSpace, optimizer: Any = None) -> None:
        """Write `system` into the parameters, so that `to_lti` returns it up to a change of basis.

        A reduction mixes states that have different step sizes. All new states get the same: the
        geometric mean of the old ones, or less where the slowest pole would otherwise be
        slower than ``Re Lambda = -1e-4`` allows. Lambda follows from it and from the poles, for zoh
        on the principal branch. The free scale of each state is chosen so that the rows of B and
        the columns of C have the ratio of lengths that they had on average. D does not change.

        Parameters
        ----------
        system : lti.DiagonalStateSpace
            Discrete, d_model inputs, as many outputs as that of `to_lti`, any number of states, no
            feed-through.
        optimizer : torch.optim.Optimizer, optional
            Its state of these parameters is reset; see `resize_`.

        Raises
        ------
        lti.UnstableError
            If a pole is not inside the unit circle, with a margin of four units of rounding. On any
            error nothing has been written.
        """
        for name, value in self._parameters_of(system).items():
            parameter = self.get_parameter(name)
            resize_(parameter, value.to(parameter), optimizer)

    def _parameters_of(self, system: lti.DiagonalStateSpace) -> dict[str, Tensor]:
        poles, B, C = read_modes(system, "an S5", self.d_model, len(self.C))
        dtype = self.Lambda_re.dtype
        if (poles.abs() > self._bound + torch.finfo(torch.float64).eps).any():
            raise lti.UnstableError(
                f"the largest pole has modulus {poles.abs().max():.12g}, but an S5 in {dtype} "
                f"needs less than 1 - {1 - self._bound:.3g}; reduce to fewer states"
            )
        to_discrete, to_continuous = DISCRETIZATIONS[self.discretization]
        w = to_continuous(poles, torch.finfo(dtype).tiny)
        log_step = self._common_log_step(w).to(dtype)  # rounded first: Lambda makes up for it
        step = log_step.double().exp()

        B = B / (step * to_discrete(w)[1]).unsqueeze(1)
        C = C / (2 if self.conj_sym else 1)
        rows, columns = B.norm(dim=1), C.norm(dim=0)
        row, column = mean_lengths(self.B, self.C)
        alive = (rows > 0) & (columns > 0)
        scale = torch.where(alive, (row / column * columns / rows).sqrt(), 1.0)
        new = {
            "Lambda_re": w.real / step,
            "Lambda_im": w.imag / step,
            "log_step": log_step.repeat(len(w)),
            "B": torch.view_as_real(B * scale.unsqueeze(1)),
            "C": torch.view_as_real(C / scale),
        }
        return stored(new, dtype)

    def _common_log_step(self, w: Tensor) -> Tensor:
        old = self.log_step.double().cpu()
        mean = old.mean() if len(old) else old.new_tensor(MIDDLE_STEP).log()
        return torch.cat([mean.view(1), (-w.real / CLIP).log()]).min()

    def _no_state(self) -> lti.OptionError:
        return lti.OptionError(
            "a bidirectional S5 reads each sequence from both ends, so it has no step and takes no "
            "state; pass whole sequences, or build it with bidirectional=False"
        )
