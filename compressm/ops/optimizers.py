"""The optimizers behind what a caller passes: one, several, or a wrapper around another."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from compressm.errors import OptionError

__all__ = ["optimizers_of", "refuse_forgotten", "require_optimizers"]

WRAPPED = ("base_optimizer", "optimizer")  # what wrappers (SAM, Lookahead, accelerate) call theirs


def optimizers_of(optimizer: Any) -> list[Any]:
    """Every optimizer that may hold state of a parameter, wrapped ones included.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer, sequence of these, or None

    Returns
    -------
    list
        Empty for None.

    Raises
    ------
    OptionError
        If something is no optimizer.
    """
    found: list[Any] = []
    for one in optimizer if isinstance(optimizer, (list, tuple)) else [optimizer]:
        if one is not None:
            found += (x for x in _with_wrapped(one) if not any(x is y for y in found))
    return found


def _with_wrapped(optimizer: Any) -> Iterator[Any]:
    if not _is_optimizer(optimizer):
        raise OptionError(
            f"optimizer must be a torch.optim.Optimizer, or a list of them, got {optimizer!r}"
        )
    yield optimizer
    for name in WRAPPED:
        inner = getattr(optimizer, name, None)
        if inner is not None and inner is not optimizer and _is_optimizer(inner):
            yield from _with_wrapped(inner)


def _is_optimizer(x: object) -> bool:
    return isinstance(getattr(x, "state", None), Mapping) and hasattr(x, "param_groups")


def require_optimizers(optimizer: Any, parameters: Iterable[tuple[str, nn.Parameter]]) -> None:
    """OptionError unless a cut of these parameters can be followed.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer, sequence of these, or None
        None is right where nothing trains the parameters.
    parameters : iterable of (str, Parameter)
        Those of the layers, by name. Frozen ones need no optimizer.

    Raises
    ------
    OptionError
        If something is no optimizer, keeps one history for all parameters (LBFGS), or if no
        optimizer holds one of the parameters.
    """
    optimizers = optimizers_of(optimizer)
    if any(isinstance(x, torch.optim.LBFGS) for x in optimizers):
        raise OptionError(
            "LBFGS keeps one history for all parameters together, which no longer fits after a "
            "cut; use another optimizer, or compress_(model, policy) and build a new LBFGS"
        )
    held = {id(p) for x in optimizers for group in x.param_groups for p in group["params"]}
    lost = [name for name, p in parameters if p.requires_grad and id(p) not in held]
    if optimizers and lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise OptionError(
            f"no optimizer that was given holds {lost[0]}{more}: after a cut the one that does "
            "would fail; pass all of them as a list, and those of this model"
        )


def refuse_forgotten(parameters: Iterable[tuple[str, nn.Parameter]]) -> None:
    """OptionError if an optimizer in this process holds state of one of these parameters.

    Parameters
    ----------
    parameters : iterable of (str, Parameter)
        By name; no optimizer was given for them.
    """
    alive = [x for x in gc.get_objects() if issubclass(type(x), torch.optim.Optimizer)]
    for name, parameter in parameters:
        for optimizer in alive:
            if parameter in optimizer.state:
                raise OptionError(
                    f"{type(optimizer).__name__} holds state of {name} that no longer fits after a "
                    "cut, and was not given: pass it, as in Compressor(model, optimizer, ...)"
                )
