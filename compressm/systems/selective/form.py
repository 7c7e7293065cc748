"""Forms of selective layers: parameters, shapes, and where their states are in them.

What drives and reads a state depends on the input, so there is no system to balance; but any states
can be removed. The channels of a group share B and C, or keys and queries, so the same states are
removed in all of them; each group keeps its own, all the same number.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn.functional import conv1d, pad, silu

from compressm.errors import UnsupportedLayerError
from compressm.ops.resize import tensors_of
from compressm.systems.selective.recurrence import Recurrence, Scan

__all__ = [
    "COUNTS",
    "FORMS",
    "SelectiveForm",
    "causal_convolution",
    "first_attribute",
    "form_of",
    "is_selective",
    "own_names",
    "register_form",
    "require_form",
    "state_count",
]

# Names of the number of states in layers and their configurations
COUNTS = ("state_size", "ssm_state_size", "d_state", "mamba_d_state")


class SelectiveForm(ABC):
    """A form of selective layers: parameter names, shapes, coefficients; see `register_form`.

    Parameters
    ----------
    module : nn.Module
        A layer with all tensors of `needed`, and no others but the `optional` ones.

    Attributes
    ----------
    needed, optional : frozenset of str
        Dotted names of its parameters and buffers.
    axes : dict of str to int
        Number of axes of a tensor, where it distinguishes forms with equal names.
    recurrence : Recurrence
        What the states obey.
    config_names : tuple of str
        How configurations name the number of states.
    n_states : int
        N, the number of states of each channel.
    groups : int
        Number of groups of channels, each of which keeps states of its own.
    """

    needed: ClassVar[frozenset[str]]
    optional: ClassVar[frozenset[str]] = frozenset()
    axes: ClassVar[Mapping[str, int]] = {}
    recurrence: ClassVar[Recurrence] = Scan()
    config_names: ClassVar[tuple[str, ...]] = COUNTS
    groups: int = 1
    module: Any
    n_states: int

    @abstractmethod
    def __init__(self, module: Any) -> None: ...

    @abstractmethod
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shapes that the tensors must have together, by their names."""

    @abstractmethod
    def coefficients(self, u: Tensor) -> tuple[Tensor, ...]:
        """The coefficients of its recurrence for `u` (batch, length, d_model), of any dtype."""

    @abstractmethod
    def tail(self, y: Tensor, x: Tensor, z: Tensor) -> Tensor:
        """The output of the layer from `y`, that of the recurrence, and from `x` and `z`."""

    @abstractmethod
    def places(self, kept: list[int]) -> dict[str, tuple[int, list[int]]]:
        """For each tensor with states: the axis, and the indices on it of the `kept` states.

        State i of group g is ``g N + i`` in `kept`, which goes through the groups in turn, with as
        many of each.
        """

    @abstractmethod
    def counts(self, n: int) -> dict[str, int]:
        """Values of the attributes that depend on the number `n` of states, by dotted name."""

    def refusal(self) -> str | None:
        """What a layer of these names and shapes does that this form does not; or None."""
        return None

    def readout(self) -> tuple[str, list[int]] | None:
        """The tensor, and its rows, that give C linearly: ``C[t] = rows x[t]``; or None."""
        return None

    @classmethod
    def of(cls, module: nn.Module) -> SelectiveForm | None:
        """`module` in this form, or None if it is not of this form."""
        if not {name.partition(".")[0] for name in cls.needed} <= own_names(module):
            return None  # a cheap test before all tensors are listed
        tensors = tensors_of(module)
        if not cls.needed <= tensors.keys() <= cls.needed | cls.optional:
            return None
        if any(tensors[name].ndim != count for name, count in cls.axes.items()):
            return None
        form = cls(module)
        fits = all(tensors[name].shape == shape for name, shape in form.shapes().items())
        return form if fits and form.n_states > 0 and form.refusal() is None else None


FORMS: list[type[SelectiveForm]] = []
"""The known forms, of which the first that fits is taken; see `register_form`."""


def register_form(form: type[SelectiveForm]) -> type[SelectiveForm]:
    """Add a form of selective layers to the known ones; also as a decorator.

    Parameters
    ----------
    form : subclass of SelectiveForm

    Returns
    -------
    type
        The argument.
    """
    FORMS.append(form)
    return form


def form_of(module: nn.Module) -> SelectiveForm | None:
    """The module in the first form that fits, or None if it is no selective layer."""
    return next((found for form in FORMS if (found := form.of(module)) is not None), None)


def require_form(module: nn.Module) -> SelectiveForm:
    """`form_of` a module; `UnsupportedLayerError` if there is none."""
    form = form_of(module)
    if form is None:
        known = " or ".join(form.__name__ for form in FORMS)
        raise UnsupportedLayerError(
            f"{type(module).__qualname__} is no selective layer that compressm knows; it takes a "
            f"layer with the parameters of {known}, by name and shape"
        )
    return form


def is_selective(module: nn.Module) -> bool:
    """Whether a module is a selective layer, by the names and shapes of its parameters."""
    return form_of(module) is not None


def own_names(module: nn.Module) -> set[str]:
    """The names of its parameters, buffers and submodules; a scripted module lists them."""
    held = (module._parameters, module._buffers, module._modules)
    return {name for part in held for name in part.keys()}  # noqa: SIM118


def state_count(module: nn.Module) -> int:
    """N, the number of states of each channel of a selective layer."""
    return require_form(module).n_states


def causal_convolution(conv: Any, x: Tensor, act: Any = silu) -> Tensor:
    """`x` (batch, length, channels), each channel through its causal filter and the activation."""
    weight = conv.weight
    x = conv1d(pad(x.mT, (weight.shape[-1] - 1, 0)), weight, conv.bias, groups=len(weight))
    return act(x).mT


def first_attribute(module: nn.Module, names: Iterable[str], default: Any) -> Any:
    """The attribute with the first of these names that the module has, or `default`."""
    return next((getattr(module, name) for name in names if hasattr(module, name)), default)
