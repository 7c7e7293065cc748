"""Errors and warnings as types; each message says what was wrong, what came in, what to do."""

import sys
import warnings

__all__ = [
    "CertificateError",
    "ConvergenceError",
    "DefectiveError",
    "DenseWarning",
    "DerivativeError",
    "DimensionError",
    "FileError",
    "LTIError",
    "NonFiniteError",
    "OptionError",
    "OrderError",
    "ReductionWarning",
    "TimebaseError",
    "UnstableError",
]


class LTIError(ValueError):
    """Base of every error that `lti` raises on purpose."""


class DimensionError(LTIError):
    """Shapes or types of input that do not form a system."""


class NonFiniteError(LTIError):
    """NaN or Inf where a finite number is needed."""


class UnstableError(LTIError):
    """A pole on or beyond the stability boundary where a stable system is needed."""


class OrderError(LTIError):
    """An order, a tolerance or an energy fraction that is out of range for the system."""


class OptionError(LTIError):
    """An option that does not exist, or options that contradict each other."""


class TimebaseError(LTIError):
    """Systems in different time domains, or a time domain that is not stated."""


class DefectiveError(LTIError):
    """A state matrix without a basis of eigenvectors where diagonal form is needed."""


class FileError(LTIError):
    """A file that cannot be read as a system, or cannot be written."""


class DerivativeError(LTIError):
    """A derivative that does not exist, or is not supported."""


class ConvergenceError(LTIError):
    """An iteration that does not reach its accuracy."""


class CertificateError(LTIError):
    """A measured error that lies outside the bounds which theory gives."""


class ReductionWarning(UserWarning):
    """A valid reduction with a property that its user should know of."""


class DenseWarning(UserWarning):
    """A sparse state matrix that was made dense."""


def warn(message: str, category: type[Warning]) -> None:
    """`warnings.warn` that points at the caller outside of this package."""
    level, frame = 1, sys._getframe()
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] == "lti":
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
