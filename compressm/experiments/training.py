"""One training run: a model, its optimizer, cuts on the way, and a log of what was measured.

Nothing here prints: whoever wants to watch passes `on_step`.

Seconds are those of the training steps and the compressions. Evaluations, the spectra kept for
the picture and everything that `on_step` does lie outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from math import cos, isfinite, pi
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from compressm.checkpoints.run_state import load_checkpoint, save_checkpoint
from compressm.compression.compressor import Compressor
from compressm.compression.event import CompressionEvent, LayerCut
from compressm.compression.model_policies import Budget
from compressm.compression.policies import ENERGIES, Policy
from compressm.compression.schedules import Every, Schedule
from compressm.errors import OptionError, TrainingError
from compressm.experiments.data import Dataset
from compressm.gramians.types import BuiltIn as Kind
from compressm.models import SequenceModel
from compressm.penalties.penalty import HankelPenalty
from compressm.systems.batches import hankel_spectra
from compressm.systems.find import compressible_layers, stored_states

__all__ = [
    "Point",
    "RunResult",
    "Settings",
    "Spectra",
    "Step",
    "accuracy",
    "from_record",
    "model_of",
    "orders",
    "run",
    "to_record",
]


@dataclass(frozen=True)
class Settings:
    """What a run is made of, beside its data and its seed.

    Raises
    ------
    ValueError
        If a number makes no sense.
    """

    d_model: int
    d_state: int
    n_layers: int
    steps: int
    batch_size: int
    lr: float  # the highest
    lr_schedule: Literal["cosine", "constant"] = "cosine"  # a line up over a tenth of the steps ...
    lr_floor: float = 0.0  # ... from this rate, and half a cosine down to it
    ssm_lr: float = 1.0  # factor of the rate, for the parameters of state-space layers
    layer: str = "lru"  # a name in compressm.models.LAYERS ...
    layer_options: Mapping[str, Any] = field(default_factory=dict)  # ... and what else it takes
    dropout: float = 0.0
    weight_decay: float = 0.01
    eval_every: int = 100  # steps between two looks at the test accuracy
    eval_size: int = 1000  # test sequences looked at, the same ones always
    energy: float | None = None  # share that a cut keeps, see KeepEnergy; None: by `gramians`
    cuts: int = 1  # number of cuts that the compressed run makes ...
    cut_window: float = 0.1  # ... evenly spaced in this first share of the steps
    gramians: Kind | None = None  # what weighs the states; see Compressor
    checkpoint_every: int = 1000  # steps between two checkpoints, if any are kept

    def __post_init__(self) -> None:
        for name in COUNTS:
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("lr", "ssm_lr"):
            if not 0 < getattr(self, name) < float("inf"):
                raise OptionError(f"{name} must be a positive number, got {getattr(self, name)}")
        for name in ("energy", "cut_window"):
            share = getattr(self, name)
            if share is not None and not 0 < share <= 1:
                raise OptionError(f"{name} is a share and must lie in (0, 1], got {share}")
        if not 0 <= self.lr_floor <= self.lr:
            raise OptionError(f"lr_floor must lie in [0, lr], got {self.lr_floor}")
        if self.weight_decay < 0:
            raise OptionError(f"weight_decay must not be negative, got {self.weight_decay}")

    def share(self) -> float:
        """What a cut keeps: `energy`, or what goes with `gramians`."""
        return self.energy or ENERGIES[self.gramians or "input"]

    def schedule(self) -> Every:
        """The cuts' schedule in steps."""
        every = max(1, round(self.steps * self.cut_window / self.cuts))
        return Every(every, stop=every * self.cuts)


COUNTS = ("d_model", "d_state", "n_layers", "steps", "batch_size")
COUNTS += ("eval_every", "eval_size", "cuts", "checkpoint_every")


@dataclass(frozen=True)
class Point:
    """The model as it stood after `step` steps; the accuracy is that on the test subset."""

    step: int
    seconds: float
    loss: float | None  # of that step's batch; None before the first
    accuracy: float
    orders: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Spectra:
    """Hankel singular values of each layer after `step` steps."""

    step: int
    layers: dict[str, np.ndarray]


Entry = Point | CompressionEvent | Spectra
"""What the log of a run is made of, in the order in which it happened."""


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
    news: tuple[Entry, ...]  # what came to the log since the step before


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
    log: list[Entry] = field(repr=False)
    model: nn.Module | None = field(default=None, repr=False)  # None if read from a file

    @property
    def history(self) -> list[Point]:
        """The looks at the model."""
        return [entry for entry in self.log if isinstance(entry, Point)]

    @property
    def events(self) -> list[CompressionEvent]:
        """The cuts."""
        return [entry for entry in self.log if isinstance(entry, CompressionEvent)]

    @property
    def spectra(self) -> dict[int, dict[str, np.ndarray]]:
        """step -> layer -> Hankel singular values."""
        return {entry.step: entry.layers for entry in self.log if isinstance(entry, Spectra)}

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
            "events": [_event_to_dict(event) for event in self.events],
            "spectra": {
                step: {name: hsv.tolist() for name, hsv in layers.items()}
                for step, layers in self.spectra.items()
            },
        }


def to_record(entry: Entry) -> dict[str, Any]:
    """An entry of a log as JSON can hold it; `from_record` is the way back."""
    if isinstance(entry, Point):
        return {"point": asdict(entry)}
    if isinstance(entry, CompressionEvent):
        return {"event": _event_to_dict(entry)}
    layers = {name: hsv.tolist() for name, hsv in entry.layers.items()}
    return {"spectra": {"step": entry.step, "layers": layers}}


def from_record(record: Mapping[str, Any]) -> Entry:
    """The entry of a log that `to_record` made this of."""
    ((kind, fields),) = record.items()
    if kind == "point":
        return Point(**{**fields, "orders": tuple(fields["orders"])})
    if kind == "event":
        return CompressionEvent(fields["step"], tuple(map(_cut_from_dict, fields["layers"])))
    return Spectra(fields["step"], {k: np.array(hsv) for k, hsv in fields["layers"].items()})


def _event_to_dict(event: CompressionEvent) -> dict[str, Any]:
    layers = [
        {
            **vars(cut),
            "hsv": cut.hsv.tolist(),
            "error_bound": cut.error_bound if isfinite(cut.error_bound) else None,
        }
        for cut in event.layers
    ]
    return {"step": event.step, "layers": layers}


def _cut_from_dict(fields: Mapping[str, Any]) -> LayerCut:
    bound = fields["error_bound"]
    pairs = {name: tuple(fields[name]) for name in ("parameters", "flops")}
    read = {"hsv": np.array(fields["hsv"]), "error_bound": float("inf") if bound is None else bound}
    return LayerCut(**{**fields, **read, **pairs})


@torch.random.fork_rng(devices=[])  # the caller's random numbers go on as if nothing had run
def run(
    data: Dataset,
    settings: Settings,
    *,
    name: str = "full size",
    policy: Policy | Budget | None = None,
    schedule: Schedule | None = None,
    system: Literal["real", "complex"] = "real",
    penalty: Callable[[nn.Module], HankelPenalty] | None = None,
    seed: int = 0,
    device: str = "cpu",
    spectra_at: Sequence[int] = (),
    on_step: Callable[[Step], None] | None = None,
    checkpoint: Path | None = None,
) -> RunResult:
    """Train one model; with a policy and a schedule, compress it meanwhile.

    The seed fixes initial weights, order of the data and dropout, each from its own start: two
    runs of one seed see the same batches and the same dropout, whatever their size. On a CPU,
    with the same number of threads, a seed reproduces a run to the last bit, and so does one that
    goes on from a checkpoint.

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
    device
        Where to train, such as "cuda"; the data come batch by batch.
    spectra_at
        Steps after which to keep the Hankel singular values, besides those of every cut.
    on_step
        Called after each step, outside the time that is measured.
    checkpoint
        File to keep the run in, as often as `settings` say and after the last step. If it is there
        already, the run goes on from it.

    Raises
    ------
    TrainingError
        If the loss is not finite.
    """
    torch.manual_seed(seed)
    model = model_of(data, settings).to(device)
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(
        _groups(model, settings), lr=settings.lr, weight_decay=settings.weight_decay, fused=True
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, _rate(settings))
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
    extra = penalty(model) if penalty else None
    # Spread over the test set, whose order may follow the writers.
    subset = torch.linspace(0, len(data.y_test) - 1, min(settings.eval_size, len(data.y_test)))
    subset = subset.round().long()

    def look(step: int, loss: float | None) -> float:
        found = accuracy(model, data.x_test[subset], data.y_test[subset])
        log.append(Point(step, seconds, loss, found, orders(model)))
        return found

    log: list[Entry] = []
    seconds, begun, told = 0.0, 0, 0
    if checkpoint and checkpoint.exists():
        state = load_checkpoint(checkpoint, model, optimizer, compressor)
        scheduler.load_state_dict(state["scheduler"])
        if extra and state.get("penalty"):
            extra.load_state_dict(state["penalty"])
        _set_random(state["random"], device)
        log = [from_record(record) for record in state["log"]]
        seconds, begun, told = state["seconds"], state["step"], len(log)
        seen = state["accuracy"]
    else:
        if 0 in spectra_at:
            log.append(Spectra(0, hankel_spectra(model)))
        seen = look(0, None)

    batches = _batches(len(data.y_train), settings.batch_size, settings.steps, seed)
    for step, index in islice(enumerate(batches, start=1), begun, None):
        start = perf_counter()
        x, y = data.x_train[index].to(device), data.y_train[index].to(device)
        loss = criterion(model(x), y)
        (loss + extra() if extra else loss).backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        value = loss.item()
        seconds += perf_counter() - start
        if not isfinite(value):
            raise TrainingError(
                f"the loss of the run '{name}' is {value} at step {step}: lower lr, now "
                f"{settings.lr:g}, or its factor ssm_lr, now {settings.ssm_lr:g}"
            )
        event = None
        if compressor:
            if compressor.schedule(step):  # accuracy just before a cut, and just after
                look(step, value)
            start = perf_counter()
            event = compressor.step()
            seconds += perf_counter() - start
        if event:
            log.append(event)
            seen = look(step, value)
        if step in spectra_at:
            log.append(Spectra(step, hankel_spectra(model)))
        if event is None and (step % settings.eval_every == 0 or step == settings.steps):
            seen = look(step, value)
        if on_step:
            on_step(
                Step(
                    run=name,
                    step=step,
                    steps=settings.steps,
                    seconds=seconds,
                    loss=value,
                    accuracy=seen,
                    orders=orders(model),
                    event=event,
                    news=tuple(log[told:]),
                )
            )
        told = len(log)
        if checkpoint and (step % settings.checkpoint_every == 0 or step == settings.steps):
            state = {
                "step": step,
                "seconds": seconds,
                "accuracy": seen,
                "log": [to_record(entry) for entry in log],
                "scheduler": scheduler.state_dict(),
                "penalty": extra and extra.state_dict(),
                "random": _random(device),
            }
            save_checkpoint(checkpoint, model, optimizer, compressor, state)

    return RunResult(
        name=name,
        seed=seed,
        settings=settings,
        accuracy=accuracy(model, data.x_test, data.y_test),
        orders=orders(model),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        seconds=seconds,
        log=log,
        model=model,
    )


def model_of(data: Dataset, settings: Settings) -> SequenceModel:
    """The model that `settings` describe, for sequences such as `data`, with random weights."""
    model = SequenceModel(
        d_input=1 if data.n_tokens else data.x_train.shape[-1],
        d_output=data.n_classes,
        d_model=settings.d_model,
        d_state=settings.d_state,
        n_layers=settings.n_layers,
        layer=settings.layer,
        dropout=settings.dropout,
        **settings.layer_options,
    )
    if data.n_tokens:
        model.add_module("encoder", _Tokens(data.n_tokens, settings.d_model))
    return model


class _Tokens(nn.Embedding):
    """u[t] -> W[u[t]], of tokens in as few bytes as they are stored in."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.int())


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of the sequences whose largest logit is their label's, without dropout."""
    model.eval()
    device = next(model.parameters()).device
    with torch.inference_mode():
        hits = sum(
            (model(inputs.to(device)).argmax(-1) == labels.to(device)).sum().item()
            for inputs, labels in zip(x.split(250), y.split(250), strict=True)
        )
    model.train()
    return hits / len(y)


def orders(model: nn.Module) -> tuple[int, ...]:
    """Stored states of each state-space layer."""
    return tuple(stored_states(layer) for _, layer in compressible_layers(model))


def _groups(model: nn.Module, settings: Settings) -> list[dict[str, Any]]:
    """The parameters of state-space layers, at a rate of their own, and the others."""
    inside = {id(p) for _, layer in compressible_layers(model) for p in layer.parameters()}
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for parameter in model.parameters():
        groups[id(parameter) in inside].append(parameter)
    return [
        {"params": groups[True], "lr": settings.lr * settings.ssm_lr},
        {"params": groups[False]},
    ]


def _batches(n: int, size: int, steps: int, seed: int) -> Iterator[Tensor]:
    """Indices of `steps` batches: each epoch is a new permutation, its rest is dropped."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(left) < min(size, n):
            left = torch.randperm(n, generator=generator)
        yield left[:size]
        left = left[size:]


def _rate(settings: Settings) -> Callable[[int], float]:
    """Factor of the learning rate at each step."""
    if settings.lr_schedule == "constant":
        return lambda step: 1.0
    steps, floor = settings.steps, settings.lr_floor / settings.lr
    warmup = max(1, steps // 10)

    def factor(step: int) -> float:
        if step < warmup:
            return floor + (1 - floor) * (step + 1) / warmup
        return floor + (1 - floor) * 0.5 * (1 + cos(pi * (step - warmup) / max(1, steps - warmup)))

    return factor


def _random(device: str) -> list[Tensor]:
    """Where torch's random numbers are, on the CPU and where the run is."""
    on_device = [torch.cuda.get_rng_state(device)] if torch.device(device).type == "cuda" else []
    return [torch.get_rng_state(), *on_device]


def _set_random(states: Sequence[Tensor], device: str) -> None:
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state, device)
