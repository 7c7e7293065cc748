"""What steps have in common is computed once, as long as the parameters stay what they are."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from compressm.ops.exporting import transformed
from compressm.ops.precision import without_autocast

__all__ = ["Kept"]


class Kept:
    """The constants of a layer, computed again when a value that they depend on has changed.

    Values are compared, not version numbers, which a write through ``.data`` does not change; the
    host waits for an accelerator to do so. Where constants need derivatives, and where they are
    traced or captured, they are computed each time. A copy of the layer starts without any.
    """

    def __init__(self) -> None:
        self._last: tuple[list[Tensor], tuple[Tensor, ...]] | None = None

    def __call__(
        self, layer: nn.Module, compute: Callable[[], tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        """What `compute` returns for the parameters and buffers of `layer`."""
        now = [*layer.parameters(), *layer.buffers()]
        with without_autocast(now[0]):
            if not _plain(now):
                self._last = None
                return compute()
            last = self._last  # read once: threads may share a layer
            if last is None or not all(map(_equal, last[0], now)):
                with torch.inference_mode(False), torch.no_grad():  # for later steps as well
                    self._last = last = [x.detach().clone() for x in now], compute()
            return last[1]

    def __deepcopy__(self, memo: object) -> Kept:
        return Kept()

    def __reduce__(self) -> tuple[type[Kept], tuple[()]]:
        return Kept, ()


def _plain(now: list[Tensor]) -> bool:
    """Whether the values can be read here, and nothing has to be known of how they came about."""
    return not (
        (torch.is_grad_enabled() and any(x.requires_grad for x in now))
        or torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or transformed()
        or any(type(x) not in (Tensor, nn.Parameter) for x in now)
        or (now[0].is_cuda and torch.cuda.is_current_stream_capturing())
    )


def _equal(x: Tensor, y: Tensor) -> bool:
    return x.dtype == y.dtype and x.device == y.device and torch.equal(x, y)
