"""The options of `balance`, stated once for every function that passes them on."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any, TypedDict, TypeVar

from lti.errors import OptionError
from lti.reduction.gramian_pair import FactorSource, GramianPair
from lti.systems.protocol import SystemLike
from lti.systems.statespace import StateSpace

__all__ = ["BalanceOptions", "with_options_of"]

Function = TypeVar("Function", bound=Callable[..., Any])


class BalanceOptions(TypedDict, total=False):
    """The keywords of `balance`, for editors and type checkers."""

    unstable: str
    alpha: float | None
    method: str
    input_weight: SystemLike | None
    output_weight: SystemLike | None
    weighting: str
    frequencies: Any
    times: Any
    controllability: FactorSource | None
    observability: FactorSource | None
    gramians: Callable[[StateSpace], GramianPair] | None


def with_options_of(source: Callable[..., Any]) -> Callable[[Function], Function]:
    """The decorated function has the keywords of `source` in place of ``**options``.

    They stand in its signature and in its documentation; an unknown one raises `OptionError`.
    """
    options = [p for p in inspect.signature(source).parameters.values() if p.kind is p.KEYWORD_ONLY]
    names = [option.name for option in options]
    described = re.search(
        rf"^{names[0]} : .*?(?=\n\nReturns)", inspect.getdoc(source) or "", re.S | re.M
    )

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        known = {p.name for p in own} | set(names)

        @functools.wraps(function)
        def call(*args: Any, **keywords: Any) -> Any:
            for name in keywords.keys() - known:
                raise OptionError(f"there is no option {name!r}; there are {', '.join(names)}")
            return function(*args, **keywords)

        vars(call)["__signature__"] = signature.replace(parameters=[*own, *options])
        if described:  # there are no docstrings under python -OO
            text = inspect.getdoc(function) or ""
            call.__doc__ = text.replace("**options\n    Those of `balance`.", described[0])
        return call  # type: ignore[return-value]

    return decorate
