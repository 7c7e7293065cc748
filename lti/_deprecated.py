"""Old names of keywords, which go on working for now."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from lti.errors import warn

Function = TypeVar("Function", bound=Callable[..., Any])


def renamed(**new_names: str) -> Callable[[Function], Function]:
    """The decorated function takes old keywords by their new names, with a `DeprecationWarning`."""

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def call(*args: Any, **keywords: Any) -> Any:
            for old in new_names.keys() & keywords.keys():
                new = new_names[old]
                warn(
                    f"{old}= is now called {new}=; write {new}={keywords[old]!r}",
                    DeprecationWarning,
                )
                keywords[new] = keywords.pop(old)
            return function(*args, **keywords)

        return call  # type: ignore[return-value]

    return decorate
