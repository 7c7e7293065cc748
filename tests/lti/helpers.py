"""Small steps that several test files share."""

from dataclasses import replace


def claiming(reduction, **changes):
    """The reduction with other bounds."""
    return replace(reduction, claim=replace(reduction.claim, **changes))
