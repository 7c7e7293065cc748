"""The structured state-space layer S4 of Gu, Goel and Re (2022)."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

import lti
from compressm.layers.base import Layout
from compressm.layers.channels import ChannelLayer, decaying, initial_log_dt
from compressm.layers.hippo import hippo_nplr
from compressm.layers.low_rank import observability_factor, without_power
from compressm.layers.modes import COMPLEX
from compressm.layers.sampling import DISCRETIZATIONS
from compressm.ops.powers import krylov

__all__ = ["S4"]

to_discrete, to_continuous = DISCRETIZATIONS["bilinear"]


class S4(ChannelLayer):
    """x' = Lambda x - P 2 Re(P^H x) + B u,  y = 2 Re(C x) + D u, in each of H = d_model channels.

    The state matrix is diagonal plus low rank, on the stored half of conjugate pairs:
    ``Lambda = -exp(log_A_real) + i A_imag``. The bilinear transform with step ``dt = exp(log_dt)``
    gives the discrete A', B' of ``x[t] = A' x[t-1] + B' u[t]``. The layer is stable by
    construction: where rounding could undo it, the poles of Lambda are scaled to eight units of
    rounding inside the unit circle. Every parameter is a real tensor, real and imaginary parts
    last:

    ========== =============== ===============================================================
    parameter  shape           meaning
    ========== =============== ===============================================================
    log_dt     (H,)            log of the step size
    log_A_real (1, n)          log of the decay rates
    A_imag     (1, n)          frequencies
    P          (rank, 1, n, 2) low-rank part
    B          (1, n, 2)       input matrix
    C          (H, n, 2)       output matrix times (1 - A'^L), L = `l_max`; (H, 2, n, 2) if
                               bidirectional
    D          (H,)            feed-through
    ========== =============== ===============================================================

    An axis of size 1 means that the channels share the parameter; if not `shared`, its size is H. A
    reduced system has no low-rank part: the rank is 0 from then on, and Lambda and B are (H, n).

    Parameters
    ----------
    d_model : int
        Number of channels H.
    d_state : int
        Number of stored states n, a complex one for each conjugate pair: N = 2n in [1]_.
    l_max : int, optional
        The length L that C is stored for, and at which the kernel is computed. For shorter
        sequences the kernel is truncated. For longer ones L is doubled as often as needed, by the
        power of a dense matrix for each channel in every call: give the greatest length there is.
    shared : bool, optional
        Whether channels share Lambda, P and B, while there is a low-rank part.
    bidirectional : bool, optional
        Whether a second row of C reads the same recurrence run from the end to the start. There is
        no `step` then.
    dt_min, dt_max : float, optional
        Initial step sizes are log-uniform between these.

    Notes
    -----
    The kernel is that of [1]_, section 3.3: its generating function at the roots of unity, by
    Woodbury's identity a few Cauchy products ``sum_i v_i / (z - w_i)``, then an inverse FFT. The
    products are formed as matrices of n x L/2 real numbers for each channel. The first `step`
    divides C by ``1 - A'^L``, which takes O(n L) or O(n^3 log L) for each channel at rank 1,
    whichever is less, and O(n) at rank 0.

    Lambda, P and B start as HiPPO-LegS, with one P in place of P and Q as in [2]_; C is complex
    normal of variance 1, before the factor ``1 - A'^L``, and D is normal of variance 1.

    References
    ----------
    .. [1] A. Gu, K. Goel, C. Re, "Efficiently modeling long sequences with structured state
       spaces", ICLR 2022, arXiv:2111.00396.
    .. [2] K. Goel, A. Gu, C. Donahue, C. Re, "It's raw! Audio generation with state-space models",
       ICML 2022, arXiv:2202.09729.
    """

    state_axes: ClassVar[dict[str, int]] = {
        "log_A_real": 1,
        "A_imag": 1,
        "P": 2,
        "B": 1,
        "C": -2,
    }
    l_max: Tensor

    def __init__(
        self,
        d_model: int,
        d_state: int,
        l_max: int = 1024,
        *,
        shared: bool = True,
        bidirectional: bool = False,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
    ) -> None:
        super().__init__()
        if l_max < 1:
            raise lti.OptionError(
                f"l_max must be a length, got {l_max}; pass that of the training sequences"
            )
        self.bidirectional = bidirectional
        dtype = torch.get_default_dtype()
        Lambda, P, B = (
            x[d_state:].repeat(1 if shared else d_model, 1) for x in hippo_nplr(2 * d_state)[:3]
        )
        self.log_dt = initial_log_dt(d_model, dt_min, dt_max)
        self.log_A_real = nn.Parameter((-Lambda.real).log().to(dtype))
        self.A_imag = nn.Parameter(Lambda.imag.to(dtype))
        self.P = nn.Parameter(torch.view_as_real(P[None]).to(dtype))
        self.B = nn.Parameter(torch.view_as_real(B).to(dtype))
        self.D = nn.Parameter(torch.randn(d_model))
        self.register_buffer("l_max", torch.tensor(l_max))  # C is stored for it
        with torch.no_grad():
            C = torch.randn(d_model, 2 if bidirectional else 1, d_state, 2).double() / math.sqrt(2)
            C = torch.view_as_complex(C)
            C = torch.view_as_real(C - self._times_power(C, l_max)).to(dtype)
        self.C = nn.Parameter(C if bidirectional else C[:, 0].clone())

    @property
    def _is_modal(self) -> bool:
        return self.rank == 0

    @property
    def rank(self) -> int:
        """Rank of the low-rank part of the state matrix: 1, or 0 after a reduction."""
        return self.P.shape[0]

    @property
    def _bound(self) -> float:
        return 1 - 8 * torch.finfo(self.D.dtype).eps

    def _layouts(self) -> list[Layout]:
        H, q = self.d_model, self.C.shape[1:-2]
        return [
            {
                "log_A_real": (h, "n"),
                "A_imag": (h, "n"),
                "P": (rank, h, "n", 2),
                "B": (h, "n", 2),
                "C": (H, *q, "n", 2),
            }
            for h in (1, H)
            for rank in (0, 1)
        ]

    # ------------------------------------------------------------------ the discrete system

    def _continuous(self, dtype: torch.dtype | None) -> tuple[Tensor, Tensor, Tensor]:
        """w = dt Lambda (H, n), Q = sqrt(dt/2) P (rank, H, n) and dt B (H, n), complex."""
        parameters = (self.log_dt, self.log_A_real, self.A_imag, self.P, self.B)
        log_dt, log_A_real, A_imag, P, B = (p.double() for p in parameters)
        dt = log_dt.exp()[:, None]
        w = decaying(dt, log_A_real, A_imag)
        # All that is computed from w must use the poles as `_inside` leaves them
        poles, _ = to_discrete(w)
        w = torch.where(poles.abs() > self._bound, to_continuous(self._inside(poles), 0.0), w)
        Q, B = (dt / 2).sqrt() * torch.view_as_complex(P), dt * torch.view_as_complex(B)
        dtype = COMPLEX[self.D.dtype if dtype is None else dtype]
        return w.to(dtype), Q.to(dtype), B.to(dtype)

    def _sampled(self, x: Tensor | None, v: Tensor | None, w: Tensor, Q: Tensor) -> Tensor:
        """(1 - dt/2 A)^-1 ((1 + dt/2 A) x + v) for x and v (..., H, n), either of them absent."""
        d = 1 / (1 - w / 2)

        def read(x: Tensor) -> Tensor:  # 2 Re(Q^H x), (..., H, rank, 1)
            return 2 * torch.einsum("rhn,...hn->...hr", Q.conj(), x).real[..., None]

        def spread(s: Tensor) -> Tensor:
            return torch.einsum("rhn,...hr->...hn", Q, s[..., 0].to(Q.dtype))

        v = torch.zeros_like(w) if v is None else v
        if x is not None:
            v = v + (1 + w / 2) * x - spread(read(x))
        inner = read(d * Q)[..., 0].movedim(0, -1)  # 2 Re(Q^H d Q), (H, rank, rank)
        inner = inner + torch.eye(self.rank, dtype=inner.dtype, device=inner.device)
        return d * (v - spread(torch.linalg.solve(inner, read(d * v))))

    def _dense(self) -> tuple[Tensor, Tensor]:
        """A' (H, 2n, 2n) and B' (H, 2n) on the real state [Re x, Im x], in double precision."""
        w, Q, B = self._continuous(torch.float64)
        identity = torch.eye(self.d_state, dtype=B.dtype, device=B.device)
        basis = torch.cat([identity, 1j * identity])[:, None]
        A = _real(self._sampled(basis.expand(-1, self.d_model, -1), None, w, Q))
        return A.permute(1, 2, 0), _real(self._sampled(None, B, w, Q))

    def _times_power(self, C: Tensor, length: int) -> Tensor:
        """C A'^length for rows C (H, q, n), in double precision."""
        A, _ = self._dense()
        return _rows(_real_rows(C) @ torch.linalg.matrix_power(A, length))

    def _diagonal(self) -> tuple[Tensor, Tensor]:
        """p and b without the low-rank part, in double precision."""
        w, _, B = self._continuous(torch.float64)
        poles, gain = to_discrete(w)
        return poles, gain * B

    def _stored(self, dtype: torch.dtype | None) -> Tensor:
        C = torch.view_as_complex(self.C.to(dtype))
        return C if self.bidirectional else C[:, None]

    def _output(self) -> Tensor:
        """C (H, q, n) without the factor (1 - A'^L) that it is stored with, in double precision."""
        C = self._stored(torch.float64)
        if self.rank == 0:
            return C / (1 - self._diagonal()[0] ** self.l_max)[:, None]
        L, n = int(self.l_max), self.d_state
        if 125 * L < n * n * math.log2(L + 1):  # as measured
            w, Q, _ = self._continuous(torch.float64)
            return without_power(C, w, Q, L)
        A, _ = self._dense()
        identity = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
        difference = identity - torch.linalg.matrix_power(A, L)
        return _rows(torch.linalg.solve(difference, _real_rows(C), left=False))

    def _system(self, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor, Tensor]:
        parts = (*self._diagonal(), 2 * self._output())
        dtype = COMPLEX[self.D.dtype if dtype is None else dtype]
        poles, B, C = (x.to(dtype) for x in parts)
        return poles, B, C

    def to_lti(self, conjugate: bool = True) -> lti.DiagonalStateSpace | lti.StateSpace:
        """G(z) = C (z I - A')^-1 B' of every channel, a batch (d_model,) in double precision.

        The layer is ``z G(z) + D``, as explained at `LRU.to_lti`. If it is bidirectional, G has an
        output for each direction. With a low-rank part G is dense, with real state
        ``[Re x, Im x]``.

        Parameters
        ----------
        conjugate : bool, optional
            True: the real system, which is what the layer computes. False: the complex one of
            whose output the layer takes the real part. A dense G is the real system in both cases.
        """
        if self.rank == 0:
            return super().to_lti(conjugate)
        A, B = self._dense()
        return lti.StateSpace(A, B[..., None], _real_rows(self._output()), dt=True)

    def observability_factor(self, system: lti.StateSpace) -> Tensor | None:
        """R with Q = R R^H of every channel, by ADI; None without a low-rank part all share.

        Parameters
        ----------
        system : lti.StateSpace
            What `to_lti` returned.
        """
        if self.rank == 0 or max(self.P.shape[1], len(self.log_A_real)) > 1:
            return None
        poles = torch.linalg.eigvals(system.A[0])
        poles = poles[poles.imag >= 0]
        dt = self.log_dt.double().exp()
        shifts = (poles - 1) / (poles + 1) * (dt / dt[0])[:, None]
        w, Q, _ = self._continuous(torch.float64)
        return observability_factor(shifts, w, Q[0], _rows(system.C))

    # ------------------------------------------------------------------ what it computes

    def _kernel(self, length: int) -> Tensor:
        if self.rank == 0:
            return super()._kernel(length)
        C, L = self._stored(None), int(self.l_max)
        while L < length:  # 1 - A'^2L = (1 - A'^L)(1 + A'^L)
            C, L = C + self._times_power(C.to(torch.complex128), L).to(C), 2 * L
        return torch.fft.irfft(self._generating_function(C, L), L)[..., :length]

    def _generating_function(self, C: Tensor, L: int) -> Tensor:
        """sum_l K[l] z^l = C (1 - A'^L) (1 - A' z)^-1 B' at z = exp(-i t), t = 2 pi k / L.

        ``(1 - A' z)^-1 B' = ((1 - z) - (1 + z) dt/2 A)^-1 dt B``, dt/2 A is w/2 less Q Q^H, and
        ``(1 - z) - (1 + z) w/2 = exp(-i t/2) (2 i s - c w)``, s and c the sine and cosine of t/2.
        Shape (H, q, L/2 + 1).
        """
        w, Q, B = self._continuous(None)
        rows = torch.cat([C, Q.conj().movedim(0, 1)], 1)
        columns = torch.cat([B[None], Q]).movedim(0, 1)
        half = math.pi / L * torch.arange(L // 2 + 1, dtype=torch.float64, device=w.device)
        s, c = half.sin().to(w.real), half.cos().to(w.real)
        products = _cauchy((rows[:, :, None] * columns[:, None]).flatten(1, 2), w, s, c)
        products = products.unflatten(1, (rows.shape[1], -1)).movedim(-1, 1)
        q = C.shape[1]
        CB, CQ, QB, QQ = (
            products[:, :, i, j]
            for i in (slice(q), slice(q, None))
            for j in (slice(1), slice(1, None))
        )
        more = 2 * c[:, None, None]
        identity = torch.eye(self.rank, dtype=w.dtype, device=w.device)
        K = CB - more * CQ @ torch.linalg.solve(identity + more * QQ, QB)
        return K[..., 0].mT * torch.polar(torch.ones_like(half), half).to(w)

    def _free(self, state: Tensor, length: int) -> Tensor:
        if self.rank == 0:
            return super()._free(state, length)
        A, _ = self._dense()
        x = (A @ _real(state).to(A.dtype)[..., None])[..., 0]
        rows = krylov(A, _real_rows(self._output()), length)[:, 0]
        return torch.einsum("hln,bhn->bhl", rows, x).to(self.D.dtype)

    def _constants(self) -> tuple[Tensor, ...]:
        if self.rank == 0:
            return super()._constants()
        w, Q, B = self._continuous(None)
        return w, Q, B, 2 * self._output().to(B)

    def _advance(self, u: Tensor, state: Tensor | None, *system: Tensor) -> Tensor:
        if self.rank == 0:
            return super()._advance(u, state, *system)
        w, Q, B = system
        return self._sampled(state, B * u[..., None], w, Q)

    def _parameters_of(self, poles: Tensor, weights: Tensor) -> dict[str, Tensor]:
        w = to_continuous(poles, torch.finfo(self.D.dtype).tiny)
        dt = self.log_dt.double().exp()[:, None]
        # Only the product c b matters; entries of B stay as large as they were
        size = float(self.B.double().square().sum(-1).mean().sqrt()) if self.B.numel() else 1.0
        size = size or 1.0
        B = torch.complex(torch.full_like(w.real, size), torch.zeros_like(w.real))
        C = weights / (2 * size * dt * to_discrete(w)[1])[:, None]
        C = torch.view_as_real(C * (1 - poles ** int(self.l_max))[:, None])
        return {
            "log_A_real": (-w.real / dt).log(),
            "A_imag": w.imag / dt,
            "P": self.P.new_empty(0, *w.shape, 2),
            "B": torch.view_as_real(B),
            "C": C if self.bidirectional else C[:, 0],
        }


def _cauchy(v: Tensor, w: Tensor, s: Tensor, c: Tensor) -> Tensor:
    """sum_i v_i / (2 i s - c w_i) over both modes of every pair: (H, k, n), (H, n) -> (H, k, L').

    ``(4 i s Re v - 2 c Re(v conj(w))) / (c^2 |w|^2 - 4 s^2 - 4 i s c Re w)`` for a pair, in real
    numbers.
    """
    re = (w.real.square() + w.imag.square())[..., None] * c.square() - 4 * s.square()
    im = w.real[..., None] * (-4 * s * c)
    inverse = 1 / torch.hypot(re, im)  # the slope of 1 / (re^2 + im^2) overflows for slow modes
    re, im = re * inverse * inverse, -im * inverse * inverse
    v = torch.cat([v.real, (v * w.conj()[:, None]).real], 1)
    one, other = torch.complex(v @ re, v @ im).chunk(2, 1)
    return 4j * s * one - 2 * c * other


def _real(x: Tensor) -> Tensor:
    """[Re x, Im x]."""
    return torch.cat([x.real, x.imag], -1)


def _real_rows(C: Tensor) -> Tensor:
    """The real rows that read 2 Re(C x) from [Re x, Im x]."""
    return 2 * torch.cat([C.real, -C.imag], -1)


def _rows(C: Tensor) -> Tensor:
    """The inverse of `_real_rows`."""
    re, im = C.chunk(2, -1)
    return torch.complex(re, -im) / 2
