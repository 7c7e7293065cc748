"""A model's layers, seen as systems."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import nn

import lti
from compressm.layers import SSMLayer

__all__ = ["hankel_spectra", "ssm_layers"]


def ssm_layers(model: nn.Module) -> Iterator[tuple[str, SSMLayer]]:
    """Every state-space layer of `model` with its qualified name, each layer once."""
    return ((name, m) for name, m in model.named_modules() if isinstance(m, SSMLayer))


def hankel_spectra(model: nn.Module) -> dict[str, np.ndarray]:
    """svd(R^H S) of every state-space layer as it stands.

    Parameters
    ----------
    model : nn.Module
        Is not changed.

    Returns
    -------
    dict of str to ndarray (n,)
        From the layer's qualified name to its Hankel singular values, descending; n counts the real
        states of ``layer.to_lti()``.

    Raises
    ------
    lti.LTIError
        If a layer is not stable or not finite.
    """
    return {
        name: lti.hankel_singular_values(layer.to_lti()).cpu().numpy()
        for name, layer in ssm_layers(model)
    }
