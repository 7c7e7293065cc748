"""The parameters of the layers that were cut, for a few steps that train them alone."""

from __future__ import annotations

from torch import nn

from compressm.compression.event import CompressionEvent
from compressm.errors import OptionError

__all__ = ["cut_parameters"]


def cut_parameters(model: nn.Module, event: CompressionEvent) -> list[nn.Parameter]:
    """The parameters of the layers that a cut made smaller.

    A new optimizer of these alone lets the layers recover from a cut after the training: it needs
    few steps, and the rest of the model stays as it was trained.

    Parameters
    ----------
    model : nn.Module
        The model that was cut.
    event : CompressionEvent
        What `compress_` or `Compressor.step` returned.

    Returns
    -------
    list of nn.Parameter
        Each once; without those that are frozen. Empty if nothing was cut.

    Raises
    ------
    OptionError
        If the event is one of another model.

    Examples
    --------
    >>> import torch
    >>> from compressm import SequenceModel, States, compress_, cut_parameters
    >>> model = SequenceModel(d_input=1, d_output=10, d_model=8, d_state=32, n_layers=2)
    >>> event = compress_(model, States(8), gramians="model")
    >>> optimizer = torch.optim.AdamW(cut_parameters(model, event), lr=1e-3)
    """
    found: dict[nn.Parameter, None] = {}
    for cut in event.layers:
        if cut.after == cut.before:
            continue
        try:
            layer = model.get_submodule(cut.name)
        except AttributeError as error:
            raise OptionError(
                f"the model has no layer {cut.name!r}, which the event names; give the model that "
                "was cut, without what wraps it"
            ) from error
        found |= dict.fromkeys(p for p in layer.parameters() if p.requires_grad)
    return list(found)
