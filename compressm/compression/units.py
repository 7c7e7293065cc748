"""What a layer costs: bytes of state per sequence, operations per token, seconds of a step."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from compressm.compression.forward import without_hooks
from compressm.compression.proposal import (
    Plan,
    Proposal,
    cut_copy,
    flops,
    parameter_count,
)
from compressm.errors import OptionError
from compressm.layers import SSMLayer
from compressm.systems.convert import directions
from compressm.systems.selective.evaluate import coefficients

__all__ = ["in_units", "step_seconds", "timed"]

REPEATS = 7  # of which the median counts


def in_units(plan: Plan, proposal: Proposal) -> Proposal:
    """The proposal with state bytes and operations, before and after.

    Parameters
    ----------
    plan : Plan
        Of that layer.
    proposal : Proposal
    """
    cut, write = proposal
    trial = plan.layer if write is None else cut_copy(plan.layer, write)
    before, after = (_costs(plan, *x) for x in ((plan.layer, cut.before), (trial, cut.after)))
    state_bytes, operations = zip(before, after, strict=True)
    return Proposal(replace(cut, state_bytes=state_bytes, flops=operations), write)


@torch.no_grad()
def _costs(plan: Plan, layer: nn.Module, n: int) -> tuple[int, int]:
    """State bytes of one sequence, and operations of one token."""
    params = (p.dtype for p in layer.parameters() if p.is_floating_point() or p.is_complex())
    dtype = next(params, torch.float32).to_real()
    if plan.system is not None:
        operations = flops(plan.system, n)
        if isinstance(layer, SSMLayer) and not getattr(layer, "bidirectional", False):
            state = layer.initial_state(1)
            return state.numel() * state.element_size(), operations
        stored = 2 * n * directions(layer) * math.prod(plan.system.batch_shape)
        return dtype.itemsize * stored, operations
    if plan.example is None:
        return 0, 0
    x = coefficients(layer, plan.example[:, :1].to(next(layer.parameters()).device)).x
    h = math.prod(x.shape[2:]) * n
    window = sum(  # the last inputs of a convolution
        part.weight.shape[0] * (part.kernel_size[0] - 1)
        for part in layer.modules()
        if isinstance(part, nn.Conv1d)
    )
    # Each weight counts once a token, and of each state exp(dt A) h + dt x B and its part of C h
    # Kernels and caches keep h in single precision, whatever that of the weights
    return max(dtype.itemsize, 4) * h + dtype.itemsize * window, 2 * parameter_count(layer) + 6 * h


def timed(
    plans: Sequence[Plan | Proposal],
    proposals: Sequence[Proposal],
    known: dict[tuple[str, int], float | None],
) -> list[Proposal]:
    """The proposals with the seconds of a step, before and after.

    Parameters
    ----------
    plans : sequence of Plan or Proposal
        Of the same layers, with examples of their inputs; a proposal where a layer has no plan.
    proposals : sequence of Proposal
    known : dict
        Seconds by the name and the size of a layer, to which those measured are added.
    """
    return [_timed(*pair, known) for pair in zip(plans, proposals, strict=True)]


def _timed(
    plan: Plan | Proposal, proposal: Proposal, known: dict[tuple[str, int], float | None]
) -> Proposal:
    cut, write = proposal
    if isinstance(plan, Proposal) or plan.example is None:
        return proposal
    for n in (cut.before, cut.after):
        if (cut.name, n) not in known:
            layer = plan.layer
            if n == cut.after and write is not None:
                layer = cut_copy(layer, write)
            u = plan.example.expand(plan.sequences, *plan.example.shape[1:])
            known[cut.name, n] = step_seconds(layer, u)
    before, after = known[cut.name, cut.before], known[cut.name, cut.after]
    if before is None or after is None:
        return proposal
    return Proposal(replace(cut, step_seconds=(before, after)), write)


def step_seconds(layer: nn.Module, u: Tensor) -> float | None:
    """Seconds of one forward and backward pass of a copy of the layer, on its device.

    Parameters
    ----------
    layer : nn.Module
        It does not change.
    u : Tensor
        Its input.

    Returns
    -------
    float or None
        The median of several; None if the layer needs more than its input, or has no backward pass.

    Raises
    ------
    OptionError
        If there is no memory for it.
    """
    layer = without_hooks(layer)
    device = next((p.device for p in layer.parameters()), u.device)
    u = u.detach().to(device)
    if u.is_floating_point():
        u.requires_grad_()
    seconds = []
    try:
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            for _ in range(1 + REPEATS):  # the first one warms up
                _wait_for(device)
                start = time.perf_counter()
                y = layer(u)
                y = y[0] if isinstance(y, tuple) else y
                if not y.requires_grad:
                    return None
                y.sum().backward()
                _wait_for(device)
                seconds.append(time.perf_counter() - start)
    except Exception as error:  # whatever the code of another package raises
        if not _is_out_of_memory(error):
            return None
        raise OptionError(
            f"there is no memory on {device} for a forward and backward pass of "
            f"{type(layer).__name__} on {tuple(u.shape)}; measure with smaller batches"
        ) from error
    return statistics.median(seconds[1:])


def _is_out_of_memory(error: Exception) -> bool:
    own = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, own) or "DefaultCPUAllocator" in str(error)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
