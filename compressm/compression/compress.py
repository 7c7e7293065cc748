"""G -> G_r for every state-space layer of a model: one cut now, or its preview."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compressm._renamed import system_alias
from compressm.compression.decide import (
    Planned,
    apply_,
    balance_layers,
    require_layers,
    require_sizes,
    select,
)
from compressm.compression.event import CompressionEvent
from compressm.compression.options import Options
from compressm.compression.policies import AnyPolicy
from compressm.compression.units import timed
from compressm.errors import NothingRemovedWarning, OptionError
from compressm.gramians.observe import observe
from compressm.gramians.signals import Signal
from compressm.gramians.types import GramianType
from compressm.ops.optimizers import require_optimizers
from compressm.ops.resize import tensors_of
from compressm.sizes import AnySizes
from compressm.systems.find import compressible_layers, layer_parameters, selective_layers
from compressm.systems.sizes import resize_on_load

__all__ = ["compress_", "outlook", "preview"]


@system_alias
@torch.inference_mode(False)
def compress_(
    model: nn.Module,
    policy: AnyPolicy | None = None,
    optimizer: Any = None,
    *,
    conjugate: bool = True,
    gramians: str | GramianType | None = None,
    data: Iterable[Any] = (),
    multiple_of: int = 1,
    sizes: AnySizes | None = None,
    uniform: bool = False,
    measure: bool = False,
    dry_run: bool = False,
) -> CompressionEvent:
    """G -> G_r, balanced and truncated, for every state-space layer of `model`, in place.

    Parameters
    ----------
    model : nn.Module
        Its state-space layers are compressed: each layer that `to_lti` takes, and selective layers
        (Mamba), from which states are removed.
    policy : Policy, optional
        How far to cut; as in `Compressor`.
    optimizer : torch.optim.Optimizer, optional
        Needed if training continues; as in `Compressor`.
    conjugate : bool, optional
        As in `Compressor`.
    gramians : {"model", "input", "data", "output"} or GramianType, optional
        As in `Compressor`, but the layers' inputs are those for `data`, and the gradients are those
        of random projections of the model's output. If left out, "output" for selective layers,
        "input" for all others with `data`, and "model" without.
    data : iterable, optional
        Inputs of the model: tensors, tuples whose first element is one, or dicts of keyword
        arguments, as a DataLoader yields them; entries that the model does not take are left out,
        and so is padding by an ``attention_mask`` or ``lengths`` among them. `gramians` other than
        "model" and selective layers need them, and `LayerCut.output_error` is measured on them.
        Each is run once in evaluation mode, and the layers' inputs are kept until the cut: a few
        hundred sequences suffice.
    multiple_of, sizes, uniform : optional
        As in `Compressor`.
    measure : bool, optional
        As in `preview`.
    dry_run : bool, optional
        Return what would be done, and do not change the model.

    Returns
    -------
    CompressionEvent
        With ``step=0``.

    Warns
    -----
    NothingRemovedWarning
        If no layer was cut.

    Examples
    --------
    >>> import torch
    >>> from compressm import SequenceModel, States, compress_
    >>> model = SequenceModel(d_input=1, d_output=2, d_model=4, d_state=16, n_layers=1)
    >>> compress_(model, States(4)).layers[0].after
    4
    """
    options = Options(policy, conjugate, gramians, multiple_of, sizes, uniform)
    require_layers(model, [options.gramians])
    require_sizes(model, options.sizes)
    require_optimizers(optimizer, layer_parameters(model))
    signals = _observed(model, [options.gramians], data, measure)
    plans = balance_layers(model, signals, options)
    proposals = select(model, plans, options)
    if measure:
        proposals = timed(plans, proposals, {})
    event = CompressionEvent(0, tuple(cut for cut, _ in proposals))
    if not dry_run:
        apply_(resize_on_load(model), proposals, optimizer)
        if not event.removed:
            warnings.warn(str(event), NothingRemovedWarning, stacklevel=4)
    return event


@system_alias
@torch.inference_mode(False)
def preview(
    model: nn.Module,
    policies: Iterable[AnyPolicy | None] | None = None,
    *,
    conjugate: bool = True,
    gramians: str | GramianType | Sequence[str | GramianType] | None = None,
    data: Iterable[Any] = (),
    multiple_of: int = 1,
    sizes: AnySizes | None = None,
    uniform: bool = False,
    measure: bool = False,
) -> tuple[CompressionEvent, ...]:
    """What each of several policies would do to a model; the model does not change.

    Parameters
    ----------
    model : nn.Module
        As in `compress_`, like all arguments but the next and `gramians`.
    policies : iterable of Policy, optional
        For example ``[KeepEnergy(x) for x in (0.9, 0.99, 0.999)]``. None, alone or among them, is
        the default policy.
    gramians : {"model", "input", "data", "output"}, GramianType, or sequence of these, optional
        As in `compress_`, or several, to compare them; the data run through the model once, and
        each layer is balanced once for each of them.
    conjugate, data, multiple_of, sizes, uniform
        As in `compress_`.
    measure : bool, optional
        Time a forward and backward pass of each layer, at each of the sizes, on a batch as large as
        the first one of `data`: `LayerCut.step_seconds`.

    Returns
    -------
    tuple of CompressionEvent
        One for each policy: orders, bounds, parameters, state bytes, operations. With several
        `gramians`, those of all policies for the first, then for the next; `LayerCut.gramians`
        names the type.

    Examples
    --------
    >>> import torch
    >>> from compressm import SequenceModel, States, preview
    >>> model = SequenceModel(d_input=1, d_output=2, d_model=4, d_state=16, n_layers=1)
    >>> [event.layers[0].parameters for event in preview(model, [States(8), States(2)])]
    [(308, 156), (308, 42)]
    """
    policies = (None,) if policies is None else tuple(policies)
    one = gramians is None or isinstance(gramians, (str, GramianType))
    types: Any = (gramians,) if one else gramians
    asked = [
        Options(x, conjugate, kind, multiple_of, sizes, uniform) for kind in types for x in policies
    ]
    require_layers(model, [options.gramians for options in asked])
    require_sizes(model, asked[0].sizes)
    signals = _observed(model, [options.gramians for options in asked], data, measure)
    seconds: dict[tuple[str, int], float | None] = {}

    @cache
    def planned(gramians: GramianType | None) -> list[Planned]:
        same = next(options for options in asked if options.gramians == gramians)
        return balance_layers(model, signals, same)

    def event(options: Options) -> CompressionEvent:
        plans = planned(options.gramians)
        proposals = select(model, plans, options)
        if measure:
            proposals = timed(plans, proposals, seconds)
        return CompressionEvent(0, tuple(cut for cut, _ in proposals))

    return tuple(map(event, asked))


outlook = preview
"""The old name of `preview`."""


def _observed(
    model: nn.Module, asked: Sequence[GramianType | None], data: Iterable[Any], measure: bool
) -> dict[str, list[Signal]] | None:
    """The signals of the layers that need them; None if no layer does."""
    if isinstance(data, (Tensor, np.ndarray)):
        raise OptionError(
            f"data must be an iterable of batches, got one {type(data).__name__} of shape "
            f"{tuple(data.shape)}; pass a list of tensors, such as tensor.split(50)"
        )
    if isinstance(data, (str, bytes, Mapping)) or not (
        hasattr(data, "__iter__") or hasattr(data, "__getitem__")
    ):
        raise OptionError(
            f"data must be an iterable of batches, got {data!r:.60}; pass a list of batches, such "
            "as [batch], or leave it out"
        )
    given = not (isinstance(data, tuple) and not data)
    if measure and not given:
        raise OptionError("measure=True times each layer on its input; give data=")
    needed = given or any(gramians and gramians.needs_inputs for gramians in asked)
    layers = compressible_layers if needed else selective_layers
    if all(any(x.is_meta for x in tensors_of(layer).values()) for _, layer in layers(model)):
        return None  # there is none, or none that has numbers
    gradients = any(gramians and gramians.needs_gradients for gramians in asked)
    signals = observe(model, data, gradients, layers)
    if not signals:
        raise OptionError(
            "no data reached the layers that need it; pass data=, an iterable of inputs of the "
            "model (an iterator can be used only once)"
        )
    return signals
