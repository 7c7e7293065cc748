"""Gramian factors from data: second moments of the states and of the adjoint states."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

import lti
from compressm.errors import ObservationError
from compressm.gramians.signals import Signal
from compressm.systems.batches import System

__all__ = [
    "driven_states",
    "input_shape_matches",
    "input_width",
    "observability_factor",
    "observed_factor",
]

SAMPLES = 4  # sampled states for each state of the system
TIMES = 64  # least number of sampling times in each sequence
BLOCKS: WeakKeyDictionary[System, dict[int, tuple[Tensor, Tensor]]] = WeakKeyDictionary()


def input_shape_matches(G: System, signals: Sequence[Signal]) -> bool:
    """Whether inputs were observed, and all of them have the shape of the system's inputs.

    Parameters
    ----------
    G : lti.DiagonalStateSpace or lti.StateSpace
        Or a batch of systems, which has the inputs of all of them together.
    signals : sequence of Signal
    """
    return bool(signals) and all(x.u.ndim == 3 and x.u.shape[-1] == input_width(G) for x in signals)


def input_width(G: System) -> int:
    """Number of inputs of a system, or of all systems of a batch together."""
    return math.prod(G.batch_shape) * G.n_inputs


def observed_factor(
    system: lti.DiagonalStateSpace | lti.StateSpace, signals: Sequence[Tensor]
) -> Tensor:
    """S with S S^H = mean of x x^H over the states x that the inputs drive.

    Parameters
    ----------
    system : lti.DiagonalStateSpace or lti.StateSpace
        Discrete, n >= 1 states; real ones [Re x, Im x] if ``conjugate``. Or a batch of such
        systems, each with inputs of its own.
    signals : sequence of Tensor (batch, length, m)
        Inputs, each sequence from the zero state; m counts those of all systems of the batch.

    Returns
    -------
    Tensor (..., n, k)
        For white inputs of unit variance S S^H is near the controllability Gramian.

    Notes
    -----
    States at neighbouring times hardly differ, so a long sequence is sampled every J steps, at
    `TIMES` to ``2 * TIMES`` times: ``x[kJ]`` obeys the recurrence with ``A^J`` whose input is a
    block of J inputs. Of all sampled states, `SAMPLES` for each state of the system are drawn at
    random, always with the same seed. A few fixed sampling times, the same in every sequence, would
    not represent the others. S is updated for each of `signals`, see `lti.GramianFactor.joined`,
    and is never squared.
    """
    choice = torch.Generator().manual_seed(0)
    wanted = SAMPLES * system.order / sum(u.shape[0] * u.shape[1] for u in signals)
    P: lti.GramianFactor | None = None
    states = driven_states(system)
    for u in signals:
        x = torch.cat(list(states(u)), dim=-2)
        if isinstance(system, lti.DiagonalStateSpace) and system.conjugate:
            x = torch.cat([x.real, x.imag], dim=-1)
        k = min(x.shape[-2], math.ceil(wanted * u.shape[0] * u.shape[1]))
        drawn = torch.randperm(x.shape[-2], generator=choice, device="cpu")[:k]
        x = x.index_select(-2, drawn.to(x.device))
        P = lti.GramianFactor.of_states(x) if P is None else P.joined(x)
    if P is None:
        raise ObservationError("nothing was observed; pass at least one sequence of inputs")
    return P.factor


def observability_factor(
    system: lti.DiagonalStateSpace | lti.StateSpace, signals: Sequence[Tensor]
) -> Tensor:
    """R with R R^H = mean of g g^H over the adjoint states, g[t] = C^H dJ/dy[t] + A^H g[t+1].

    Parameters
    ----------
    system : lti.DiagonalStateSpace or lti.StateSpace
        As in `observed_factor`.
    signals : sequence of Tensor (batch, length, p)
        Gradients dJ/dy at the outputs; p counts those of all systems of the batch.

    Returns
    -------
    Tensor (..., n, k)
        For white gradients of unit variance R R^H is near the observability Gramian.

    References
    ----------
    Otto, Padovan, Rowley, "Model reduction for nonlinear systems by balanced truncation of state
    and gradient covariance", SIAM J. Sci. Comput. 45 (2023), arXiv:2207.14387.
    """
    if isinstance(system, lti.DiagonalStateSpace):
        C = system.C * (2.0 if system.conjugate else 1.0)  # y = 2 Re(C x)
        adjoint = replace(system, poles=system.poles.conj(), B=C.mH, C=system.B.mH, D=None)
    else:
        adjoint = lti.StateSpace(system.A.mH, system.C.mH, system.B.mH, dt=system.dt)
    return observed_factor(adjoint, [g.flip(1) for g in signals])


def driven_states(
    system: lti.DiagonalStateSpace | lti.StateSpace, every: int | None = None
) -> Callable[[Tensor], Iterator[Tensor]]:
    """u (batch, length, m) -> every J-th state (..., batch, n) that it drives, one by one.

    The powers that a block of J inputs needs are computed once for each J and system.

    Parameters
    ----------
    system : lti.DiagonalStateSpace or lti.StateSpace
    every : int, optional
        J; if left out it is such that there are `TIMES` states or more.
    """
    is_diagonal = isinstance(system, lti.DiagonalStateSpace)

    known = BLOCKS.setdefault(system, {})

    def of_block(J: int) -> tuple[Tensor, Tensor]:
        """A^(J-1) B ... B, and the transposed A^J."""
        if J in known:
            return known[J]
        A, times = (system.poles[..., None], torch.mul) if is_diagonal else (system.A, torch.matmul)
        gains = [system.B]
        for _ in range(J - 1):
            gains.append(times(A, gains[-1]))
        power = A**J if is_diagonal else torch.linalg.matrix_power(A, J)
        return known.setdefault(J, (torch.stack(gains[::-1]), power.mT))

    def states(u: Tensor) -> Iterator[Tensor]:
        batch, length, _ = u.shape
        J = every or max(1, length // TIMES)
        gains, power = of_block(J)
        blocks = u[:, : length - length % J].to(system.B)
        blocks = blocks.reshape(batch, -1, J, *system.batch_shape, system.n_inputs)
        x = system.B.new_zeros(*system.batch_shape, batch, system.B.shape[-2])
        for block in blocks.unbind(1):  # all sequences of a batch are the rows of one matrix
            x = x * power if is_diagonal else x @ power
            x = x + torch.einsum("bj...m,j...nm->...bn", block, gains)
            yield x

    return states
