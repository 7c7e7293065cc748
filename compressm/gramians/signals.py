"""The observed signals of a layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import Any

from torch import Tensor

__all__ = ["Call", "Signal", "tensors_in"]


@dataclass(frozen=True, eq=False)
class Call:
    """layer(u, *args, **options), u as the layer is given it."""

    u: Tensor
    args: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Signal:
    """Input of a layer in one forward pass, and the gradient at its output.

    Parameters
    ----------
    u : Tensor (batch, length, d_model)
        Its input.
    g : Tensor (batch, length, d_model), optional
        The gradient at its output.
    given : Tensor, optional
        The first sequence as the layer was given it, where that is of another form than `u`.
    padding : mapping, optional
        What the model was told of padding in `u`; see `without_padding`.
    state : tuple of Tensor, optional
        The state that the pass began with, as the layer was given it; zero if empty.
    call : Call, optional
        The whole pass, where it is the first one of the layer, had more arguments than the input,
        and no state among them.
    """

    u: Tensor
    g: Tensor | None = None
    given: Tensor | None = None
    padding: Any = None
    state: tuple[Tensor, ...] = ()
    call: Call | None = None

    @property
    def from_zero(self) -> bool:
        """Whether the pass began with the zero state, so that `u` alone drives the states."""
        return not any(bool(x.any()) for x in self.state)

    @property
    def example(self) -> Tensor:
        """One sequence that the layer can be called with."""
        return self.u[:1] if self.given is None else self.given


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors of a value that may be nested in mappings, dataclasses, lists and tuples.

    Parameters
    ----------
    value : object
    """
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from tensors_in(list(value.values()))
    elif is_dataclass(value) and not isinstance(value, type):
        yield from tensors_in(vars(value))
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from tensors_in(part)
