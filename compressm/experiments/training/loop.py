"""The training loop: steps, cuts, measurements, checkpoints.

It prints nothing: `on_step` receives every step.

Seconds are those of training steps and cuts. Measurements, spectra and the time that `on_step`
takes are not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from math import isfinite
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor, nn

from compressm._renamed import system_alias
from compressm.checkpoints.run_state import load_checkpoint, save_checkpoint
from compressm.compression.compressor import Compressor
from compressm.compression.event import CompressionEvent
from compressm.compression.policies import AnyPolicy
from compressm.compression.schedules import Schedule
from compressm.errors import RunError, TrainingError
from compressm.experiments.data import Dataset, batches
from compressm.experiments.training.log import (
    Entry,
    Point,
    RunResult,
    Spectra,
    Step,
    from_record,
    to_record,
)
from compressm.experiments.training.network import evaluate, model_of, orders
from compressm.experiments.training.optimizer import optimizer_of, rate
from compressm.experiments.training.settings import Settings
from compressm.penalties import HankelPenalty
from compressm.systems.batches import hankel_spectra

__all__ = ["run"]


@system_alias
@torch.random.fork_rng(devices=[])  # the random numbers of the caller are not affected
def run(
    data: Dataset,
    settings: Settings,
    *,
    name: str = "full size",
    policy: AnyPolicy | None = None,
    schedule: Schedule | None = None,
    conjugate: bool = True,
    penalty: Callable[[nn.Module], HankelPenalty] | None = None,
    seed: int = 0,
    device: str = "cpu",
    spectra_at: Sequence[int] = (),
    on_step: Callable[[Step], None] | None = None,
    checkpoint: Path | None = None,
) -> RunResult:
    """Train one model; with a policy, compress it during training.

    The seed determines initial weights, order of the data and dropout, independently of each other:
    two runs with one seed see the same batches and the same dropout, whatever the sizes of their
    models. On a CPU, with the same number of threads, a run is reproduced to the last bit, also if
    it was stopped and continued from a checkpoint.

    Parameters
    ----------
    data
        Training and test sequences.
    settings
        Size of the model, and how it is trained.
    name
        Of the run, for `on_step`, errors and the result.
    policy, schedule
        How far and when to compress: never if `policy` is None; at the steps that `settings` give
        if only `schedule` is None.
    conjugate
        Which system a layer is reduced as; see `Compressor`.
    penalty
        Function that makes a penalty for the model. Its value is added to the loss at each step.
    seed
        Seed of all random numbers.
    device
        Where to train, such as "cuda"; data are moved there batch by batch.
    spectra_at
        Steps after which the Hankel singular values are kept. They are kept at every cut as well.
    on_step
        Called after each step; its time is not measured.
    checkpoint
        File in which the run is saved, as often as `settings` say and after the last step. If the
        file exists, the run continues from it.

    Raises
    ------
    TrainingError
        If the loss, or a metric, is not finite.
    RunError
        If `checkpoint` is one of another run: of another name, seed or other settings.
    """
    torch.manual_seed(seed)
    model = model_of(data, settings).to(device)
    torch.manual_seed(seed)  # dropout does not depend on the size of the model
    optimizer = optimizer_of(model, settings)
    compressor = None
    if policy is not None:
        compressor = Compressor(
            model,
            optimizer,
            policy=policy,
            schedule=schedule or settings.schedule(),
            conjugate=conjugate,
            gramians=settings.gramians,
        )
    return _Loop(
        name=name,
        seed=seed,
        data=data,
        settings=settings,
        device=device,
        model=model,
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, rate(settings)),
        compressor=compressor,
        penalty=penalty(model) if penalty else None,
        spectra_at=spectra_at,
        on_step=on_step,
        checkpoint=checkpoint,
    ).run()


@dataclass(kw_only=True)
class _Loop:
    """The parts of a run, and how far it has come."""

    name: str
    seed: int
    data: Dataset
    settings: Settings
    device: str
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    compressor: Compressor | None
    penalty: HankelPenalty | None
    spectra_at: Sequence[int]
    on_step: Callable[[Step], None] | None
    checkpoint: Path | None

    step: int = 0
    seconds: float = 0.0
    measured: dict[str, float] = field(default_factory=dict)  # at the last measurement
    log: list[Entry] = field(default_factory=list)
    reported: int = 0  # number of log entries that `on_step` has received

    def run(self) -> RunResult:
        if self.checkpoint and self.checkpoint.exists():
            self.load(self.checkpoint)
        else:
            self.keep_spectra()
            self.measure(None)
        size, steps = self.settings.batch_size, self.settings.steps
        every_batch = batches(len(self.data.y_train), size, steps, self.seed)
        for batch in islice(every_batch, self.step, None):
            self.step += 1
            loss = self.train(batch)
            event = self.compress(loss)
            self.keep_spectra()
            if event is None and self.is_due(self.settings.eval_every):
                self.measure(loss)
            self.report(loss, event)
            if self.checkpoint and self.is_due(self.settings.checkpoint_every):
                self.save(self.checkpoint)
        return self.result()

    def is_due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.settings.steps

    def train(self, batch: Tensor) -> float:
        """One step of the optimizer; its loss."""
        with self.timed():
            y, *inputs = (part.to(self.device) for part in self.data.train(batch))
            loss = self.data.task.loss(self.model(*inputs), y)
            (loss + self.penalty() if self.penalty else loss).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.scheduler.step()
            value = loss.item()
        self.require_finite("loss", value)
        return value

    def require_finite(self, name: str, value: float) -> None:
        if not isfinite(value):
            raise TrainingError(
                f"the {name} of the run '{self.name}' is {value} at step {self.step}: lower lr, "
                f"now {self.settings.lr:g}, or its factor ssm_lr, now {self.settings.ssm_lr:g}"
            )

    def compress(self, loss: float) -> CompressionEvent | None:
        """The cut that is due, if any, with a measurement just before and just after it."""
        if self.compressor is None:
            return None
        if self.compressor.schedule(self.step):
            self.measure(loss)
        with self.timed():
            event = self.compressor.step()
        if event:
            self.log.append(event)
            self.measure(loss)
        return event

    @contextmanager
    def timed(self) -> Iterator[None]:
        start = perf_counter()
        yield
        self.seconds += perf_counter() - start

    def measure(self, loss: float | None) -> None:
        """The metrics on the test subset, to the log."""
        n = len(self.data.y_test)
        # Evenly spaced, since the order of the test set may follow the writers
        subset = torch.linspace(0, n - 1, min(self.settings.eval_size, n)).round().long()
        self.measured = self.on_test(subset)
        self.log.append(Point(self.step, self.seconds, loss, self.measured, orders(self.model)))

    def on_test(self, subset: Tensor | slice = slice(None)) -> dict[str, float]:
        """The metrics on these test sequences."""
        measured = evaluate(self.model, self.data.task, *self.data.test(subset))
        for name, value in measured.items():
            self.require_finite(name, value)
        return measured

    def keep_spectra(self) -> None:
        """The Hankel singular values, to the log, if they are asked for at this step."""
        if self.step in self.spectra_at:
            self.log.append(Spectra(self.step, hankel_spectra(self.model)))

    def report(self, loss: float, event: CompressionEvent | None) -> None:
        if self.on_step:
            self.on_step(
                Step(
                    run=self.name,
                    step=self.step,
                    steps=self.settings.steps,
                    seconds=self.seconds,
                    loss=loss,
                    measured=self.measured,
                    orders=orders(self.model),
                    event=event,
                    news=tuple(self.log[self.reported :]),
                )
            )
        self.reported = len(self.log)

    def save(self, path: Path) -> None:
        state = {
            "run": self.identity(),
            "step": self.step,
            "seconds": self.seconds,
            "log": [to_record(entry) for entry in self.log],
            "scheduler": self.scheduler.state_dict(),
            "penalty": self.penalty and self.penalty.state_dict(),
            "random": _random(self.device),
        }
        save_checkpoint(path, self.model, self.optimizer, self.compressor, state)

    def load(self, path: Path) -> None:
        state = load_checkpoint(path, self.model, self.optimizer, self.compressor)
        own, saved = self.identity(), state.get("run", {})  # older files lack some, or all
        other = [f"{name} {saved[name]}" for name in own if saved.get(name, own[name]) != own[name]]
        if other:
            raise RunError(
                f"{path} is of another run, with {', '.join(other)}: give the arguments that it "
                "was started with, or another folder"
            )
        self.scheduler.load_state_dict(state["scheduler"])
        if self.penalty and state.get("penalty"):
            self.penalty.load_state_dict(state["penalty"])
        _set_random(state["random"], self.device)
        self.log = [from_record(record) for record in state["log"]]
        self.reported = len(self.log)
        self.step, self.seconds = state["step"], state["seconds"]
        self.measured = dict([x for x in self.log if isinstance(x, Point)][-1].measured)

    def identity(self) -> dict[str, str]:
        """What makes this run another than others, as text."""
        about = {"name": self.name, "seed": self.seed, **asdict(self.settings)}
        return {name: repr(value) for name, value in about.items()}

    def result(self) -> RunResult:
        return RunResult(
            name=self.name,
            seed=self.seed,
            settings=self.settings,
            measured=self.on_test(),
            orders=orders(self.model),
            parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            seconds=self.seconds,
            log=self.log,
            model=self.model,
        )


def _random(device: str) -> list[Tensor]:
    """State of torch's random numbers, on the CPU and on the device of the run."""
    on_device = [torch.cuda.get_rng_state(device)] if torch.device(device).type == "cuda" else []
    return [torch.get_rng_state(), *on_device]


def _set_random(states: Sequence[Tensor], device: str) -> None:
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state, device)
