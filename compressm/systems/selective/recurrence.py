"""What the states of a selective layer obey, and the second moments that follow: the scan."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

__all__ = ["Coefficients", "ReadoutMoments", "Recurrence", "Scan"]


class Coefficients(NamedTuple):
    """h[t] = exp(dt[t] A) * h[t-1] + (dt[t] * x[t]) B[t]^T,  y[t] = h[t] C[t], then a gate z.

    Parameters
    ----------
    x, dt, z : Tensor (batch, length, channels)
    A : Tensor (channels, N)
        Or (channels, 1) where it is the same for all states.
    B, C : Tensor (batch, length, groups, N)
        A group is ``channels / groups`` neighbours.
    """

    x: Tensor
    dt: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    z: Tensor


class ReadoutMoments(NamedTuple):
    """Sums over time, sequences and channels of w h h^T, C C^T and w (C * h) (C * h)^T.

    Parameters
    ----------
    P, Q, K : Tensor (groups, N, N)
        Of the states, of what reads them, and of the parts of y, the sum of C_i h_i.
    """

    P: Tensor
    Q: Tensor
    K: Tensor


class Recurrence(ABC):
    """The recurrence of a form: its coefficients, and the second moments of its states.

    Attributes
    ----------
    coefficients : type
        A named tuple of tensors; it has fields ``x``, what drives the states, and ``z``, what
        `SelectiveForm.tail` needs beside y.
    interacts : bool
        Whether a state depends on others; if not, there are `readout_moments`.
    """

    coefficients: ClassVar[Any]
    interacts: ClassVar[bool] = True

    @abstractmethod
    def run(self, c: Any) -> tuple[Tensor, Tensor]:
        """The sum of h^2 over time and sequences (channels, N), and y (batch, length, channels)."""

    @abstractmethod
    def adjoint(self, c: Any, g: Tensor) -> Tensor:
        """The sum of the squares of the adjoint states (channels, N), for g = dJ/dy."""

    @abstractmethod
    def mean_gramians(self, sequences: Iterable[Any]) -> tuple[Tensor, Tensor]:
        """P and Q of the mean system, (channels, N)."""

    def readout_moments(self, c: Any, w: Tensor) -> ReadoutMoments:
        """Moments with the weights w (batch, length, channels) of y, if states do not interact."""
        raise NotImplementedError

    def count(self, c: Any) -> int:
        """Over how many times and sequences the sums go."""
        return c.x.shape[0] * c.x.shape[1]


class Scan(Recurrence):
    """h[t] = exp(dt[t] A) * h[t-1] + (dt[t] * x[t]) B[t]^T,  y[t] = h[t] C[t]."""

    coefficients, interacts = Coefficients, False

    def run(self, c: Coefficients) -> tuple[Tensor, Tensor]:
        """By one step after the other."""
        return _driven(c.dt * c.x, c.dt, c.A, c.B, c.C)

    def adjoint(self, c: Coefficients, g: Tensor) -> Tensor:
        """From right to left; the decay between two times is that of the later one."""
        g, dt, B, C = (part.flip(1) for part in (g, c.dt, c.B, c.C))
        return _driven(g, dt.roll(1, 1), c.A, C, B)[0]

    def mean_gramians(self, sequences: Iterable[Coefficients]) -> tuple[Tensor, Tensor]:
        """P = b^2 / (1 - p^2), Q = c^2 / (1 - p^2), at the averages of dt, B and C."""
        sums, count = [], 0
        A: Any = None  # the same for all
        for c in sequences:
            A = c.A
            sums.append([part.sum((0, 1), dtype=torch.float64) for part in (c.dt, c.B, c.C)])
            count += self.count(c)
        dt, B, C = (torch.stack(parts).sum(0) / count for parts in zip(*sums, strict=True))
        B, C = (part.repeat_interleave(len(A) // len(part), 0) for part in (B, C))
        gap = -torch.expm1(2 * dt[:, None] * A)  # 1 - p^2
        return (dt[:, None] * B).square() / gap, C.square() / gap

    def readout_moments(self, c: Coefficients, w: Tensor) -> ReadoutMoments:
        """Of the states of each group of channels, by one step after the other."""
        groups, n = c.B.shape[2:]
        P, K = (c.x.new_zeros(groups, n, n, dtype=torch.float64) for _ in "PK")
        w = w.unflatten(2, (groups, -1))
        for t, h in enumerate(_states(c.dt * c.x, c.dt, c.A, c.B)):
            weighted = h * w[:, t].unsqueeze(-1)
            moment = torch.einsum("bgci,bgcj->bgij", weighted, h)
            P += moment.sum(0)
            read = c.C[:, t]
            K += (moment * read.unsqueeze(-1) * read.unsqueeze(-2)).sum(0)
        return ReadoutMoments(P, torch.einsum("btgi,btgj->gij", c.C, c.C).double(), K)


def _driven(v: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """h[t] = exp(dt[t] A) * h[t-1] + v[t] B[t]^T,  y[t] = h[t] C[t]: sum of h^2, and y."""
    moment: Any = 0.0
    y = []
    for t, h in enumerate(_states(v, dt, A, B)):
        moment = moment + h.square().sum(0, dtype=torch.float64)
        y.append((h @ C[:, t].unsqueeze(-1)).flatten(1))
    return moment.flatten(0, 1), torch.stack(y, 1)


def _states(v: Tensor, dt: Tensor, A: Tensor, B: Tensor) -> Iterator[Tensor]:
    """h (batch, groups, channels, N) of each time; the same tensor, written anew."""
    batch, length, groups, n = B.shape
    v, dt = (part.unflatten(2, (groups, -1)).unsqueeze(-1) for part in (v, dt))
    A = A.unflatten(0, (groups, -1))
    h = v.new_zeros(batch, *v.shape[2:4], n)
    for t in range(length):
        yield h.mul_((dt[:, t] * A).exp()).addcmul_(v[:, t], B[:, t].unsqueeze(2))
