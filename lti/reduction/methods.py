"""The reduction methods by name: registered once, they are reachable everywhere."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar, runtime_checkable

from lti.errors import OptionError
from lti.hankel import OrderChoice
from lti.reduction.certificate import Reduction

__all__ = ["Method", "find_method", "method_names", "register_method"]


@runtime_checkable
class Method(Protocol):
    """A way to reduce a balanced system: a name, and `reduce`.

    `ReductionMethod` makes one from a function that gives a system of a certain order.
    """

    @property
    def name(self) -> str:
        """Lower case with hyphens, as in ``lti reduce --method``."""
        ...

    def reduce(self, balancing: Any, choice: OrderChoice) -> Reduction:
        """The reduced system, with its certificate, of a `Balancing` and the order asked for."""
        ...


AnyMethod = TypeVar("AnyMethod", bound=Method)
_METHODS: dict[str, Method] = {}


def register_method(method: AnyMethod) -> AnyMethod:
    """Make `method` known by its name to `Balancing.reduce` and to ``lti reduce --method``.

    Parameters
    ----------
    method : ReductionMethod, or any object with ``name`` and ``reduce(balancing, choice)``
        It takes the place of a method of the same name.

    Returns
    -------
    ReductionMethod or object
        The method itself.

    Raises
    ------
    OptionError
        If it has no name, or no way to reduce.

    Examples
    --------
    >>> import lti, numpy as np
    >>> def leading_states(balancing, order):
    ...     system, T, W = balancing.coordinates(order)
    ...     A, B, C = system.A[:order, :order], system.B[:order], system.C[:, :order]
    ...     return lti.StateSpace(A, B, C, system.D, system.dt), T[:, :order], W[:order]
    >>> method = lti.register_method(lti.ReductionMethod("leading-states", leading_states))
    >>> sys = lti.StateSpace(np.diag([-1.0, -2.0]), np.ones((2, 1)), np.ones((1, 2)))
    >>> lti.balance(sys).reduce("leading-states", order=1)
    Reduction: order 2 -> 1, H-infinity error: no bound known, verify() measures it
    """
    if not isinstance(method, Method) or not isinstance(method.name, str) or not method.name:
        raise OptionError(
            f"a method has a name and reduce(balancing, choice), got {method!r}; pass a "
            "ReductionMethod"
        )
    _METHODS[method.name] = method
    return method


def find_method(method: str | Method) -> Method:
    """The method of that name; a method stands for itself."""
    if not isinstance(method, str):
        if not (hasattr(method, "name") and callable(getattr(method, "reduce", None))):
            raise OptionError(
                f"{method!r} is no reduction method; give a name, or an lti.ReductionMethod"
            )
        return method
    if method not in _METHODS:
        raise OptionError(
            f"there is no reduction method {method!r}, only {', '.join(method_names())}; "
            "choose one, or add yours by lti.register_method"
        )
    return _METHODS[method]


def method_names() -> tuple[str, ...]:
    """The names of all registered methods."""
    return tuple(sorted(_METHODS))
