"""A residual sequence model around a state-space layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, glu

import lti
from compressm.errors import OptionError
from compressm.layers import DSS, LRU, LSSL, S4, S4D, S5, Mamba
from compressm.ops.checks import require_sequence, require_state, require_step
from compressm.ops.scan import steps_within

__all__ = ["LAYERS", "SequenceModel"]

State = tuple[Any, ...]

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
        Channels of the output.
    d_model : int
        Channels between the blocks.
    d_state : int
        Initial `d_state` of each layer.
    n_layers : int
        Number of blocks.
    layer : str or subclass of nn.Module, optional
        A name in `LAYERS`, or a class such as those: ``layer(d_model, d_state, **options)``.
    dropout : float, optional
        Dropout probability, after the layer and after the block.
    pool : {"mean", "last", "none"}, optional
        Average over time, take the last step, or give an output at each step.
    **options
        Arguments of the layer, such as ``r_min`` of an `LRU`.

    Raises
    ------
    ValueError
        If the layer or the pooling is unknown, or `dropout` is not a probability.

    Examples
    --------
    >>> import torch
    >>> from compressm import SequenceModel
    >>> model = SequenceModel(d_input=1, d_output=10, d_model=8, d_state=32, n_layers=2)
    >>> model(torch.zeros(5, 784, 1)).shape
    torch.Size([5, 10])
    """

    blocks: Any  # nn.Sequential, whose items have no type of their own

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
                raise OptionError(f"there is no layer {layer!r}; choose from {', '.join(LAYERS)}")
            layer = LAYERS[layer]
        if pool not in ("mean", "last", "none"):
            raise OptionError(f"there is no pooling {pool!r}; choose from mean, last, none")
        self.pool = pool
        self.encoder = nn.Linear(d_input, d_model)
        self.blocks = nn.Sequential(
            *(_Block(layer(d_model, d_state, **options), d_model, dropout) for _ in range(n_layers))
        )
        self.head = nn.Linear(d_model, d_output)

    def forward(self, u: Tensor, lengths: Tensor | None = None) -> Tensor:
        """`u` (batch, length, d_input) -> (batch, d_output); (batch, length, d_output) unpooled.

        Parameters
        ----------
        u : Tensor (batch, length, d_input)
        lengths : Tensor (batch,), optional
            Valid steps of each sequence, integers from 1 to length; all of them when absent.
            Later steps are padding: averages and bidirectional layers ignore them, and an output
            at each step is zero there.

        Returns
        -------
        Tensor (batch, d_output) or (batch, length, d_output)

        Raises
        ------
        lti.DimensionError
            If `lengths` does not hold one number for each sequence.
        lti.OptionError
            If it holds anything but integers from 1 to length.
        """
        self._require(require_sequence, u)
        within = None if lengths is None else steps_within(lengths, u, least=1)
        x = self.encoder(u)
        for block in self.blocks:
            x = block(x, within)
        if within is not None:
            x = x.masked_fill(~within, 0)
        ends = x.shape[1] if lengths is None else lengths.unsqueeze(1)
        if self.pool == "mean":
            x = x.sum(1) / ends  # not mean: its gradient is written out for every step
        elif self.pool == "last":
            each = slice(None) if lengths is None else torch.arange(len(x), device=x.device)
            x = x[each, -1 if lengths is None else lengths - 1]
        y = self.head(x)
        return y if within is None or self.pool != "none" else y.masked_fill(~within, 0)

    def step(self, u: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """One time step: what `forward` makes of the sequence up to here, and the next state.

        Without pooling, and with "last", it is the output at this step; with "mean", the average
        so far is pooled. The model must be in evaluation mode.

        Parameters
        ----------
        u : Tensor (batch, d_input)
        state : tuple, optional
            What the step before returned; `initial_state` when absent.

        Returns
        -------
        y : Tensor (batch, d_output)
        state : tuple

        Raises
        ------
        OptionError
            In training mode, where an output depends on the whole batch; if a layer is
            bidirectional or has no `step`.
        """
        if self.training:
            raise OptionError(
                "in training mode an output depends on the whole batch, so that there is no step; "
                "call model.eval() first"
            )
        self._require(require_step, u)
        if state is None:
            state = self.initial_state(u.shape[0])
        parts = len(self.blocks) + (self.pool == "mean")
        if not isinstance(state, tuple | list) or len(state) != parts:
            raise lti.DimensionError(
                f"the state of this model is a tuple of {parts}, got {_described(state)}; pass "
                "what step returned for this batch"
            )
        if self.pool == "mean":
            total, steps = self._pooled(state[-1], u.shape[0])
        x, states = self.encoder(u), []
        for block, before in zip(self.blocks, state[: len(self.blocks)], strict=True):
            x, after = block.step(x, before)
            states.append(after)
        if self.pool == "mean":
            x, steps = total + x, steps + 1
            states.append((x, steps))
            x = x / steps
        return self.head(x), tuple(states)

    def _pooled(self, part: Any, batch: int) -> tuple[Tensor, Tensor]:
        """What "mean" has added up, and how many steps."""
        if not isinstance(part, tuple | list) or len(part) != 2:
            raise lti.DimensionError(
                f"the state of this model ends with a sum and a number of steps, got "
                f"{_described(part)}; pass what step returned for this batch"
            )
        weight = self.head.weight
        require_state(part[0], weight, cast=True, batch=batch, d_model=weight.shape[1])
        require_state(part[1], weight, cast=True, batch=batch, one=1)
        return part[0], part[1]

    def initial_state(self, batch: int) -> State:
        """The state before the first step: that of each layer, and what "mean" has added up.

        Parameters
        ----------
        batch : int

        Returns
        -------
        tuple
            Nested, of tensors whose first axis is the batch.
        """
        for block in self.blocks:
            if not hasattr(block.layer, "step") or not hasattr(block.layer, "initial_state"):
                raise OptionError(
                    f"{type(block.layer).__name__} has no step to stream with; give it "
                    "step(u, state) and initial_state(batch)"
                )
        states = [block.layer.initial_state(batch) for block in self.blocks]
        if self.pool == "mean":
            weight = self.head.weight
            states.append((weight.new_zeros(batch, weight.shape[1]), weight.new_zeros(batch, 1)))
        return tuple(states)

    def _require(self, shape: Callable[..., None], u: Any) -> None:
        if isinstance(self.encoder, nn.Linear):  # one's own encoder may take anything
            shape(u, self.encoder.in_features, self.encoder.weight, cast=False)


class _Block(nn.Module):
    """x + drop(value * sigmoid(gate)),  value, gate = W drop(gelu(layer(norm(x)))) + b."""

    layer: Any

    def __init__(self, layer: nn.Module, d_model: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(d_model)
        self.layer = layer
        self.mix = nn.Linear(d_model, 2 * d_model)
        self.dropout = _Dropout(dropout)

    def forward(self, x: Tensor, within: Tensor | None = None) -> Tensor:
        # Channels first, so that each half is contiguous: glu is far slower with them last.
        z = self.layer(self._normed(x, within)).mT.contiguous()
        z = self.dropout(gelu(z))
        W = self.mix.weight.expand(z.shape[0], -1, -1)
        return x + self.dropout(glu(torch.baddbmm(self.mix.bias[:, None], W, z), 1)).mT

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        z, state = self.layer.step(self.norm(x), state)
        return x + glu(self.mix(gelu(z)), 1), state

    def _normed(self, x: Tensor, within: Tensor | None) -> Tensor:
        """Batch normalisation over the valid steps; zero at the steps of padding."""
        if within is None:
            return self.norm(x.flatten(0, 1)).view(x.shape)
        steps = within.squeeze(2)
        normed = self.norm(x[steps])
        return normed.new_zeros(x.shape).index_put((steps,), normed)


def _described(state: Any) -> str:
    return f"{len(state)} parts" if isinstance(state, tuple | list) else type(state).__name__


class _Dropout(nn.Dropout):
    """x * keep / P(keep): on a CPU four entries of `keep` from each random number, not one.

    P(keep) is rounded to a multiple of 2**-16; the division is by the rounded value.
    """

    def forward(self, input: Tensor) -> Tensor:
        n, dropped = input.numel(), round(self.p * 2**16)
        if not (self.training and 0 < dropped < 2**16) or input.device.type != "cpu":
            return super().forward(input)
        draws = torch.randint(-(2**63), 2**63 - 1, (-(-n // 4),), device="cpu")
        keep = draws.view(torch.int16)[:n].view(input.shape) >= dropped - 2**15
        return input * keep.to(input.dtype).mul_(2**16 / (2**16 - dropped))
