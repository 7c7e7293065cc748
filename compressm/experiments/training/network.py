"""The network that is trained: built from its settings, and measured."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compressm.experiments.data import CLASSIFICATION, Dataset, Task
from compressm.experiments.training.settings import Settings
from compressm.models import SequenceModel
from compressm.systems.find import compressible_layers, stored_states

__all__ = ["accuracy", "evaluate", "model_of", "orders"]


def model_of(data: Dataset, settings: Settings) -> SequenceModel:
    """The model that `settings` describe, for sequences such as `data`, with random weights."""
    model = SequenceModel(
        d_input=1 if data.n_tokens else data.x_train.shape[-1],
        d_output=data.n_outputs,
        d_model=settings.d_model,
        d_state=settings.d_state,
        n_layers=settings.n_layers,
        layer=settings.layer,
        dropout=settings.dropout,
        pool=settings.pool,
        **settings.layer_options,
    )
    if data.n_tokens:
        model.add_module("encoder", _Tokens(data.n_tokens, settings.d_model))
    return model


class _Tokens(nn.Embedding):
    """u[t] -> W[u[t]], for tokens that are stored in one byte each."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.int())


def evaluate(
    model: nn.Module, task: Task, y: Tensor, x: Tensor, lengths: Tensor | None = None
) -> dict[str, float]:
    """The metrics of a task by name, over test sequences, without dropout."""
    model.eval()
    device = next(model.parameters()).device
    totals = {metric: 0.0 for metric in task.metrics}
    parts = (part.split(250) for part in (y, x, lengths) if part is not None)
    with torch.inference_mode():
        for batch in zip(*parts, strict=True):
            targets, *inputs = (part.to(device) for part in batch)
            outputs = model(*inputs)
            for metric in totals:
                totals[metric] += float(metric.each(outputs, targets).double().sum())
    model.train()
    return {metric.name: total / len(y) for metric, total in totals.items()}


def accuracy(model: nn.Module, x: Tensor, y: Tensor, lengths: Tensor | None = None) -> float:
    """Fraction of the sequences that are classified correctly, without dropout."""
    return evaluate(model, CLASSIFICATION, y, x, lengths)["accuracy"]


def orders(model: nn.Module) -> tuple[int, ...]:
    """Number of stored states of each state-space layer."""
    return tuple(stored_states(layer) for _, layer in compressible_layers(model))
