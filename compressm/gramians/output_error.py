"""The change of a layer's output by a cut, measured on inputs that were held out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

import lti
from compressm.gramians.moments import driven_states
from compressm.gramians.signals import Signal
from compressm.systems.batches import System

__all__ = ["hold_out", "output_at", "output_error", "outputs", "relative_error"]


def output_error(
    system: System, reduced: System, signals: Sequence[Signal], directions: int = 1
) -> float | None:
    """rms(y_r - y) / rms(y) of the outputs y = C x of two systems, for the same inputs.

    Parameters
    ----------
    system, reduced : lti.DiagonalStateSpace or lti.StateSpace
        As in `observed_factor`.
    signals : sequence of Signal
        Inputs that were not used in the reduction.
    directions : int, optional
        2 if the second half of the outputs is that of the reversed sequence; the outputs of the
        two directions are compared one by one, not their sum.

    Returns
    -------
    float or None
        At the times that `observed_factor` samples; None without inputs, or if all y are zero.
    """
    pairs = zip(*(outputs(x, signals, directions) for x in (system, reduced)), strict=True)
    return relative_error(pairs)


def outputs(system: System, signals: Sequence[Signal], directions: int = 1) -> Iterator[Tensor]:
    """y = C x at the times of `driven_states`, one direction after the other.

    The signals of each length are taken together.

    Parameters
    ----------
    system : lti.DiagonalStateSpace or lti.StateSpace
    signals : sequence of Signal
    directions : int, optional
    """
    C, states = system.C, driven_states(system)
    if isinstance(system, lti.DiagonalStateSpace) and system.conjugate:
        C = 2 * C  # y = 2 Re(C x)
    of_length = defaultdict(list)
    for signal in signals:
        of_length[signal.u.shape[1]].append(signal.u.to(C.device))
    for u in map(torch.cat, of_length.values()):
        ways = zip(C.mT.split(system.n_outputs // directions, dim=-1), (u, u.flip(1)), strict=False)
        each = [torch.cat([(x @ rows).real for x in states(way)], dim=-2) for rows, way in ways]
        yield torch.cat(each, dim=-1)


def output_at(system: System, u: Tensor, every: int, directions: int = 1) -> Tensor:
    """y = C x at the times J - 1, 2 J - 1, ... of both directions together: (batch, times, width).

    Parameters
    ----------
    system : lti.DiagonalStateSpace or lti.StateSpace
        Or a batch of systems, whose outputs stand side by side.
    u : Tensor (batch, length, m)
    every : int
        J, at most the length.
    directions : int, optional
        2 if the second half of the outputs is that of the reversed sequence.
    """
    C, states, length = system.C, driven_states(system, every), u.shape[1]
    if isinstance(system, lti.DiagonalStateSpace) and system.conjugate:
        C = 2 * C  # y = 2 Re(C x)
    first, *second = C.mT.split(system.n_outputs // directions, dim=-1)
    y = _of(states(u), first)
    for rows in second:
        lead = every - 1 - length % every  # zeros that make the times of both directions the same
        y = y + _of(states(pad(u.flip(1), (0, 0, lead, 0))), rows).flip(1)
    return y


def _of(states: Iterable[Tensor], rows: Tensor) -> Tensor:
    """Re(x rows) of states (..., batch, n), the outputs of all systems side by side."""
    return torch.stack([(x @ rows).real.movedim(-2, 0).flatten(1) for x in states], dim=1)


def relative_error(pairs: Iterable[tuple[Tensor, Tensor]]) -> float | None:
    """rms(y_r - y) / rms(y) over all pairs of y and y_r; None if y is zero, or one not finite.

    Parameters
    ----------
    pairs : iterable of (Tensor, Tensor)
    """
    norm, error, size = torch.linalg.vector_norm, 0.0, 0.0
    for y, y_r in pairs:
        y, y_r = y.double(), y_r.double()
        error, size = math.hypot(error, float(norm(y_r - y))), math.hypot(size, float(norm(y)))
    return error / size if size and math.isfinite(error / size) else None


def hold_out(signals: Sequence[Signal], every: int = 8) -> tuple[list[Signal], list[Signal]]:
    """Split the signals: those to score states by, and every eighth sequence, held out.

    Parameters
    ----------
    signals : sequence of Signal
    every : int, optional

    Returns
    -------
    list of Signal, list of Signal
        The second is empty if there are fewer than `every` sequences.
    """
    parts: tuple[list[Signal], list[Signal]] = [], []
    seen = 0
    for signal in signals:
        held = torch.arange(seen + 1, seen + 1 + len(signal.u), device=signal.u.device) % every == 0
        seen += len(signal.u)
        for part, of in zip(parts, (~held, held), strict=True):
            if of.any():
                g = None if signal.g is None else signal.g[of]
                part.append(replace(signal, u=signal.u[of], g=g))
    return parts
