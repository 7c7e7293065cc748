"""Linear systems: what they are, other forms of them, and what they do at a frequency."""

from lti.systems.convert import as_statespace
from lti.systems.diagonalize import diagonalize
from lti.systems.discretize import bilinear
from lti.systems.labels import Labels
from lti.systems.response import frequency_response
from lti.systems.statespace import DiagonalStateSpace, StateSpace

__all__ = [
    "DiagonalStateSpace",
    "Labels",
    "StateSpace",
    "as_statespace",
    "bilinear",
    "diagonalize",
    "frequency_response",
]
