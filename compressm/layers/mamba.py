"""The selective state-space block of Gu and Dao (2023), and its mean system."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, silu, softplus

import lti
from compressm.ops.checks import require_sequence, require_state, require_step
from compressm.ops.resize import resize_
from compressm.ops.selective_scan import selective_scan, selective_scan_reference

__all__ = ["Mamba"]

DT_FLOOR = 1e-4


class Mamba(nn.Module):
    """h[t] = exp(dt[t] A) * h[t-1] + dt[t] B[t] x[t],  y[t] = C[t] h[t] + D * x[t], gated.

    ``x, z = in_proj(u)``; x goes through a causal convolution per channel and SiLU, and determines
    the system at each time step: ``dt, B, C = x_proj(x)``, ``dt = softplus(dt_proj(dt))``, with
    ``A = -exp(A_log)``. The output is ``out_proj(y * silu(z))``. Each channel has N real states;
    B and C are shared by the channels. The layer is causal but not linear, so it is no `SSMLayer`:
    states can be removed, not mixed. Names and shapes are those of ``mamba_ssm`` and of
    ``transformers``, with ``E = expand * d_model`` channels and R = dt_rank:

    ============= ================ ==========================================
    parameter     shape            meaning
    ============= ================ ==========================================
    in_proj       (2 E, d_model)   x and z, no bias
    conv1d        (E, 1, d_conv)   one causal filter per channel, with bias
    x_proj        (R + 2 N, E)     rows of dt, of B, of C; no bias
    dt_proj       (E, R)           step size, with bias
    A_log         (E, N)           log of the decay rates
    D             (E,)             elementwise feed-through
    out_proj      (d_model, E)     output, no bias
    ============= ================ ==========================================

    Parameters
    ----------
    d_model : int
        Number of inputs and of outputs.
    d_state : int, optional
        Number of states N of each channel.
    d_conv : int, optional
        Length of the convolution.
    expand : int, optional
        Channels per input.
    dt_rank : int, optional
        Rank R of the map to step sizes; ``ceil(d_model / 16)`` when absent.
    dt_min, dt_max : float, optional
        Initial step sizes are log-uniform between these.

    Notes
    -----
    Initialisation follows [1]_: ``A = -(1, ..., N)`` in every channel, D = 1, the weight of dt_proj
    uniform in ``+-1/sqrt(R)``, and its bias the inverse softplus of the step sizes.

    References
    ----------
    .. [1] A. Gu, T. Dao, "Mamba: linear-time sequence modeling with selective state spaces", 2023,
       arXiv:2312.00752.
    .. [2] M. Chahine, P. Nazari, D. Rus, T. K. Rusch, "The curious case of in-training compression
       of state space models", 2025, arXiv:2510.02823, appendix E.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        *,
        d_conv: int = 4,
        expand: int = 2,
        dt_rank: int | None = None,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
    ) -> None:
        super().__init__()
        channels = expand * d_model
        rank = math.ceil(d_model / 16) if dt_rank is None else dt_rank
        self.in_proj = nn.Linear(d_model, 2 * channels, bias=False)
        self.conv1d = nn.Conv1d(channels, channels, d_conv, groups=channels)
        self.x_proj = nn.Linear(channels, rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(rank, channels)
        self.A_log = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(channels, 1))
        self.D = nn.Parameter(torch.ones(channels))
        self.out_proj = nn.Linear(channels, d_model, bias=False)

        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        dt = torch.empty(channels).uniform_(math.log(dt_min), math.log(dt_max)).exp()
        dt = dt.clamp(min=DT_FLOOR)
        with torch.no_grad():
            self.dt_proj.bias.copy_(dt + (-torch.expm1(-dt)).log())

    @property
    def d_model(self) -> int:
        """Number of inputs and of outputs."""
        return self.out_proj.weight.shape[0]

    @property
    def d_state(self) -> int:
        """Number of states N of each channel."""
        return self.A_log.shape[1]

    def forward(self, u: Tensor, state: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """y[t] = out_proj((C[t] h[t] + D * x[t]) * silu(z[t])) for a whole sequence.

        Parameters
        ----------
        u : (batch, length, d_model)
        state : pair of tensors, optional
            The state before the first step, as `step` returns it; zero when absent.

        Returns
        -------
        (batch, length, d_model)
        """
        require_sequence(u, self.d_model, self.in_proj.weight, cast=False)
        return self._run(u, state)[0]

    def step(
        self, u: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One time step of `forward`.

        Parameters
        ----------
        u : (batch, d_model)
        state : pair of tensors, optional
            The last inputs of the convolution (batch, E, d_conv - 1), and h (batch, E, N), before
            the step; zero when absent.

        Returns
        -------
        y : (batch, d_model)
        state : pair of tensors
        """
        require_step(u, self.d_model, self.in_proj.weight, cast=False)
        y, state = self._run(u.unsqueeze(1), state, selective_scan_reference)
        return y.squeeze(1), state

    def initial_state(self, batch: int) -> tuple[Tensor, Tensor]:
        """The state before the first step: zeros (batch, E, d_conv - 1) and (batch, E, N).

        Parameters
        ----------
        batch : int
        """
        past = self.conv1d.kernel_size[0] - 1
        window = self.in_proj.weight.new_zeros(batch, len(self.D), past)
        return window, self.A_log.new_zeros(batch, *self.A_log.shape)

    def surrogate(self, u: Tensor | Iterable[Tensor]) -> lti.DiagonalStateSpace:
        """x[t] = exp(dt A) * x[t-1] + (dt B) v[t],  y[t] = C x[t], at the mean of dt, of B, of C.

        The mean system of the CompreSSM paper (appendix E), linear and time-invariant: the step
        sizes of each channel (after softplus) and the shared B and C are averaged over all time
        steps of all sequences, and *then* combined; a mean of ``exp(dt A)`` or of ``dt B`` would be
        another system. A is the layer's own. Convolution, gate and D are not included.

        Parameters
        ----------
        u : (batch, length, d_model), or an iterable of such
            Inputs of the layer to average over.

        Returns
        -------
        DiagonalStateSpace
            A batch of E real systems, one per channel, discrete, in double precision: poles (E, N),
            B (E, N, 1), C (E, 1, N). It has derivatives for the parameters.
        """
        sums, count = [], 0
        for batch in [u] if isinstance(u, Tensor) else u:
            x, _, _ = self._convolved(batch, None)
            sums.append([part.double().sum((0, 1)) for part in self._coefficients(x)])
            count += batch.shape[0] * batch.shape[1]
        if not count:
            raise lti.DimensionError("a mean needs inputs, got none; pass at least one time step")
        dt, B, C = (torch.stack(parts).sum(0) / count for parts in zip(*sums, strict=True))
        poles = (dt.unsqueeze(1) * -self.A_log.double().exp()).exp()
        return lti.DiagonalStateSpace(
            poles, (dt.unsqueeze(1) * B).unsqueeze(2), C.expand_as(poles).unsqueeze(1), dt=True
        )

    def _run(
        self,
        u: Tensor,
        state: tuple[Tensor, Tensor] | None,
        scan: Callable[..., tuple[Tensor, Tensor]] = selective_scan,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        window, h = (None, None) if state is None else self._parts(state, u.shape[0])
        x, z, window = self._convolved(u, window)
        dt, B, C = self._coefficients(x)
        y, h = scan(x, dt, -self.A_log.exp(), B, C, self.D, h)
        return self.out_proj(y * silu(z)), (window, h)

    def _parts(self, state: Any, batch: int) -> tuple[Tensor, Tensor]:
        """The two tensors of a state, if it is one for this batch."""
        if not isinstance(state, tuple | list) or len(state) != 2:
            raise lti.DimensionError(
                f"the state must be a pair of tensors, got a {type(state).__name__}; pass what "
                "step returned for this batch"
            )
        (window, h), likes = state, self.initial_state(0)
        (_, channels, past), (_, _, n) = (x.shape for x in likes)
        # Under autocast the inputs of the convolution are in half precision
        require_state(window, likes[0], cast=True, batch=batch, channels=channels, past=past)
        require_state(h, likes[1], batch=batch, channels=channels, d_state=n)
        return window, h

    def _convolved(self, u: Tensor, window: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """x after convolution and SiLU, the gate z, and the inputs that the next step needs."""
        x, z = self.in_proj(u).chunk(2, -1)
        past = self.conv1d.kernel_size[0] - 1
        x = pad(x.mT, (past, 0)) if window is None else torch.cat([window.to(x), x.mT], -1)
        window = x[..., x.shape[-1] - past :].clone()  # a view would keep the sequence alive
        return silu(self.conv1d(x)).mT, z, window

    def _coefficients(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """dt (batch, length, E), B and C (batch, length, N)."""
        sizes = [self.dt_proj.in_features, self.d_state, self.d_state]
        dt, B, C = self.x_proj(x).split(sizes, -1)
        return softplus(self.dt_proj(dt)), B, C

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # x_proj loads after its parent, so both have their new size by then
        A_log, weight = (state_dict.get(prefix + name) for name in ("A_log", "x_proj.weight"))
        if A_log is not None and weight is not None and A_log.ndim == weight.ndim == 2:
            channels, n = A_log.shape
            rows = self.dt_proj.in_features + 2 * n
            fits = channels == len(self.A_log) and weight.shape == (rows, channels)
            if fits and n != self.d_state:  # any other mismatch is torch's to report
                for own, saved in (
                    (self.A_log, A_log),
                    (self.get_parameter("x_proj.weight"), weight),
                ):
                    resize_(own, own.new_empty(saved.shape))
                self.x_proj.out_features = rows
        super()._load_from_state_dict(state_dict, prefix, *args)
