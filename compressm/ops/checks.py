"""What every layer and scan asks of its input."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import lti
from compressm.errors import OptionError
from compressm.ops.precision import in_autocast

__all__ = ["as_number", "require_number", "require_sequence", "require_state", "require_step"]


def as_number(value: Any) -> float:
    """The number that a metric returned, perhaps as a tensor or an array of one element."""
    try:
        return float("" if isinstance(value, (str, bytes)) else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise OptionError(f"metric must return a number, got {value!r:.60}") from error


def require_number(name: str, value: Any) -> None:
    """OptionError unless `value` is a number, perhaps as a tensor."""
    try:
        float("" if isinstance(value, (str, bytes)) else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise OptionError(f"{name} must be a number, got {value!r:.60}") from error


def require_sequence(u: Any, width: int, like: Tensor, *, cast: bool = True) -> None:
    """`lti.DimensionError` unless `u` is (batch, length, width), real, of at least one step.

    Parameters
    ----------
    u : Any
    width : int
    like : Tensor
        A parameter, on the device where `u` must be.
    cast : bool, optional
        Whether `u` may be in another precision than `like`.
    """
    shape = _shape(u, "u")
    if len(shape) != 3 or shape[1] == 0 or shape[2] != width:
        raise lti.DimensionError(
            f"u must be (batch, length, {width}) with a length of at least 1, got shape {shape}"
        )
    _require_numbers(u, like, cast)


def require_step(u: Any, width: int, like: Tensor, *, cast: bool = True) -> None:
    """`lti.DimensionError` unless `u` is (batch, width), real: one time step.

    Parameters
    ----------
    u, width, like, cast
        As in `require_sequence`.
    """
    shape = _shape(u, "u")
    if len(shape) != 2 or shape[1] != width:
        raise lti.DimensionError(f"u must be one time step (batch, {width}), got shape {shape}")
    _require_numbers(u, like, cast)


def require_state(state: Any, like: Tensor, *, cast: bool = False, **axes: int) -> None:
    """`lti.DimensionError` unless a state has these axes, by their names.

    Parameters
    ----------
    state : Any
    like : Tensor
        A state, for its dtype and device.
    cast : bool, optional
        Whether it may be in another precision.
    **axes : int
    """
    shape = tuple(axes.values())
    if _shape(state, "the state") != shape:
        raise lti.DimensionError(
            f"the state must be ({', '.join(axes)}) = {shape}, got shape {tuple(state.shape)}; "
            "pass what step returned for this batch"
        )
    castable = cast and state.is_floating_point() and like.is_floating_point()
    if state.device != like.device or (state.dtype != like.dtype and not castable):
        raise lti.DimensionError(
            f"the state must be {like.dtype} on {like.device}, got {state.dtype} on "
            f"{state.device}; pass what step or initial_state returned"
        )


def _shape(x: Any, name: str) -> tuple[int, ...]:
    if not isinstance(x, Tensor):
        raise lti.DimensionError(f"{name} must be a tensor, got a {type(x).__name__}")
    return tuple(x.shape)


def _require_numbers(u: Tensor, like: Tensor, cast: bool) -> None:
    if u.device != like.device:
        raise lti.DimensionError(
            f"u is on {u.device}, but the parameters are on {like.device}; move one of them"
        )
    if not u.is_floating_point():
        raise lti.DimensionError(f"u must hold real floating-point numbers, got {u.dtype}")
    cast = cast or (in_autocast(u) and torch.float64 not in (u.dtype, like.dtype))
    if u.dtype != like.dtype and not cast:
        raise lti.DimensionError(
            f"u is {u.dtype}, but the parameters are {like.dtype}; cast u, or use torch.autocast"
        )
