"""One plain residual model of sequences."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from compressm.layers import DSS, LRU, LSSL, S4, S4D, S5, Mamba

__all__ = ["LAYERS", "SequenceModel"]

LAYERS: dict[str, type[nn.Module]] = {
    "dss": DSS,
    "lru": LRU,
    "lssl": LSSL,
    "mamba": Mamba,
    "s4": S4,
    "s4d": S4D,
    "s5": S5,
}
"""Layers by name; add your own, or pass the class."""


class SequenceModel(nn.Module):
    """Encoder, `n_layers` residual blocks around a state-space layer, pooling over time, head.

    Parameters
    ----------
    d_input : int
        Channels of the input.
    d_output : int
        Numbers that come out.
    d_model : int
        Channels between the blocks.
    d_state : int
        States of each layer, to begin with.
    n_layers : int
        Number of blocks.
    layer : str or subclass of nn.Module, optional
        A name in `LAYERS`, or a class such as those: ``layer(d_model, d_state, **options)``.
    dropout : float, optional
        Probability with which a number is dropped, after the layer and after the block.
    pool : {"mean", "last", "none"}, optional
        Average over time, take the last step, or give an output at each step.
    **options
        Go to the layer, such as ``r_min`` to an `LRU`.

    Raises
    ------
    ValueError
        If there is no such layer or pooling, or `dropout` is not a probability.

    Examples
    --------
    >>> import torch
    >>> from compressm import SequenceModel
    >>> model = SequenceModel(d_input=1, d_output=10, d_model=8, d_state=32, n_layers=2)
    >>> model(torch.zeros(5, 784, 1)).shape
    torch.Size([5, 10])
    """

    def __init__(
        self,
        d_input: int,
        d_output: int,
        d_model: int,
        d_state: int,
        n_layers: int,
        layer: str | type[nn.Module] = "lru",
        dropout: float = 0.0,
        pool: str = "mean",
        **options: Any,
    ) -> None:
        super().__init__()
        if isinstance(layer, str):
            if layer not in LAYERS:
                raise ValueError(f"there is no layer {layer!r}; choose from {', '.join(LAYERS)}")
            layer = LAYERS[layer]
        if pool not in ("mean", "last", "none"):
            raise ValueError(f"there is no pooling {pool!r}; choose from mean, last, none")
        self.pool = pool
        self.encoder = nn.Linear(d_input, d_model)
        self.blocks = nn.Sequential(
            *(_Block(layer(d_model, d_state, **options), d_model, dropout) for _ in range(n_layers))
        )
        self.head = nn.Linear(d_model, d_output)

    def forward(self, u: Tensor) -> Tensor:
        """`u` (batch, length, d_input) -> (batch, d_output); (batch, length, d_output) unpooled."""
        x = self.blocks(self.encoder(u))
        if self.pool == "mean":
            x = x.sum(1) / x.shape[1]  # not mean: its gradient is written out for every step
        elif self.pool == "last":
            x = x[:, -1]
        return self.head(x)


class _Block(nn.Module):
    """x + drop(value * sigmoid(gate)),  value, gate = W drop(gelu(layer(norm(x)))) + b."""

    def __init__(self, layer: nn.Module, d_model: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(d_model)
        self.layer = layer
        self.mix = nn.Linear(d_model, 2 * d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        z = self.layer(self.norm(x.flatten(0, 1)).view(x.shape))
        z = self.dropout(gelu(z)).flatten(0, 1)
        # Channels first, so that each half is contiguous; with them last, glu takes twice as long.
        value, gate = torch.addmm(self.mix.bias[:, None], self.mix.weight, z.mT).chunk(2)
        return x + self.dropout((value * gate.sigmoid()).mT.view(x.shape))
