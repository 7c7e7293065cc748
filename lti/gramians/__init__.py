"""Gramians, and the ways to a factor of one: exact, weighted, limited, or supplied by the user."""

from lti.gramians.equation import solve_lyapunov
from lti.gramians.exact import (
    controllability_gramian,
    exact_factors,
    gramian_factors,
    observability_gramian,
)
from lti.gramians.spectral import input_spectrum, spectral_factor
from lti.gramians.supplied import GramianFactor

__all__ = [
    "GramianFactor",
    "controllability_gramian",
    "exact_factors",
    "gramian_factors",
    "input_spectrum",
    "observability_gramian",
    "solve_lyapunov",
    "spectral_factor",
]
