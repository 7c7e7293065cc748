"""Layers in which each channel is a separate system, with its own convolution kernel."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import lti
from compressm.layers.base import SSMLayer
from compressm.layers.kept import Kept
from compressm.layers.modes import COMPLEX, read_modes, stored
from compressm.ops.channel_conv import blocks_pay, causal_conv, diagonal_conv
from compressm.ops.checks import require_sequence, require_step
from compressm.ops.powers import powers_of
from compressm.ops.precision import as_given, without_autocast
from compressm.ops.resize import resize_

__all__ = [
    "ChannelLayer",
    "decaying",
    "diagonal_kernel",
    "initial_log_dt",
]


class ChannelLayer(SSMLayer):
    """x[t] = p * x[t-1] + b u[t],  y[t] = Re(c x[t]) + D u[t], in each of H = d_model channels.

    A subclass says what p, b and c are. Whole sequences are convolved with the kernel
    ``K[l] = Re(c p^l b)``; a bidirectional layer has two rows c, hence two kernels on one state,
    and the second runs from the end of the sequence to its start.
    """

    bidirectional: bool = False
    D: nn.Parameter
    log_dt: nn.Parameter

    def __init__(self) -> None:
        super().__init__()
        self._kept = Kept()

    @property
    def d_model(self) -> int:
        """Number of channels H."""
        return self.D.shape[0]

    @property
    def _is_modal(self) -> bool:
        """Whether ``K[l] = Re(c p^l b)`` with |p| < 1 and p, b, c of `_system`."""
        return True

    @property
    def poles(self) -> Tensor:
        """The discrete eigenvalues of every channel, complex (H, n), in double precision."""
        return self.to_lti(conjugate=False).poles

    def forward(self, u: Tensor, state: Tensor | None = None) -> Tensor:
        """y = conv(K, u) + D * u for a whole sequence, plus the response to the initial state.

        Parameters
        ----------
        u : (batch, length, d_model)
        state : (batch, d_model, n), optional
            State before the first step; zero when absent, as it must be if bidirectional.

        Returns
        -------
        (batch, length, d_model)
        """
        require_sequence(u, self.d_model, self.D)
        self._require_state(state, u)
        if torch.compiler.is_exporting():
            return self._exported(u, state)
        with without_autocast(u):  # no FFT in half precision
            v = u.to(self.D.dtype)
            conv = self._convolution(v)
            y = conv(v, 0)
            if self.bidirectional:
                y = y + conv(v.flip(1), 1).flip(1)
            if state is not None:
                y = y + self._free(state, v.shape[1]).mT
            y = torch.addcmul(y, self.D, v)
        return as_given(y, u)

    def step(self, u: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x = p * state + b u,  y = Re(c x) + D * u: one time step.

        Parameters
        ----------
        u : (batch, d_model)
        state : (batch, d_model, n), optional
            State before the step; zero when absent.

        Returns
        -------
        y : (batch, d_model)
        state : (batch, d_model, n)

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
        *system, C = self._kept(self, self._constants)
        with without_autocast(u):  # the state keeps its precision
            v = u.to(self.D.dtype)
            x = self._advance(v, state, *system)
        return as_given((C[:, 0] * x).sum(-1).real + self.D * v, u), x

    def initial_state(self, batch: int) -> Tensor:
        """The state before the first step, zeros (batch, d_model, n); none if bidirectional."""
        if self.bidirectional:
            raise self._no_state()
        dtype = COMPLEX[self.D.dtype]
        return self.D.new_zeros(batch, self.d_model, self.d_state, dtype=dtype)

    def to_lti(self, conjugate: bool = True) -> lti.DiagonalStateSpace | lti.StateSpace:
        """G(z) = c (z I - diag(p))^-1 b of every channel, a batch (d_model,) in double precision.

        The layer is ``z G(z) + D``, as explained at `LRU.to_lti`. If it is bidirectional, G has an
        output for each direction; both share poles and b, and a reduction keeps them shared.

        Parameters
        ----------
        conjugate : bool, optional
            True: the real system ``y = 2 Re((c/2) x)``, which is what the layer computes. False:
            the complex system ``y = c x``, of whose output the layer takes the real part.
        """
        poles, B, C = self._system(torch.float64)
        C = C * (0.5 if conjugate else 1.0)
        return lti.DiagonalStateSpace(poles, B[..., None], C, dt=True, conjugate=conjugate)

    @torch.no_grad()
    def load_lti_(self, system: lti.DiagonalStateSpace, optimizer: Any = None) -> None:
        """Write `system` into the parameters, so that `to_lti` returns it up to a change of basis.

        The continuous parameters follow from its poles by the inverse of the discretisation, at the
        step size of each channel. With one input only the product of b and c matters; it goes into
        C. `log_dt` and D do not change.

        Parameters
        ----------
        system : lti.DiagonalStateSpace
            Discrete, a batch (d_model,) with one input, as many outputs as that of `to_lti`, any
            number of states, no feed-through.
        optimizer : torch.optim.Optimizer, optional
            Its state of these parameters is reset; see `resize_`.

        Raises
        ------
        lti.UnstableError
            If a pole is not inside the unit circle, with a margin of a few units of rounding. On
            any error nothing has been written.
        """
        name = type(self).__name__
        rows = 2 if self.bidirectional else 1
        poles, B, C = read_modes(system, name, 1, rows, batch_shape=(self.d_model,))
        weights = C * B.mT
        if (poles.abs() > self._bound + 2 * torch.finfo(torch.float64).eps).any():
            raise lti.UnstableError(
                f"the largest pole has modulus {poles.abs().max():.12g}, but {name} in "
                f"{self.D.dtype} needs less than 1 - {1 - self._bound:.3g}; reduce to fewer states"
            )
        device = self.D.device
        new = stored(self._parameters_of(poles.to(device), weights.to(device)), self.D.dtype)
        for key, value in new.items():
            parameter = self.get_parameter(key)
            resize_(parameter, value.to(parameter), optimizer)

    @abstractmethod
    def _system(self, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """p (H, n), b (H, n) and c (H, q, n), complex, computed in `dtype`."""

    @abstractmethod
    def _parameters_of(self, poles: Tensor, weights: Tensor) -> dict[str, Tensor]:
        """New parameters with ``K[l] = Re(weights p^l)``, from p (H, n) and weights (H, q, n)."""

    def _modes(self) -> tuple[Tensor, Tensor]:
        """p (H, n) and w (H, q, n) with ``K[l] = Re(w p^l)``, in double precision."""
        poles, B, C = self._system(torch.float64)
        return poles, C * B[:, None]

    def _kernel(self, length: int) -> Tensor:
        """K (H, q, length)."""
        return diagonal_kernel(*self._modes(), length, self.D.dtype)

    def _convolution(self, like: Tensor) -> Callable[[Tensor, int], Tensor]:
        """u (batch, length, H), row -> conv(K[:, row], u), the faster way for inputs as `like`."""
        if self._is_modal and blocks_pay(like, self.d_state):
            poles, weights = self._modes()
            return lambda u, row: diagonal_conv(u, poles, weights[:, row])
        kernels = self._kernel(like.shape[1])
        return lambda u, row: causal_conv(u.mT, kernels[:, row]).mT

    def _free(self, state: Tensor, length: int) -> Tensor:
        """Re(c p^(l+1) state), (batch, H, length)."""
        poles, _, C = self._system(torch.float64)
        weights = C * poles[:, None] * state.movedim(0, 1)
        return diagonal_kernel(poles, weights, length, self.D.dtype).movedim(0, 1)

    def _constants(self) -> tuple[Tensor, ...]:
        """What `_advance` needs, and c (H, q, n): all that a step does not depend on."""
        return self._system()

    def _advance(self, u: Tensor, state: Tensor | None, *system: Tensor) -> Tensor:
        """The next state (batch, H, n)."""
        poles, B = system
        x = B * u[..., None]
        return x if state is None else x + poles * state

    @property
    def _bound(self) -> float:
        return 1 - 4 * torch.finfo(self.D.dtype).eps

    def _inside(self, poles: Tensor) -> Tensor:
        """Poles scaled into the unit circle where rounding or a parameter has put them outside."""
        return poles * (self._bound / poles.abs().clamp(min=self._bound))

    def _no_state(self) -> lti.OptionError:
        return lti.OptionError(
            f"a bidirectional {type(self).__name__} reads each sequence from both ends, so it has "
            "no step and takes no state; pass whole sequences, or build it with bidirectional=False"
        )


def diagonal_kernel(
    poles: Tensor, weights: Tensor, length: int, dtype: torch.dtype | None = None
) -> Tensor:
    """K[l] = Re sum_i weights_i poles_i^l: a Vandermonde product.

    As ``p^(kJ+j) = p^(kJ) p^j``, two matrices of powers of about n x sqrt(length) replace one of
    n x length, and the sum over states is one matrix product of them.

    Parameters
    ----------
    poles : (..., n)
        Complex, best in double precision: a relative error of p is l times as large in p^l.
    weights : (..., q, n)
        Complex.
    length : int
    dtype : torch.dtype, optional
        Real dtype of the product and of K; that of `poles` if left out.

    Returns
    -------
    (..., q, length), real
    """
    J = math.isqrt(length - 1) + 1
    fine = powers_of(poles, J)  # (J + 1, ..., n)
    coarse = powers_of(fine[J], -(-length // J) - 1)
    left = weights.unsqueeze(-2) * coarse.movedim(0, -2).unsqueeze(-3)  # (..., q, K, n)
    fine = fine[:J].movedim(0, -1)
    left = torch.cat([left.real, left.imag], -1).to(dtype)
    right = torch.cat([fine.real, -fine.imag], -2).to(dtype)  # Re(a b) is this real product
    kernel = left.flatten(-3, -2) @ right
    return kernel.unflatten(-2, left.shape[-3:-1]).flatten(-2)[..., :length]


def decaying(dt: Tensor, log_re: Tensor, im: Tensor) -> Tensor:
    """w = dt (-exp(log_re) + i im), complex, with Re w < 0 also where rounding would make it 0.

    Parameters
    ----------
    dt : Tensor
        Step sizes.
    log_re, im : Tensor
        Log of the decay rate, and frequency, of the continuous poles.
    """
    least = torch.finfo(dt.dtype).eps ** 2
    return torch.complex((-dt * log_re.exp()).clamp(max=-least), dt * im)


def initial_log_dt(d_model: int, dt_min: float, dt_max: float) -> nn.Parameter:
    """Logarithms of step sizes that are log-uniform in [dt_min, dt_max], (d_model,).

    Parameters
    ----------
    d_model : int
    dt_min, dt_max : float
    """
    return nn.Parameter(torch.empty(d_model).uniform_(math.log(dt_min), math.log(dt_max)))
