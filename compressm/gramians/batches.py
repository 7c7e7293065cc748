"""Batches as DataLoaders yield them: what a model is called with, and which steps are valid."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compressm.errors import OptionError
from compressm.gramians.signals import Signal

__all__ = ["run", "valid_steps", "without_padding"]


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
        return value.to(device) if isinstance(value, Tensor) else value

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


def valid_steps(batch: Any) -> list[tuple[int, int]] | None:
    """First valid step and the one after the last, of each sequence; None without padding.

    Parameters
    ----------
    batch : object
        A mapping with an ``attention_mask`` (batch, length), or with ``lengths`` (batch,).
    """
    if not isinstance(batch, Mapping):
        return None
    mask, lengths = batch.get("attention_mask"), batch.get("lengths")
    if isinstance(mask, Tensor) and mask.ndim == 2:
        valid, steps = mask.cpu() != 0, torch.arange(mask.shape[1])
        starts = torch.where(valid, steps, mask.shape[1]).amin(1).tolist()
        ends = torch.where(valid, steps + 1, 0).amax(1).tolist()
        return list(zip(starts, ends, strict=True))
    return None if lengths is None else [(0, int(n)) for n in lengths]


def without_padding(signal: Signal, spans: list[tuple[int, int]]) -> list[Signal]:
    """The valid steps of a signal: sequences of equal length and place together.

    Parameters
    ----------
    signal : Signal
    spans : list of (int, int)
        From `valid_steps`. A signal of other batch or length is returned as it is.
    """
    batch, length = signal.u.shape[:2]
    if len(spans) != batch or any(end > length for _, end in spans):
        return [signal]
    parts = []
    for start, end in sorted({span for span in spans if span[0] < span[1]}):
        of = [i for i, span in enumerate(spans) if span == (start, end)]
        g = None if signal.g is None else signal.g[of, start:end]
        parts.append(Signal(signal.u[of, start:end], g, signal.given))
    return parts
