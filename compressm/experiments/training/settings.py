"""What a run is made of, beside its data and its seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from compressm.compression.policies import KeepEnergy, OutputError, Policy, as_policy
from compressm.compression.schedules import Every
from compressm.errors import OptionError
from compressm.gramians.types import BuiltIn

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """Size of a model, how it is trained, and how it is cut.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    d_model: int
    d_state: int
    n_layers: int
    steps: int
    batch_size: int
    lr: float  # the highest learning rate
    lr_schedule: Literal["cosine", "constant"] = "cosine"  # linear warm-up over a tenth of the
    lr_floor: float = 0.0  # steps, starting at lr_floor, and half a cosine back down to it
    ssm_lr: float = 1.0  # factor of the learning rate for the parameters of state-space layers
    layer: str = "lru"  # a name in compressm.models.LAYERS
    layer_options: Mapping[str, Any] = field(default_factory=dict)  # further arguments of the layer
    pool: Literal["mean", "last"] = "mean"  # over time, see SequenceModel
    dropout: float = 0.0
    weight_decay: float = 0.01
    eval_every: int = 100  # steps between two measurements on test sequences
    eval_size: int = 1000  # test sequences that are used for it, always the same ones
    energy: float | None = None  # fraction that a cut keeps, see KeepEnergy, or ...
    output_error: float | None = None  # ... the change of a layer's output, see OutputError
    cuts: int = 1  # number of cuts of the compressed run ...
    cut_window: float = 0.1  # ... evenly spaced in this first fraction of the steps
    gramians: BuiltIn | None = None  # Gramian type that scores the states; see Compressor
    checkpoint_every: int = 1000  # steps between two checkpoints, if any are kept

    def __post_init__(self) -> None:
        for name in COUNTS:
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("lr", "ssm_lr"):
            if not 0 < getattr(self, name) < float("inf"):
                raise OptionError(f"{name} must be a positive number, got {getattr(self, name)}")
        for name in ("energy", "cut_window"):
            fraction = getattr(self, name)
            if fraction is not None and not 0 < fraction <= 1:
                raise OptionError(f"{name} is a fraction and must lie in (0, 1], got {fraction}")
        if self.energy is not None and self.output_error is not None:
            raise OptionError("energy and output_error both say how far to cut; set one of them")
        if self.output_error is not None:
            OutputError(self.output_error)  # which knows its range
        if not 0 <= self.lr_floor <= self.lr:
            raise OptionError(f"lr_floor must lie in [0, lr], got {self.lr_floor}")
        if not 0 <= self.weight_decay < float("inf"):
            raise OptionError(f"weight_decay must be a number >= 0, got {self.weight_decay}")
        if not 0 <= self.dropout < 1:
            raise OptionError(f"dropout must lie in [0, 1), got {self.dropout}")

    def make_policy(self) -> Policy:
        """The policy of the cuts, how far they go: the default one if nothing is set."""
        if self.energy is not None:
            return KeepEnergy(self.energy)
        return as_policy(None if self.output_error is None else OutputError(self.output_error))

    def schedule(self) -> Every:
        """The steps at which the model is cut."""
        every = max(1, round(self.steps * self.cut_window / self.cuts))
        return Every(every, stop=every * self.cuts)


COUNTS = ("d_model", "d_state", "n_layers", "steps", "batch_size")
COUNTS += ("eval_every", "eval_size", "cuts", "checkpoint_every")
