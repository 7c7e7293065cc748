"""Old names of keyword arguments, which stay as aliases of the new ones."""

from __future__ import annotations

from functools import wraps
from operator import attrgetter
from typing import Any

from lti.errors import OptionError

__all__ = ["renamed"]


def renamed(**names: str) -> Any:
    """f(..., old=x) <- f(..., new=x) for a function, or for a class and its attributes.

    Parameters
    ----------
    **names
        ``old="new"``.
    """

    def aliased(function: Any) -> Any:
        @wraps(function)
        def call(*args: Any, **given: Any) -> Any:
            for old in names.keys() & given.keys():
                new, value = names[old], given.pop(old)
                if new in given:
                    raise OptionError(f"{old} is the old name of {new}; give {new} alone")
                given[new] = value
            return function(*args, **given)

        return call

    def decorate(item: Any) -> Any:
        if not isinstance(item, type):
            return aliased(item)
        item.__init__ = aliased(item.__init__)
        for old, new in names.items():
            setattr(item, old, property(attrgetter(new), doc=f"The old name of `{new}`."))
        return item

    return decorate
