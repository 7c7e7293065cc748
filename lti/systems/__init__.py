"""Linear systems: what they are, other forms of them, and what they do at a frequency."""

from lti.systems.connect import feedback, parallel, series
from lti.systems.convert import as_statespace
from lti.systems.diagonalize import diagonalize
from lti.systems.discretize import bilinear, discretize, undiscretize
from lti.systems.labels import Labels
from lti.systems.response import dcgain, frequency_response
from lti.systems.second_order import second_order
from lti.systems.separate import freqsep, minimal
from lti.systems.simulate import impulse_response, simulate, step_response
from lti.systems.sparse import SparseStateSpace
from lti.systems.statespace import DiagonalStateSpace, StateSpace

__all__ = [
    "DiagonalStateSpace",
    "Labels",
    "SparseStateSpace",
    "StateSpace",
    "as_statespace",
    "bilinear",
    "dcgain",
    "diagonalize",
    "discretize",
    "feedback",
    "freqsep",
    "frequency_response",
    "impulse_response",
    "minimal",
    "parallel",
    "second_order",
    "series",
    "simulate",
    "step_response",
    "undiscretize",
]
