"""Three runs from one seed: full size, compressed while training, the small size from scratch.

`run` is one training run and can be used for experiments; `demo` composes three. Nothing here
prints: whoever wants to watch passes `on_step`.

Seconds are those of the training steps and the compressions. Evaluations, the spectra kept for
the picture and everything that `on_step` does lie outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import cos, isfinite, pi
from time import perf_counter
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from compressm.compressor import Compressor
from compressm.cutting import CompressionEvent
from compressm.data import Dataset
from compressm.hankel import hankel_spectra
from compressm.models import SequenceModel
from compressm.planning import stored_states
from compressm.policies import KeepEnergy, Policy
from compressm.schedules import Every, Schedule
from compressm.selection import compressible_layers

__all__ = ["DIGITS", "MNIST", "Point", "RunResult", "Settings", "Step", "demo", "run"]


@dataclass(frozen=True)
class Settings:
    """What a run is made of, beside its data and its seed."""

    d_model: int
    d_state: int
    n_layers: int
    steps: int
    batch_size: int
    lr: float  # peak: linear warm-up over the first tenth of the steps, then a cosine to zero
    dropout: float = 0.0
    weight_decay: float = 0.01
    max_phase: float = 2 * pi  # of the initial poles: the highest frequency that a layer hears
    eval_every: int = 100  # steps between two looks at the test accuracy
    eval_size: int = 1000  # test sequences looked at, the same ones always
    energy: float = 0.98  # share of the sum of Hankel singular values that a cut keeps
    cuts: int = 3  # number of cuts that the compressed run makes ...
    cut_window: float = 0.1  # ... evenly spaced in this first share of the steps
    gramians: Literal["model", "input", "data"] = "model"  # what weighs the states; see Compressor

    def schedule(self) -> Every:
        """The cuts' schedule in steps."""
        every = max(1, round(self.steps * self.cut_window / self.cuts))
        return Every(every, stop=every * self.cuts)


DIGITS = Settings(
    d_model=16,
    d_state=256,
    n_layers=1,
    steps=1000,
    batch_size=50,
    lr=1e-2,
    eval_every=25,
    energy=0.9,
    cuts=4,
    cut_window=0.2,
)
MNIST = Settings(
    d_model=8,
    d_state=256,
    n_layers=1,
    steps=3000,
    batch_size=50,
    lr=4e-3,
    max_phase=0.7,
    energy=0.9995,
    gramians="input",
)


@dataclass(frozen=True)
class Point:
    """The model as it stood after `step` steps; the accuracy is that on the test subset."""

    step: int
    seconds: float
    loss: float | None  # of that step's batch; None before the first
    accuracy: float
    orders: tuple[int, ...]


@dataclass(frozen=True)
class Step:
    """One training step, as `on_step` sees it."""

    run: str
    step: int
    steps: int
    seconds: float
    loss: float
    accuracy: float  # at the last evaluation
    orders: tuple[int, ...]
    event: CompressionEvent | None


@dataclass(frozen=True)
class RunResult:
    """What one run measured. Accuracies are fractions; `accuracy` is on the whole test set."""

    name: str
    seed: int
    settings: Settings
    accuracy: float
    orders: tuple[int, ...]
    parameters: int
    seconds: float
    history: list[Point]
    events: list[CompressionEvent]
    spectra: dict[int, dict[str, np.ndarray]]  # step -> layer -> Hankel singular values
    model: nn.Module = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the model, as JSON can hold it."""
        return {
            "name": self.name,
            "seed": self.seed,
            "settings": asdict(self.settings),
            "accuracy": self.accuracy,
            "orders": self.orders,
            "parameters": self.parameters,
            "seconds": self.seconds,
            "history": [asdict(point) for point in self.history],
            "events": [
                {
                    "step": event.step,
                    "layers": [
                        {
                            **vars(cut),
                            "hsv": cut.hsv.tolist(),
                            "error_bound": cut.error_bound if isfinite(cut.error_bound) else None,
                        }
                        for cut in event.layers
                    ],
                }
                for event in self.events
            ],
            "spectra": {
                step: {name: hsv.tolist() for name, hsv in layers.items()}
                for step, layers in self.spectra.items()
            },
        }


@torch.random.fork_rng(devices=[])  # the caller's random numbers go on as if nothing had run
def run(
    data: Dataset,
    settings: Settings,
    *,
    name: str = "full size",
    policy: Policy | None = None,
    schedule: Schedule | None = None,
    system: Literal["real", "complex"] = "real",
    penalty: Callable[[nn.Module], Callable[[], Tensor]] | None = None,
    seed: int = 0,
    spectra_at: Sequence[int] = (),
    on_step: Callable[[Step], None] | None = None,
) -> RunResult:
    """Train one model; with a policy and a schedule, compress it meanwhile.

    The seed fixes initial weights, order of the data and dropout, each from its own start: two
    runs of one seed see the same batches and the same dropout, whatever their size. On a CPU,
    with the same number of threads, a seed reproduces a run to the last bit.

    Parameters
    ----------
    data
        Training and test sequences.
    settings
        Size of the model, and how it is trained.
    policy, schedule
        How far and when to compress; never if `policy` is None, and as `settings` says if only
        `schedule` is None.
    system
        Which system a layer is reduced as; see `Compressor`.
    penalty
        Makes, of the model, what is added to the loss at each step.
    seed
        Seed of everything random.
    spectra_at
        Steps after which to keep the Hankel singular values, besides those of every cut.
    on_step
        Called after each step, outside the time that is measured.
    """
    torch.manual_seed(seed)
    model = SequenceModel(
        d_input=data.x_train.shape[-1],
        d_output=data.n_classes,
        d_model=settings.d_model,
        d_state=settings.d_state,
        n_layers=settings.n_layers,
        dropout=settings.dropout,
        max_phase=settings.max_phase,
    )
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, _warmup_cosine(settings.steps))
    compressor = None
    if policy is not None:
        compressor = Compressor(
            model,
            optimizer,
            policy=policy,
            schedule=schedule or settings.schedule(),
            system=system,
            gramians=settings.gramians,
        )
    criterion = nn.CrossEntropyLoss()
    extra = penalty(model) if penalty else lambda: 0.0
    # Spread over the test set, whose order may follow the writers.
    subset = torch.linspace(0, len(data.y_test) - 1, min(settings.eval_size, len(data.y_test)))
    subset = subset.round().long()

    def look(step: int, loss: float | None) -> None:
        found = accuracy(model, data.x_test[subset], data.y_test[subset])
        history.append(Point(step, seconds, loss, found, orders(model)))

    history: list[Point] = []
    events: list[CompressionEvent] = []
    spectra = {0: hankel_spectra(model)} if 0 in spectra_at else {}
    seconds = 0.0
    look(0, None)

    batches = _batches(len(data.y_train), settings.batch_size, settings.steps, seed)
    for step, index in enumerate(batches, start=1):
        start = perf_counter()
        loss = criterion(model(data.x_train[index]), data.y_train[index])
        (loss + extra()).backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        seconds += perf_counter() - start
        event = None
        if compressor:
            if compressor.schedule(step):  # accuracy just before a cut, and just after
                look(step, loss.item())
            start = perf_counter()
            event = compressor.step()
            seconds += perf_counter() - start
        if event:
            events.append(event)
            look(step, loss.item())
        if step in spectra_at:
            spectra[step] = hankel_spectra(model)
        if event is None and (step % settings.eval_every == 0 or step == settings.steps):
            look(step, loss.item())
        if on_step:
            on_step(
                Step(
                    run=name,
                    step=step,
                    steps=settings.steps,
                    seconds=seconds,
                    loss=loss.item(),
                    accuracy=history[-1].accuracy,
                    orders=orders(model),
                    event=event,
                )
            )

    return RunResult(
        name=name,
        seed=seed,
        settings=settings,
        accuracy=accuracy(model, data.x_test, data.y_test),
        orders=orders(model),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        seconds=seconds,
        history=history,
        events=events,
        spectra=spectra,
        model=model,
    )


def demo(
    data: Dataset,
    settings: Settings,
    *,
    seed: int = 0,
    on_step: Callable[[Step], None] | None = None,
) -> list[RunResult]:
    """Full size, compressed while training, and the size it ended at from scratch."""
    full = run(data, settings, seed=seed, on_step=on_step)
    compressed = run(
        data,
        settings,
        name="compressed",
        policy=KeepEnergy(settings.energy),
        seed=seed,
        spectra_at=(0, settings.steps) if settings.gramians == "model" else (),
        on_step=on_step,
    )
    size = round(sum(compressed.orders) / len(compressed.orders))  # layers of equal size, as many
    small = run(
        data,
        replace(settings, d_state=size),
        name="small from scratch",
        seed=seed,
        on_step=on_step,
    )
    return [full, compressed, small]


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of the sequences whose largest logit is their label's, without dropout."""
    model.eval()
    with torch.inference_mode():
        hits = sum(
            (model(inputs).argmax(-1) == labels).sum().item()
            for inputs, labels in zip(x.split(250), y.split(250), strict=True)
        )
    model.train()
    return hits / len(y)


def orders(model: nn.Module) -> tuple[int, ...]:
    """Stored states of each state-space layer."""
    return tuple(stored_states(layer) for _, layer in compressible_layers(model))


def _batches(n: int, size: int, steps: int, seed: int) -> Iterator[Tensor]:
    """Indices of `steps` batches: each epoch is a new permutation, its rest is dropped."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(left) < min(size, n):
            left = torch.randperm(n, generator=generator)
        yield left[:size]
        left = left[size:]


def _warmup_cosine(steps: int) -> Callable[[int], float]:
    """Factor of the learning rate: a line up over a tenth of the steps, half a cosine down."""
    warmup = max(1, steps // 10)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + cos(pi * (step - warmup) / max(1, steps - warmup)))

    return factor
