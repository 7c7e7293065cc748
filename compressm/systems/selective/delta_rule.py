"""The gated delta rule: what a key channel of linear attention holds, and what reads it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from compressm.systems.selective.recurrence import Recurrence

__all__ = ["DeltaCoefficients", "DeltaRule"]


class DeltaCoefficients(NamedTuple):
    """S[t] = (I - b k k^T) a S[t-1] + b k x^T,  y = q^T S; without the first b where `erase` is 0.

    Parameters
    ----------
    q, k : Tensor (batch, length, heads, N)
        As the recurrence uses them: normalised, q over the root of N. A head has ``heads_v /
        heads`` neighbours of the value heads.
    x : Tensor (batch, length, heads_v, d_v)
        The values.
    a : Tensor (batch, length, heads_v, N) or (batch, length, heads_v, 1)
        The decay, in (0, 1].
    b : Tensor (batch, length, heads_v)
        How much is written.
    erase : Tensor ()
        One for the delta rule, zero for gated linear attention.
    z : Tensor
        The output gate.
    """

    q: Tensor
    k: Tensor
    x: Tensor
    a: Tensor
    b: Tensor
    erase: Tensor
    z: Tensor


class DeltaRule(Recurrence):
    """S[t] = (I - b[t] k[t] k[t]^T) a[t] S[t-1] + b[t] k[t] x[t]^T,  y[t] = q[t]^T S[t].

    A channel is a value head, and a state is a row of its S.

    References
    ----------
    Yang, Kautz, Hatamizadeh, "Gated Delta Networks: improving Mamba2 with delta rule", 2024,
    arXiv:2412.06464, equation 10.
    """

    coefficients = DeltaCoefficients

    def run(self, c: DeltaCoefficients) -> tuple[Tensor, Tensor]:
        """By one step after the other."""
        q, k = _for_each_value_head(c)
        S = c.x.new_zeros(*c.x.shape[:1], *k.shape[2:], c.x.shape[-1])
        moment, y = S.new_zeros(S.shape[1:3], dtype=torch.float64), []
        for t in range(k.shape[1]):
            key = k[:, t].unsqueeze(-1)
            S = S * c.a[:, t].unsqueeze(-1)
            new = c.x[:, t] - c.erase * (S * key).sum(-2)
            S = S + key * (c.b[:, t].unsqueeze(-1) * new).unsqueeze(-2)
            moment += S.square().sum((0, -1), dtype=torch.float64)
            y.append((S * q[:, t].unsqueeze(-1)).sum(-2).flatten(1))
        return moment, torch.stack(y, 1)

    def adjoint(self, c: DeltaCoefficients, g: Tensor) -> Tensor:
        """L[t] = q[t] g[t]^T + a[t+1] (I - b k k^T)[t+1] L[t+1]: the rows' sums of squares."""
        q, k = _for_each_value_head(c)
        g = g.unflatten(-1, c.x.shape[2:])
        L = c.x.new_zeros(*c.x.shape[:1], *k.shape[2:], c.x.shape[-1])
        moment = L.new_zeros(L.shape[1:3], dtype=torch.float64)
        for t in reversed(range(k.shape[1])):
            L = L + q[:, t].unsqueeze(-1) * g[:, t].unsqueeze(-2)
            moment += L.square().sum((0, -1), dtype=torch.float64)
            key = k[:, t].unsqueeze(-1)
            write = (c.erase * c.b[:, t])[..., None, None] * (L * key).sum(-2, keepdim=True)
            L = (L - key * write) * c.a[:, t].unsqueeze(-1)
        return moment

    def mean_gramians(self, sequences: Iterable[DeltaCoefficients]) -> tuple[Tensor, Tensor]:
        """P = E |b k_i x|^2 / (1 - E a^2), Q = E q_i^2 / (1 - E a^2): without what is erased."""
        sums, count = [], 0
        for c in sequences:
            q, k = _for_each_value_head(c)
            size = c.x.norm(dim=-1, keepdim=True)
            parts = (c.b.unsqueeze(-1) * k * size, q, c.a.expand_as(k))
            sums.append([part.square().sum((0, 1), dtype=torch.float64) for part in parts])
            count += self.count(c)
        P, Q, decay = (torch.stack(parts).sum(0) / count for parts in zip(*sums, strict=True))
        gap = (1 - decay).clamp_min(1 / count)  # no state remembers longer than what was seen
        return P / gap, Q / gap


def _for_each_value_head(c: DeltaCoefficients) -> tuple[Tensor, Tensor]:
    ratio = c.x.shape[2] // c.k.shape[2]
    return c.q.repeat_interleave(ratio, 2), c.k.repeat_interleave(ratio, 2)
