"""Which set of states to keep: those whose removal one by one changes the output least."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Elimination", "eliminate", "eliminate_with_takeover", "takeover"]

EPS = 1e-6  # of the second moment of each state, so that no large numbers cancel in C


class Elimination(NamedTuple):
    """The states from the last that is removed to the first, and what each removal costs.

    Parameters
    ----------
    order : list of int
        The first r are those to keep at order r.
    costs : Tensor (N,)
        Mean square of the change of the output, descending.
    """

    order: list[int]
    costs: Tensor


def eliminate(K: Tensor) -> Elimination:
    """min over i of sum(K[D, D]), D the removed states and i: K are moments of y = sum_i y_i.

    Parameters
    ----------
    K : Tensor (N, N)
        ``E y_i y_j`` of the parts of the output.
    """
    removed, left, order, costs, before = torch.zeros_like(K[0]), list(range(len(K))), [], [], 0.0
    while left:
        change = 2 * (K @ removed)[left] + K.diagonal()[left]
        i = left.pop(int(change.argmin()))
        removed[i] = 1.0
        order.append(i)
        total = max(float(removed @ K @ removed), before)
        costs.append(max(total - before, costs[-1] if costs else 0.0))  # never less than before
        before = total
    return Elimination(order[::-1], K.new_tensor(costs[::-1]))


def eliminate_with_takeover(P: Tensor, Q: Tensor) -> Elimination:
    """min over i of Q_ii / (P^-1)_ii, where the states that stay take over what they can predict.

    With ``x_i ~ m x`` for the others, ``C_i x_i`` goes to them as ``C <- C + m^T C_i``: what stays
    is the residual, of variance ``1 / (P^-1)_ii``, times the mean square of C_i.

    Parameters
    ----------
    P, Q : Tensor (N, N)
        Second moments of the states and of C.
    """
    scale = P.diagonal().sqrt()
    P, Q = P * _inverse(scale) * _inverse(scale)[:, None], Q * scale * scale[:, None]
    X = torch.linalg.inv(P + EPS * _eye(len(P), P))
    left, order, costs = list(range(len(P))), [], []
    while left:
        at = torch.tensor(left, device=P.device)
        lost = Q.diagonal()[at] / X.diagonal()[at]
        i = left.pop(int(lost.argmin()))
        order.append(i)
        costs.append(max(float(lost.min()), costs[-1] if costs else 0.0))
        m = -X[i] / X[i, i]
        m[i] = 0.0
        Q = Q + torch.outer(m, Q[i]) + torch.outer(Q[i], m) + torch.outer(m, m) * Q[i, i]
        X = X - torch.outer(X[:, i], X[i]) / X[i, i]
    return Elimination(order[::-1], P.new_tensor(costs[::-1]))


def takeover(P: Tensor, kept: list[int]) -> Tensor:
    """T (r, N) of C[kept] <- T C: one at each kept state, P_SS^-1 P_SD for the others.

    Parameters
    ----------
    P : Tensor (N, N)
        Second moment of the states.
    kept : list of int
    """
    scale = P.diagonal().sqrt()
    P = P * _inverse(scale) * _inverse(scale)[:, None]
    inner = P[kept][:, kept] + EPS * _eye(len(kept), P)
    T = torch.linalg.solve(inner, P[kept]) * _inverse(scale)[kept][:, None] * scale
    T[:, kept] = _eye(len(kept), P)
    return T


def _inverse(scale: Tensor) -> Tensor:
    """1 / scale, and zero of a state that never moves."""
    return torch.where(scale > 0, 1 / scale, 0.0)


def _eye(n: int, like: Tensor) -> Tensor:
    return torch.eye(n, dtype=like.dtype, device=like.device)
