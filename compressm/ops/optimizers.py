"""The optimizers behind what a caller passes: one, several, or a wrapper around another."""

from __future__ import annotations

import gc
import inspect
import warnings
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from compressm.errors import OptionError

__all__ = [
    "built_state",
    "given_optimizers",
    "load_state_",
    "optimizers_of",
    "refuse_forgotten",
    "require_optimizers",
    "states_of_others",
]

LBFGS = "use another optimizer, or compress_(model, policy) and build a new LBFGS"


def optimizers_of(optimizer: Any) -> list[Any]:
    """Every optimizer that may hold state of a parameter, wrapped ones included.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer, sequence of these, or None

    Returns
    -------
    list
        Empty for None.

    Raises
    ------
    OptionError
        If something is no optimizer.
    """
    found: list[Any] = []
    ahead = given_optimizers(optimizer)
    while ahead:
        one = ahead.pop(0)
        if not any(one is x for x in found):
            found.append(one)
            ahead = _wrapped(one) + ahead
    return found


def given_optimizers(optimizer: Any) -> list[Any]:
    """The optimizers that a caller passes, without what they wrap; as `optimizers_of`."""
    several = optimizer if isinstance(optimizer, (list, tuple)) else [optimizer]
    given = [x for x in several if x is not None]
    for one in given:
        if not _is_optimizer(one):
            raise OptionError(
                f"optimizer must be a torch.optim.Optimizer, or a list of them, got {one!r}"
            )
    return given


def _wrapped(optimizer: Any) -> list[Any]:
    """What SAM, Lookahead, accelerate, ... hold, each under a name of its own."""
    held = (
        x if isinstance(x, (list, tuple)) else [x]
        for x in getattr(optimizer, "__dict__", {}).values()
    )
    return [x for several in held for x in several if _is_optimizer(x)]


def _is_optimizer(x: object) -> bool:
    return isinstance(getattr(x, "state", None), Mapping) and hasattr(x, "param_groups")


def require_optimizers(optimizer: Any, parameters: Iterable[tuple[str, nn.Parameter]]) -> None:
    """OptionError unless a cut of these parameters can be followed.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer, sequence of these, or None
        None is right where nothing trains the parameters.
    parameters : iterable of (str, Parameter)
        Those of the layers, by name. Frozen ones need no optimizer.

    Raises
    ------
    OptionError
        If something is no optimizer, keeps one history for all parameters (LBFGS), is sharded, or
        if no optimizer holds one of the parameters.
    """
    optimizers = optimizers_of(optimizer)
    if any(isinstance(x, torch.optim.LBFGS) for x in optimizers):
        raise OptionError(
            "LBFGS keeps one history for all parameters together, which no longer fits after a "
            f"cut; {LBFGS}"
        )
    sharded = [x for x in optimizers if hasattr(x, "consolidate_state_dict")]
    if sharded:
        raise OptionError(
            f"{type(sharded[0]).__name__} divides its state, and buckets of parameters, among "
            "processes by the shapes before a cut; use the one inside it, or compress_(model, "
            "policy) and build a new one"
        )
    held = {id(p) for x in optimizers for group in x.param_groups for p in group["params"]}
    lost = [name for name, p in parameters if p.requires_grad and id(p) not in held]
    if optimizers and lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise OptionError(
            f"no optimizer that was given holds {lost[0]}{more}: after a cut the one that does "
            "would fail; pass all of them as a list, and those of this model"
        )


def refuse_forgotten(
    parameters: Iterable[tuple[str, nn.Parameter]], optimizer: Any, idle: Mapping[Any, Any]
) -> None:
    """OptionError if an optimizer that was not given has state of one of these parameters.

    Parameters
    ----------
    parameters : iterable of (str, Parameter)
        By name.
    optimizer : torch.optim.Optimizer, sequence of these, or None
        What was given.
    idle : mapping
        What `states_of_others` was earlier: those whose state has not changed since do not count.
    """
    parameters = list(parameters)
    if states_of_others(parameters, optimizer).items() <= idle.items():
        return
    gc.collect()  # one that nobody can step any more may still be in memory
    for which, state in states_of_others(parameters, optimizer).items():
        if idle.get(which) != state:
            _, kind, name = which
            remedy = (
                LBFGS
                if kind == "LBFGS"
                else ("pass it, as in Compressor(model, optimizer, ...), with all others as a list")
            )
            raise OptionError(
                f"{kind} holds state of {name} that no longer fits after a cut, and was not given: "
                f"{remedy}"
            )


def states_of_others(
    parameters: Iterable[tuple[str, nn.Parameter]], optimizer: Any
) -> dict[tuple[int, str, str], tuple[Any, ...]]:
    """What tells whether optimizers of this process that were not given train these parameters.

    Parameters
    ----------
    parameters : iterable of (str, Parameter)
        By name.
    optimizer : torch.optim.Optimizer, sequence of these, or None
        What was given.

    Returns
    -------
    dict
        From an optimizer and a parameter to the versions of the state, which every step increases.
    """
    parameters = list(parameters)
    known = [x.state for x in optimizers_of(optimizer)]
    alive = [x for x in gc.get_objects() if issubclass(type(x), torch.optim.Optimizer)]
    found = {}
    for other in alive:
        if not _is_optimizer(other) or any(other.state is state for state in known):
            continue  # its construction failed, or a wrapper of one that was given
        for name, parameter in parameters:
            state = _state_of(other, parameter)
            if state:
                values = state.values() if isinstance(state, Mapping) else [state]
                found[id(other), type(other).__name__, name] = tuple(map(_version, values))
    return found


def _state_of(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> Any:
    if isinstance(optimizer, torch.optim.LBFGS):  # under its first parameter, of all of them
        held = (p for group in optimizer.param_groups for p in group["params"])
        return next(iter(optimizer.state.values()), {}) if any(p is parameter for p in held) else {}
    return optimizer.state.get(parameter, {})


def _version(value: Any) -> Any:
    return value._version if isinstance(value, torch.Tensor) else str(value)[:80]


def built_state(optimizer: Any, parameter: nn.Parameter, data: torch.Tensor) -> Any:
    """The state of a new parameter of value `data`, if an optimizer builds it in ``__init__``.

    It is what an optimizer of the same class and options builds for that parameter alone. Empty
    where it is built in the first step instead, or the class takes more than is known of it.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
    parameter : nn.Parameter
        Its options are those of the group that holds it.
    data : Tensor
    """
    held = [x for x in optimizer.param_groups if any(p is parameter for p in x["params"])]
    if not held:
        return {}
    new = nn.Parameter(data.detach().clone(), parameter.requires_grad)
    try:
        taken = inspect.signature(type(optimizer)).parameters.keys() - {"params"}
        with torch.random.fork_rng(devices=[]):
            options = {name: held[0][name] for name in taken & held[0].keys()}
            fresh = type(optimizer)([new], **options)
        return fresh.state.get(new, {})
    except Exception:  # whatever the code of that class raises
        return {}


def load_state_(
    optimizer: Any, state_dict: Mapping[str, Any], recast: Collection[nn.Parameter] = ()
) -> None:
    """``optimizer.load_state_dict(state_dict)``, and each tensor keeps the dtype that it has there.

    Torch gives it that of the parameter: it would round master weights, and moments in single
    precision of parameters in half precision.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
    state_dict : mapping
        What its ``state_dict()`` returned.
    recast : collection of nn.Parameter, optional
        Those whose dtype is no longer the one of `state_dict`: their state gets the new one.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Casting complex")  # what is undone below
        optimizer.load_state_dict(state_dict)
    saved, groups = state_dict.get("state"), state_dict.get("param_groups")
    if not isinstance(saved, Mapping) or groups is None:
        return  # of a form of its own
    keys = (key for group in groups for key in group["params"])
    parameters = (p for group in optimizer.param_groups for p in group["params"])
    changed = set(map(id, recast))
    for key, parameter in zip(keys, parameters, strict=True):
        if key in saved and parameter in optimizer.state and id(parameter) not in changed:
            optimizer.state[parameter] = _uncast(optimizer.state[parameter], saved[key])


def _uncast(value: Any, saved: Any) -> Any:
    """`value` with the tensors of `saved`, on the devices of its own, where their dtypes differ."""
    if isinstance(value, torch.Tensor) and isinstance(saved, torch.Tensor):
        return value if value.dtype == saved.dtype else saved.to(value.device, copy=True)
    if isinstance(value, dict) and isinstance(saved, Mapping):
        # a fused optimizer needs its steps in single precision
        return {k: x if k == "step" else _uncast(x, saved.get(k)) for k, x in value.items()}
    if type(value) in (list, tuple) and type(saved) is type(value):
        return type(value)(map(_uncast, value, saved))
    return value
