"""The old place of `lti.Labels`, `lti.StateSpace` and `lti.DiagonalStateSpace`."""

from lti.systems import DiagonalStateSpace as DiagonalStateSpace
from lti.systems import Labels as Labels
from lti.systems import StateSpace as StateSpace

__all__: list[str] = []
