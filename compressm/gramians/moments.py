"""Gramians from data: second moments of the states that inputs drive, and of their adjoints."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

import lti
from compressm.errors import ObservationError
from compressm.gramians.signals import Signal
from compressm.systems.stacks import System

__all__ = [
    "observability_factor",
    "observed_factor",
    "observed_factors",
    "output_error",
    "reaches",
    "relative_error",
    "split_off",
]

SAMPLES = 4  # states looked at, for each state of the system ...
TIMES = 64  # ... at so many times or more of each sequence


def observed_factors(
    G: System, signals: Sequence[Signal], gramians: str, directions: int
) -> tuple[Tensor | None, Tensor | None]:
    """S and R that were observed; None for those that are the model's.

    In two directions the reversed sequence drives the same states, and the second half of the
    outputs is its.
    """
    if gramians == "model":
        return None, None
    inputs = [x.u for x in signals]
    if not inputs:
        raise ObservationError(
            "no input of it was observed in this step: only forward passes in training mode with "
            "gradients count, and one that was compiled before does not see who watches"
        )
    if not reaches(G, signals):
        raise ObservationError(
            f"its inputs were {[tuple(u.shape) for u in inputs]}, not (batch, length, {_width(G)})"
        )
    both = [inputs, [u.flip(1) for u in inputs]][:directions]
    S = observed_factor(G, [u for way in both for u in way])
    if gramians == "input":
        return S, None
    gradients = [x.g for x in signals if x.g is not None]
    if not gradients:
        raise ObservationError("no gradient at its output was observed in this step")
    rows = G.C.split(G.n_outputs // directions, dim=-2)
    ways = [gradients, [g.flip(1) for g in gradients]]
    R = [
        observability_factor(replace(G, C=C, D=None), way)
        for C, way in zip(rows, ways, strict=False)
    ]
    return S, torch.cat(R, dim=-1)


def reaches(G: System, signals: Sequence[Signal]) -> bool:
    """Whether something was observed, and all of it is of the shape of the system's inputs.

    Parameters
    ----------
    G : lti.DiagonalStateSpace or lti.StateSpace
        Or a stack, which has the inputs of all together.
    signals : sequence of Signal
    """
    return bool(signals) and all(x.u.ndim == 3 and x.u.shape[-1] == _width(G) for x in signals)


def _width(G: System) -> int:
    return math.prod(G.batch_shape) * G.n_inputs


def observed_factor(
    system: lti.DiagonalStateSpace | lti.StateSpace, signals: Sequence[Tensor]
) -> Tensor:
    """S with S S^H = mean of x x^H over the states x that the inputs drive.

    Parameters
    ----------
    system : lti.DiagonalStateSpace or lti.StateSpace
        Discrete, n >= 1 states; real ones [Re x, Im x] if ``conjugate``. Or a stack of such, each
        with inputs of its own.
    signals : sequence of Tensor (batch, length, m)
        Inputs, each sequence from the zero state; m counts those of the whole stack.

    Returns
    -------
    Tensor (..., n, k)
        For white inputs of unit variance S S^H is near the controllability Gramian.

    Notes
    -----
    Neighbouring states tell little that is new, so about `TIMES` times of a sequence are looked at,
    at distances J: ``x[kJ]`` obeys the recurrence with ``A^J`` whose input is a block of J inputs.
    Of all these states `SAMPLES` for each state of the system are drawn, always the same ones.
    What must not be few are the times: a handful, the same in every sequence, mislead. S is
    updated for each of `signals`, see `lti.GramianFactor.joined`; nothing is squared.
    """
    choice = torch.Generator().manual_seed(0)
    wanted = SAMPLES * system.order / sum(u.shape[0] * u.shape[1] for u in signals)
    P: lti.GramianFactor | None = None
    for u in signals:
        x = _states(system, u, max(1, u.shape[1] // TIMES))
        k = min(x.shape[-2], math.ceil(wanted * u.shape[0] * u.shape[1]))
        drawn = torch.randperm(x.shape[-2], generator=choice)[:k].to(x.device)
        x = x.index_select(-2, drawn)
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
        Gradients dJ/dy at the outputs, p those of the whole stack.

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


def output_error(
    system: System, reduced: System, signals: Sequence[Signal], directions: int = 1
) -> float | None:
    """rms(y_r - y) / rms(y) of the outputs y = C x and y_r that the same inputs cause.

    Parameters
    ----------
    system, reduced : lti.DiagonalStateSpace or lti.StateSpace
        As in `observed_factor`.
    signals : sequence of Signal
        Inputs that had no part in the reduction.
    directions : int, optional
        2 if the second half of the outputs is that of the reversed sequence; each direction's are
        outputs of their own here, not their sum.

    Returns
    -------
    float or None
        At the times that `observed_factor` looks at; None without inputs, or if all y are zero.
    """
    return relative_error(
        (_outputs(system, x.u, directions), _outputs(reduced, x.u, directions)) for x in signals
    )


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


def split_off(signals: Sequence[Signal], every: int = 8) -> tuple[list[Signal], list[Signal]]:
    """All but each eighth sequence, and each eighth: none if there are fewer.

    Parameters
    ----------
    signals : sequence of Signal
    every : int, optional
    """
    parts: tuple[list[Signal], list[Signal]] = [], []
    seen = 0
    for signal in signals:
        held = torch.arange(seen + 1, seen + 1 + len(signal.u), device=signal.u.device) % every == 0
        seen += len(signal.u)
        for part, of in zip(parts, (~held, held), strict=True):
            if of.any():
                part.append(Signal(signal.u[of], None if signal.g is None else signal.g[of]))
    return parts


def _outputs(system: System, u: Tensor, directions: int) -> Tensor:
    """y = C x at the times of `_states`, the outputs of each direction after the other."""
    C = system.C
    if isinstance(system, lti.DiagonalStateSpace) and system.conjugate:
        C = 2 * torch.cat([C.real, -C.imag], dim=-1)  # y = 2 Re(C x)
    every = max(1, u.shape[1] // TIMES)
    ways = zip(C.split(system.n_outputs // directions, dim=-2), (u, u.flip(1)), strict=False)
    return torch.cat([(_states(system, way, every) @ rows.mT).real for rows, way in ways], dim=-1)


def _states(system: lti.DiagonalStateSpace | lti.StateSpace, u: Tensor, every: int) -> Tensor:
    """The states (..., samples, n) after each block of `every` inputs."""
    batch, length, _ = u.shape
    blocks = u[:, : length - length % every].to(system.B)
    blocks = blocks.reshape(batch, -1, every, *system.batch_shape, system.n_inputs)
    if isinstance(system, lti.DiagonalStateSpace):
        A, times = system.poles[..., None], torch.mul
    else:
        A, times = system.A, torch.matmul
    powers, gains = [A], [system.B]
    for _ in range(every - 1):
        powers.append(times(A, powers[-1]))
        gains.append(times(A, gains[-1]))
    drive = torch.einsum("bkj...m,j...nm->kb...n", blocks, torch.stack(gains[::-1]))
    x, states = torch.zeros_like(drive[0]), []
    for v in drive:
        x = times(powers[-1], x[..., None])[..., 0] + v
        states.append(x)
    x = torch.cat(states).movedim(0, -2)
    if isinstance(system, lti.DiagonalStateSpace) and system.conjugate:
        x = torch.cat([x.real, x.imag], dim=-1)
    return x
