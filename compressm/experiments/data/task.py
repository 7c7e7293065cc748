"""What a model is trained for: the loss, and the metrics by which runs are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

__all__ = ["CLASSIFICATION", "FORECASTING", "METRICS", "Metric", "Task"]


@dataclass(frozen=True)
class Metric:
    """A mean over test sequences, and how it is shown."""

    name: str
    each: Callable[[Tensor, Tensor], Tensor]  # outputs and targets (n, ...) -> values (n,)
    higher_is_better: bool = False
    is_fraction: bool = False

    @property
    def title(self) -> str:
        """The name, at the beginning of a sentence."""
        return self.name[0].upper() + self.name[1:]

    def shown(self, value: float, digits: int = 2) -> str:
        """A value as text: a fraction in percent, with so many digits after the point."""
        return f"{value:.{digits}%}" if self.is_fraction else f"{value:.{digits + 2}f}"

    def difference(self, value: float) -> str:
        """A difference as text: of fractions, in percentage points."""
        return f"{100 * value:+.2f}" if self.is_fraction else f"{value:+.4f}"


@dataclass(frozen=True)
class Task:
    """A loss, and metrics of which the first compares runs."""

    loss: Callable[[Tensor, Tensor], Tensor]
    metrics: tuple[Metric, ...]


CLASSIFICATION = Task(
    cross_entropy,
    (
        Metric(
            "accuracy",
            lambda output, label: output.argmax(-1) == label,
            higher_is_better=True,
            is_fraction=True,
        ),
    ),
)
FORECASTING = Task(
    mse_loss,
    (
        Metric("MSE", lambda output, future: (output - future).square().mean(-1)),
        Metric("MAE", lambda output, future: (output - future).abs().mean(-1)),
    ),
)
METRICS = {metric.name: metric for task in (CLASSIFICATION, FORECASTING) for metric in task.metrics}
"""All metrics by name, as the log of a run calls them."""
