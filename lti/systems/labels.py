"""Labels: what a system and its signals are called."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["Labels"]


@dataclass(frozen=True)
class Labels:
    """What a system and its signals are called.

    Parameters
    ----------
    name : str, optional
        Name of the system.
    inputs, outputs, states : tuple of str, optional
        A name for each of them.

    Examples
    --------
    >>> import lti
    >>> labels = lti.Labels(name="cart", inputs=["force"], states=["x", "v"])
    >>> labels.without_states()
    Labels(name='cart', inputs=('force',), outputs=None, states=None)
    """

    name: str | None = None
    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None
    states: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for signal in ("inputs", "outputs", "states"):
            given = getattr(self, signal)
            if given is not None:
                names = (given,) if isinstance(given, str) else map(str, given)
                object.__setattr__(self, signal, tuple(names))

    def without_states(self) -> Labels:
        """The same, for a system with other states."""
        return replace(self, states=None)
