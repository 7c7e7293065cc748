"""Batches as DataLoaders yield them: what a model is called with, and which steps are valid."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from compressm.errors import OptionError
from compressm.gramians.signals import Signal

__all__ = ["padding_of", "run", "valid_steps", "without_padding"]

PADDING = ("attention_mask", "lengths")  # names of what tells a model which steps are valid


def run(model: nn.Module, batch: Any) -> Any:
    """model(batch), with tensors on the device of the model.

    Parameters
    ----------
    model : nn.Module
    batch : Tensor, sequence or mapping
        Of a sequence the first element is the input. The entries of a mapping are keyword
        arguments; those that ``model.forward`` does not take, such as labels, are left out.
    """
    device = next((p.device for p in model.parameters()), None)

    def moved(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        value = value.to(device)
        return value.clone() if value.is_inference() else value  # as autograd refuses those

    if not isinstance(batch, Mapping):
        first = batch[0] if isinstance(batch, (tuple, list)) and len(batch) else batch
        if not isinstance(first, Tensor):
            raise OptionError(
                "a batch of data is a tensor, a sequence that begins with one, or a mapping; got "
                f"{first!r:.60}"
            )
        return model(moved(first))
    taken = inspect.signature(model.forward).parameters
    if all(x.kind is not x.VAR_KEYWORD for x in taken.values()):
        names = [name for name in batch if name in taken]
    else:
        names = list(batch)
    if not names:
        raise OptionError(
            f"a batch of data has the entries {', '.join(map(str, batch))}, and the model takes "
            f"{', '.join(taken)}; rename them, or give tensors"
        )
    return model(**{name: moved(batch[name]) for name in names})


def padding_of(given: Any) -> dict[str, Any] | None:
    """Of the arguments of a model those that say what is padding."""
    if not isinstance(given, Mapping):
        return None
    return {name: given[name] for name in PADDING if name in given}


def without_padding(signals: Mapping[str, Sequence[Signal]]) -> dict[str, list[Signal]]:
    """The valid steps of the signals, of each one: sequences of equal length and place together.

    Parameters
    ----------
    signals : mapping of str to sequence of Signal
        A signal of other batch or length than its padding is returned as it is.
    """
    return {name: [part for x in own for part in _valid(x)] for name, own in signals.items()}


def valid_steps(padding: Any, batch: int, length: int) -> list[tuple[int, int]] | None:
    """First valid step and the one after the last, of each sequence; None without padding.

    Parameters
    ----------
    padding : object
        A mapping with an ``attention_mask`` (batch, length), or with ``lengths`` (batch,): numbers
        of steps, or fractions of all steps; a scalar stands for every sequence.
    batch, length : int
        Number of sequences and of steps.

    Raises
    ------
    OptionError
        If the lengths are neither.
    """
    if not isinstance(padding, Mapping):
        return None
    mask, lengths = padding.get("attention_mask"), padding.get("lengths")
    if isinstance(mask, Tensor) and mask.ndim == 2:
        valid, steps = mask.cpu() != 0, torch.arange(mask.shape[1], device="cpu")
        starts = torch.where(valid, steps, mask.shape[1]).amin(1).tolist()
        ends = torch.where(valid, steps + 1, 0).amax(1).tolist()
        return list(zip(starts, ends, strict=True))
    return None if lengths is None else [(0, n) for n in _counts(lengths, batch, length)]


def _counts(lengths: Any, batch: int, length: int) -> list[int]:
    """Numbers of steps, of each sequence."""
    try:
        counts = torch.as_tensor(lengths, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        counts = torch.ones((), dtype=torch.bool, device="cpu")
    real = counts.dtype != torch.bool and not counts.is_complex()
    if real and counts.is_floating_point() and (counts <= 1).all():  # 1.0 is all of them
        counts = (counts.double() * length).round()
    if not real or counts.ndim > 1 or (counts != counts.round()).any() or (counts < 0).any():
        raise OptionError(
            "lengths must be numbers of steps, or fractions of all steps, one for each sequence; "
            f"got {lengths!r:.60}; rename the argument if it means something else"
        )
    return [int(n) for n in (counts.expand(batch) if counts.ndim == 0 else counts)]


def _valid(signal: Signal) -> list[Signal]:
    if signal.padding is None or signal.u.ndim < 2:
        return [signal]
    batch, length = signal.u.shape[:2]
    spans = valid_steps(signal.padding, batch, length)
    other = spans is None or len(spans) != batch or any(end > length for _, end in spans)
    if spans is None or other or set(spans) == {(0, length)}:
        return [signal]
    parts = []
    for start, end in sorted({span for span in spans if span[0] < span[1]}):
        of = [i for i, span in enumerate(spans) if span == (start, end)]
        g = None if signal.g is None else signal.g[of, start:end]
        parts.append(replace(signal, u=signal.u[of, start:end], g=g, padding=None))
    return parts
