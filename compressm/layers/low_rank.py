"""Diagonal plus low rank: x -> M x = w/2 x - q 2 Re(q^H x), its Gramian and its powers in O(n)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["observability_factor", "without_power"]

ABERTH = 6  # steps from the poles of one channel to those of the others
PASSES = 4  # over all poles
FEW = 24  # poles that may not have converged
CONVERGED = 1e-12
CHECK = 16  # shifts
POINTS = 2**21  # numbers that are held at once


def observability_factor(poles: Tensor, w: Tensor, q: Tensor, C: Tensor) -> Tensor | None:
    """R on [Re x, Im x] with M^H Q + Q M + G^H G / 2 = 0, Q = R R^H, G = C (1 - M).

    That is ``A'^H Q A' - Q + C^H C = 0`` for ``A' = (1 - M)^-1 (1 + M)``. Each step of the ADI
    iteration is ``W <- (M^H - conj(s)) (M^H + s)^-1 W``, a contraction for any shift of negative
    real part, since ``M + M^H < 0``. With all poles as shifts, W ends at zero.

    Parameters
    ----------
    poles : Tensor (H, k)
        Poles of M in the closed upper half-plane, or near them; each is real in all H or in none.
    w, q : Tensor (H, n)
    C : Tensor (H, p, n)
        Of ``y = 2 Re(C x)``.

    Returns
    -------
    Tensor (H, 2n, 2n) or None
        None if W does not converge.

    References
    ----------
    Benner, Kuerschner, Saak, "Efficient handling of complex shift parameters in the low-rank
    Cholesky factor ADI method", Numer. Algorithms 62 (2013); Aberth, "Iteration methods for finding
    all zeros of a polynomial simultaneously", Math. Comp. 27 (1973).
    """
    found = [_refined(*one) for one in zip(poles, w / 2, q, strict=True)]
    shifts, moved = (torch.stack(x, -1) for x in zip(*found, strict=True))
    # What all poles leave belongs to those that have not converged
    again = shifts[moved.amax(-1).argsort(descending=True)[:FEW]]
    first = shifts[shifts.abs().sum(-1).argsort(descending=True)]
    shifts = torch.cat([first, again, again, again])
    w, q = w[:, None] / 2, q[:, None]
    W = (C * (1 - w) + 2 * (C * q).sum(-1, keepdim=True).real * q.conj()).conj() / math.sqrt(2)
    enough = CONVERGED * torch.linalg.vector_norm(W, dim=-1)
    size = q.abs().square()
    columns = []
    for k, s in enumerate(list(shifts[..., None, None]) * PASSES):
        if k % CHECK == 0 and bool((torch.linalg.vector_norm(W, dim=-1) <= enough).all()):
            break
        # (M^H + s)^-1 W; the rows of the mirrored modes are those of `other`, conjugated
        d, other = 1 / (w.conj() + s), 1 / (w.conj() + s.conj())
        gain = 1 - ((d + other.conj()) * size).sum(-1, keepdim=True)
        x, y = d * W, other * W
        read = ((q.conj() * x).sum(-1, keepdim=True), (q.conj() * y).sum(-1, keepdim=True).conj())
        f = (read[0] + read[1]) / gain
        x, y = x + d * q * f, y + other * q * f.conj()
        re, im = (x + y) / 2, (x - y) / 2j
        a = -s.real
        if not s.imag.any():
            columns.append((2 * a).sqrt() * re)
            W = W + 2 * a * re
        else:
            b = s.real / s.imag
            re = re + b * im
            columns += [2 * a.sqrt() * re, 2 * (a * (b * b + 1)).sqrt() * im]
            W = W + 4 * a * re
    else:
        return None
    R = torch.stack(columns, -1).movedim(1, -1).flatten(-2)
    R = 2 * torch.cat([R.real, R.imag], -2)
    if not R.isfinite().all():
        return None
    return torch.linalg.qr(R.mT, mode="r").R.mT


def _refined(poles: Tensor, w: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Zeros (k,) of 1 + q^H (s - w)^-1 q over both modes of every pair, by Aberth's iteration.

    Newton's step is that of the characteristic polynomial, ``prod (s - w)`` times as much, without
    the zeros that have been found. Also by how much each has moved in the last step, relatively.
    """
    w, size = torch.cat([w, w.conj()]), torch.cat([q, q]).abs().square().to(w)
    paired, moved = poles.imag > 0, torch.zeros_like(poles.real)
    for _ in range(ABERTH):
        near = 1 / (poles[:, None] - w)
        apart = poles[:, None] - torch.cat([poles, poles[paired].conj()])
        apart.diagonal().fill_(torch.inf)
        slope = near.sum(-1) - near.square() @ size / (1 + near @ size)
        new = poles - 1 / (slope - (1 / apart).sum(-1))
        new = torch.complex(new.real, new.imag * paired)
        moved = (new - poles).abs() / poles.abs()
        poles = torch.where(new.isfinite() & (new.real < 0) & (new.imag >= 0), new, poles)
    return poles, moved.nan_to_num(torch.inf)


def without_power(C: Tensor, w: Tensor, q: Tensor, length: int) -> Tensor:
    """C (1 - A'^L)^-1, the mean of C (1 - z A')^-1 over the L-th roots of unity z.

    For ``A' = (1 - M)^-1 (1 + M)`` that is ``C ((1 - z) - (1 + z) M)^-1 (1 - M)``, with
    ``(1 - z) - (1 + z) M = e^-it/2 (2 i s - c w + 2 c q q^H)`` at ``z = e^-it``, s and c being the
    sine and cosine of t/2.

    Parameters
    ----------
    C : Tensor (H, p, n)
        Of ``y = 2 Re(C x)``.
    w : Tensor (H, n)
    q : Tensor (rank, H, n)
    length : int
    """
    mean = torch.zeros_like(C)
    angles = math.pi / length * torch.arange(length, dtype=w.real.dtype, device=w.device)
    for t in angles.split(max(1, POINTS // w.numel())):
        s, c = t.sin(), t.cos()
        one, other = (1 / (2j * s - c * v[..., None]) for v in (w, w.conj()))  # (H, n, t)
        CQ = torch.einsum("hpn,rhn,hnt->thpr", C, q, one)
        CQ = CQ + torch.einsum("hpn,rhn,hnt->thpr", C.conj(), q.conj(), other)
        QQ = torch.einsum("rhn,jhn,hnt->thrj", q.conj(), q, one)
        QQ = QQ + torch.einsum("rhn,jhn,hnt->thrj", q, q.conj(), other)
        more = (2 * c)[:, None, None, None]
        inner = torch.eye(len(q), dtype=w.dtype, device=w.device) + more * QQ
        turn = torch.polar(torch.ones_like(t), t)[:, None, None, None]
        g = turn * more * torch.linalg.solve(inner, CQ, left=False)
        mean = mean + C * (one * turn[:, 0, 0, 0]).sum(-1)[:, None]
        mean = mean - torch.einsum("thpr,rhn,hnt->hpn", g, q.conj(), one)
    mean = mean / length
    read = 2 * torch.einsum("hpn,rhn->hpr", mean, q).real.to(q)
    return mean * (1 - w[:, None] / 2) + torch.einsum("hpr,rhn->hpn", read, q.conj())
