"""One cut in several processes: the first rank decides for all, by the signals of all."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from compressm.compression.decide import Signals
from compressm.compression.proposal import Proposal
from compressm.errors import DistributedError, OptionError
from compressm.gramians.signals import Signal

__all__ = ["from_first", "propose_together", "replica_of", "rewrap_"]

Found = TypeVar("Found")


def replica_of(model: nn.Module) -> DistributedDataParallel | None:
    """The wrapper that keeps a model equal on all ranks, or None for a model of one process.

    Parameters
    ----------
    model : nn.Module

    Raises
    ------
    OptionError
        If the model is split over processes (FSDP, tensor parallel), or wrapped in a way that a cut
        would break.
    """
    fsdp = sys.modules.get("torch.distributed.fsdp")  # imported if there is an FSDP model
    kinds = (fsdp.FullyShardedDataParallel, fsdp.FSDPModule) if fsdp else ()
    if any(isinstance(m, kinds) for m in model.modules()) or any(
        hasattr(p, "device_mesh") for p in model.parameters()
    ):
        raise OptionError(
            "the model is sharded (FSDP or tensor parallel): no process holds a whole layer, so "
            "none can balance it; train with DistributedDataParallel, or compress_ before sharding"
        )
    if isinstance(model, DistributedDataParallel):
        _require_plain(model)
        return model
    if any(isinstance(m, DistributedDataParallel) for m in model.modules()):
        raise OptionError(
            "there is a DistributedDataParallel inside the model, with buckets of the old shapes "
            "that would not notice a cut; pass the DistributedDataParallel itself"
        )
    return None


def rewrap_(ddp: DistributedDataParallel) -> DistributedDataParallel:
    """Rebuild the buckets of a wrapper, in place, for the shapes that its parameters have now.

    `Compressor` does this after each cut. Call it on every rank after a `compress_` of
    ``ddp.module``, which must have been the same on every rank.

    Parameters
    ----------
    ddp : DistributedDataParallel

    Returns
    -------
    DistributedDataParallel
        `ddp`, with its options and its hooks as they were.

    Raises
    ------
    OptionError
        If more than its buckets depends on the shapes: communication hooks, a static graph, mixed
        precision of its own, delayed reductions; or if its process group is not the default one.
    """
    _require_plain(ddp)
    # How it is unpickled: as it was, around its module as it is. No other public way builds buckets
    # in place, and trainers hold on to their wrapper.
    ddp.__setstate__(ddp.__getstate__())
    return ddp


def _require_plain(ddp: DistributedDataParallel) -> None:
    found = {
        "static_graph": ddp.static_graph,
        "a communication hook": bool(getattr(ddp, "_comm_hooks", ())),
        "mixed_precision": ddp.mixed_precision is not None,
        "delay_all_reduce_named_params": bool(getattr(ddp, "_delay_all_reduce_params", ())),
        "a process group other than the default": ddp.process_group != dist.group.WORLD,
    }
    if any(found.values()):
        raise OptionError(
            "DistributedDataParallel can be cut if only its buckets depend on the shapes, got "
            f"{', '.join(k for k, is_so in found.items() if is_so)}; leave that out, or compress_ "
            "before wrapping"
        )


def propose_together(
    ddp: DistributedDataParallel,
    step: int,
    signals: Signals,
    propose: Callable[[Signals], list[Proposal]],
) -> list[Proposal]:
    """Proposals by the signals of all ranks, made on the first rank and returned on every rank.

    Parameters
    ----------
    ddp : DistributedDataParallel
    step : int
        Step count of this rank.
    signals : mapping of str to sequence of Signal
        What this rank has observed. They are gathered in the first rank's memory, on the host.
    propose : callable
        ``propose(signals)``: the proposals, as in a single process.

    Raises
    ------
    DistributedError
        On the other ranks if the first fails, which raises its own error; and on all if they are
        at different steps, or their layers have different shapes. Nothing has been written then.
    """
    group, first = ddp.process_group, 0  # the default one, see `replica_of`
    shapes = [(name, tuple(p.shape)) for name, p in ddp.module.named_parameters()]
    size = dist.get_world_size(group)
    mine = step, shapes, {name: [_on_host(s, size) for s in own] for name, own in signals.items()}
    everyone: Any = [None] * size
    leads = dist.get_rank(group) == first
    dist.gather_object(mine, everyone if leads else None, first, group)

    def find() -> list[Proposal]:
        _require_equal(everyone)
        merged = _merged([own for _, _, own in everyone])
        for name, own in signals.items():  # of this rank, as its arguments may be anything
            if own:
                merged[name][0].call = own[0].call
        return _to(propose(merged), "cpu")

    # Not its own proposals, even on the first rank: every rank writes the same numbers
    return _to(from_first(ddp, find), ddp.device)


def from_first(ddp: DistributedDataParallel, find: Callable[[], Found]) -> Found:
    """Call ``find()`` on the first rank only; every rank returns its result.

    Parameters
    ----------
    ddp : DistributedDataParallel
    find : callable
        What it returns is pickled.

    Raises
    ------
    DistributedError
        On the other ranks if the first fails, which raises its own error.
    """
    group, first = ddp.process_group, 0
    answer: list[Any] = [None, None]
    failure = None
    if dist.get_rank(group) == first:
        try:
            answer = [find(), None]
        except Exception as error:
            failure = error
            answer = [None, f"the first rank failed, and all others with it: {error!r}"]
    dist.broadcast_object_list(answer, first, group)
    if failure is not None:
        raise failure
    if answer[1] is not None:
        raise DistributedError(answer[1])
    return answer[0]


def _require_equal(everyone: Sequence[tuple[int, Any, Any]]) -> None:
    steps = [step for step, _, _ in everyone]
    if len(set(steps)) > 1:
        raise DistributedError(
            f"the ranks are at steps {steps}; call Compressor.step() equally often on each"
        )
    if any(shapes != everyone[0][1] for _, shapes, _ in everyone):
        raise DistributedError("the ranks' models differ in shape; build and load the same on each")


def _merged(parts: Sequence[Signals]) -> dict[str, list[Signal]]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: [s for part in parts for s in part.get(name, ())] for name in names}


def _on_host(signal: Signal, size: int) -> Signal:
    """On the host, with g / size: one process would have the mean of the ranks' losses as loss."""
    g = None if signal.g is None else signal.g.cpu() / size
    given = None if signal.given is None else signal.given.cpu()
    state = tuple(x.cpu() for x in signal.state)
    return replace(signal, u=signal.u.cpu(), g=g, given=given, state=state, call=None)


def _to(proposals: Sequence[Proposal], device: torch.device | str) -> list[Proposal]:
    return [Proposal(cut, write and write.to(device)) for cut, write in proposals]
