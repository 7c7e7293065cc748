"""Gramians, and the ways to a factor of one: exact, weighted, limited, or supplied by the user."""

from lti.gramians.equation import solve_lyapunov
from lti.gramians.exact import (
    controllability_gramian,
    gramian_factors,
    known_factors,
    observability_gramian,
)
from lti.gramians.spectral import input_spectrum, spectral_factor
from lti.gramians.supplied import GramianFactor

__all__ = [
    "GramianFactor",
    "controllability_gramian",
    "gramian_factors",
    "input_spectrum",
    "known_factors",
    "observability_gramian",
    "solve_lyapunov",
    "spectral_factor",
]
