"""Progress bars of runs while they train."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from compressm.experiments.report.results import plus
from compressm.experiments.training import Step

__all__ = ["Watch"]


class Watch:
    """Progress bars of runs; an instance is the `on_step` of each run."""

    def __init__(self, console: Console) -> None:
        self.bars = Progress(
            TextColumn("{task.description:<18}"),
            BarColumn(bar_width=16),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TextColumn("test {task.fields[score]}"),
            TextColumn("states {task.fields[orders]}"),
            TextColumn("{task.fields[seconds]:.1f} s", justify="right"),
            console=console,
        )
        self.tasks: dict[str, TaskID] = {}
        self.last: Step | None = None

    def __enter__(self) -> Watch:
        self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bars.stop()

    def __call__(self, step: Step) -> None:
        self.last = step
        fields = {
            "loss": step.loss,
            "score": step.metric.shown(step.score, 1),
            "orders": plus(step.orders),
            "seconds": step.seconds,
        }
        if step.run not in self.tasks:
            self.tasks[step.run] = self.bars.add_task(step.run, total=step.steps, **fields)
        self.bars.update(self.tasks[step.run], completed=step.step, **fields)
        for cut in step.event.layers if step.event else ():
            said = cut.skipped or (
                f"{cut.before} → {cut.after} states, {cut.energy_kept:.2%} of the energy kept"
            )
            self.bars.console.print(f"step {step.step}: {cut.name} {said}", highlight=False)

    def where(self) -> str:
        """The run and the step at which training stopped, in words."""
        if self.last is None:
            return "before the first step"
        return f"after step {self.last.step} of {self.last.steps} of the run '{self.last.run}'"
