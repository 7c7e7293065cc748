"""A layer run forward before and after a cut: it must still run, and change as its system does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from compressm import layers
from compressm.errors import SkipError
from compressm.gramians.signals import Call
from compressm.ops.copies import copied, in_single
from compressm.ops.precision import HALF

__all__ = ["ForwardPass", "forward_pass", "refuse_broken", "without_hooks"]

OURS = tuple(getattr(layers, name) for name in layers.__all__)
# By how much a change of the output may differ from the expected one,
LIKE = 0.1  # relative to that one,
NOISE = 5e-3  # to the output of the system, for lower precision inside of a layer,
EPS = 1e-5  # to the output of the layer

Changes: TypeAlias = Callable[[Tensor], "tuple[slice, list[tuple[Tensor, Tensor]]] | None"]
"""From an input: times, and outputs (batch, times, width) before and after, any of which may be."""


class ForwardPass(NamedTuple):
    """A call of a layer, and its output."""

    call: Call
    y: Tensor


def forward_pass(layer: nn.Module, calls: Iterable[Call]) -> ForwardPass | None:
    """The first of the calls that the layer runs forward on.

    None if there is none, as nothing can be said then, and for the layers of this library.
    """
    for call in () if type(layer) in OURS else calls:
        try:
            return ForwardPass(call, _output(layer, call))
        except Exception:  # whatever its code raises: it needs more than its input
            continue
    return None


def refuse_broken(before: ForwardPass | None, trial: nn.Module, changes: Changes) -> None:
    """SkipError unless a cut copy of the layer runs forward, and its output changes as expected.

    It may read its size from where nobody can write it, such as a configuration that layers share.
    And it may compute more than its parameters say, or other things, such as a norm of its input:
    then scores, bound and output error would be those of another layer. What is the same before and
    after the cut does not matter, such as a feed-through or a bias.

    Parameters
    ----------
    before : ForwardPass or None
        Of the layer as it is.
    trial : nn.Module
        A copy that is cut.
    changes : callable
        The outputs by its parameters; None if they do not tell them.
    """
    if before is None:
        return
    call, y = before
    try:
        after = _output(trial, call)
        broken = "" if after.shape == y.shape else "its output has another shape"
    except Exception as error:  # whatever the code of that package raises
        after, broken = y, f"{type(error).__name__}: {error}".splitlines()[0]
    if broken:
        raise SkipError(f"it would not run forward after the cut ({broken})")
    if (known := changes(call.u)) is None:
        return
    times, outputs = known
    if y.ndim != 3 or y[:, times].shape != outputs[0][0].shape:
        raise SkipError(
            f"its output has the shape {tuple(y.shape)}, where its parameters say "
            f"{(*call.u.shape[:2], outputs[0][0].shape[2])}: {OTHER}"
        )
    y, found = y[:, times].double(), (after - y)[:, times].double()
    norm = torch.linalg.vector_norm
    if not any(
        norm(found - (x_r - x)) <= LIKE * norm(x_r - x) + NOISE * norm(x) + EPS * norm(y)
        for x, x_r in outputs
    ):
        (x, x_r), *_ = outputs
        by = [float(norm(gap) / norm(x)) for gap in (found, x_r - x, found - (x_r - x))]
        raise SkipError(
            f"this cut would change its output by {by[0]:.1%} of that of the system, where its "
            f"parameters say {by[1]:.1%} (the difference is {by[2]:.1%}): {OTHER}"
        )


OTHER = (
    "it computes something else than the names of its parameters say, or more, such as a norm of "
    "its input; put what comes before and after the system into modules of their own"
)


@torch.no_grad()
def _output(layer: nn.Module, call: Call) -> Tensor:
    """What a copy of the layer, without its hooks, gives out, in single precision at least."""
    layer = in_single(without_hooks(layer)).eval()
    device = next((p.device for p in layer.parameters()), call.u.device)

    def moved(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.to(device, torch.float32 if value.dtype in HALF else value.dtype)

    for part in layer.modules():
        if isinstance(state := vars(part).get("state"), Tensor):  # left over from another sequence
            part.state = torch.zeros_like(state)
    with torch.random.fork_rng(devices=[]):
        options = {name: moved(value) for name, value in call.options.items()}
        y = layer(moved(call.u), *map(moved, call.args), **options)
    return y[0] if isinstance(y, tuple) else y


def without_hooks(layer: nn.Module) -> nn.Module:
    """A copy of the layer that nobody observes."""
    layer = copied(layer)
    for part in layer.modules():
        part._forward_hooks.clear()
        part._forward_pre_hooks.clear()
    return layer
