"""Operations on tensors of torch: without derivatives, on the host, Cholesky."""

from __future__ import annotations

from typing import Any

import array_api_compat.torch as xp  # noqa: F401, the namespace of tensors
import torch
from torch import Tensor
from torch.autograd import forward_ad

from lti.errors import DerivativeError, DimensionError

FUNCTORCH = getattr(torch._C, "_functorch")  # noqa: B009, pyright knows it not


def tracked(*tensors: Any) -> bool:
    """Whether a derivative of any of these is asked for; `DerivativeError` if in forward mode."""
    if not torch.compiler.is_compiling() and any(_has_tangent(x) for x in tensors):
        raise DerivativeError(
            "derivatives in forward mode (torch.func.jvp, jacfwd) are not supported; take them "
            "backwards, by torch.func.jacrev or .backward()"
        )
    return torch.is_grad_enabled() and any(
        isinstance(x, Tensor) and x.requires_grad for x in tensors
    )


def _has_tangent(x: Any) -> bool:
    return isinstance(x, Tensor) and forward_ad.unpack_dual(x).tangent is not None


def require_plain_storage(name: str, x: Tensor) -> None:
    """`DimensionError` unless the tensor has numbers, at hand, one for each entry."""
    if x.is_nested:
        kind, advice = "nested", "pass one system at a time, or a padded batch"
    elif x.layout is not torch.strided:
        kind, advice = "sparse", "pass .to_dense()"
    elif x.is_meta:
        kind, advice = "on the meta device and has no numbers", "load its values first"
    elif FUNCTORCH.is_batchedtensor(x):
        kind, advice = "mapped by torch.vmap", "pass the batch itself, (..., n, n), without vmap"
    else:
        return
    raise DimensionError(f"{name} is {kind}; {advice}")


def plain(x: Tensor) -> Tensor:
    """The tensor without derivatives, also under `torch.func`."""
    if torch.compiler.is_compiling():
        return x.detach()
    x = x.detach()
    while FUNCTORCH.is_gradtrackingtensor(x):
        x = FUNCTORCH.get_unwrapped(x)
    return x


def host(x: Tensor) -> Any:
    """The tensor as a NumPy array on the host."""
    x = plain(x)
    with torch._C._DisableFuncTorch():
        return x.cpu().resolve_conj().resolve_neg().numpy()


def attach(value: Tensor, slope: Tensor) -> Tensor:
    """The value of one expression with the derivative of another, which equals it."""
    return value.detach() + (slope - slope.detach())


def cholesky(x: Tensor) -> tuple[Tensor, Tensor]:
    """`arrays.cholesky` for tensors."""
    L, info = torch.linalg.cholesky_ex(x)
    identity = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    inverse = torch.linalg.solve_triangular(L, identity, upper=False)
    size = inverse.abs().square().sum((-2, -1))
    return L, torch.where((info == 0) & size.isfinite(), size, torch.inf)
