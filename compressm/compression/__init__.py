"""The way of a model through a cut: observe, plan, choose orders, veto, snapshot, apply."""

from compressm.compression.model_policies import Budget, MetricDrop
from compressm.compression.policies import (
    ENERGIES,
    ErrorBound,
    KeepEnergy,
    Order,
    OutputError,
    Policy,
    States,
)

__all__ = [
    "ENERGIES",
    "Budget",
    "ErrorBound",
    "KeepEnergy",
    "MetricDrop",
    "Order",
    "OutputError",
    "Policy",
    "States",
]
