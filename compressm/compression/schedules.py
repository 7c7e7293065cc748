"""Schedules, when to cut: from the number of optimizer steps to whether a cut is due."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from compressm.errors import OptionError

__all__ = ["At", "Every", "Schedule", "require_schedule"]


class Schedule(Protocol):
    """Whether a cut is due after `step` optimizer steps: any such function of an integer."""

    def __call__(self, step: int) -> bool:
        """Whether a cut is due.

        Parameters
        ----------
        step : int
            Number of optimizer steps so far, at least 1.
        """
        ...


@dataclass(frozen=True, init=False)
class At:
    """A cut is due after each of these steps: step in steps.

    Parameters
    ----------
    *steps : int
        At least one, each at least 1.

    Raises
    ------
    OptionError
        If there is none, or one is not an integer of at least 1.

    Examples
    --------
    >>> from compressm import At
    >>> [step for step in range(1, 400) if At(100, 150)(step)]
    [100, 150]
    """

    steps: tuple[int, ...]

    def __init__(self, *steps: int) -> None:
        if not steps or any(isinstance(x, bool) or not isinstance(x, int) or x < 1 for x in steps):
            raise OptionError(f"steps must be one or more integers of at least 1, got {steps}")
        object.__setattr__(self, "steps", tuple(sorted(set(steps))))

    def __call__(self, step: int) -> bool:
        """Whether a cut is due; see `Schedule`."""
        return step in self.steps


@dataclass(frozen=True)
class Every:
    """A cut is due at step = start + k n, for k = 0, 1, ..., while 0 < step <= stop.

    Parameters
    ----------
    n : int
        Steps between two cuts, at least 1.
    start : int, optional
        First step that counts.
    stop : int, optional
        Last step at which a cut may be due; no end if left out.

    Raises
    ------
    OptionError
        If `n` is below 1 or `start` negative, or no cut is due until `stop`.

    Examples
    --------
    >>> from compressm import Every
    >>> [step for step in range(1, 400) if Every(100, stop=300)(step)]
    [100, 200, 300]
    """

    n: int
    start: int = 0
    stop: int | None = None

    def __post_init__(self) -> None:
        whole = (self.n, self.start, 0 if self.stop is None else self.stop)
        if not all(isinstance(x, int) and not isinstance(x, bool) for x in whole):
            raise OptionError(f"n, start and stop must be integers, got {self}")
        if self.n < 1 or self.start < 0:
            raise OptionError(f"n must be at least 1 and start at least 0, got {self}")
        if self.stop is not None and self.stop < (first := self.start or self.n):
            raise OptionError(f"{self} is never due: its first step is {first}; raise stop")

    def __call__(self, step: int) -> bool:
        """Whether a cut is due; see `Schedule`."""
        since = step - self.start
        in_time = self.stop is None or step <= self.stop
        return step > 0 and since >= 0 and since % self.n == 0 and in_time


def require_schedule(schedule: object) -> None:
    """OptionError unless it can be asked whether a cut is due."""
    if isinstance(schedule, type) or not callable(schedule):
        raise OptionError(f"schedule says when to cut, such as At(1_000), got {schedule!r}")
