"""Control theory first: linear systems, Gramians, Hankel singular values, certified reduction."""

from lti.balancing import Balancing, balance, balanced_truncation, singular_perturbation
from lti.discretize import bilinear
from lti.empirical import GramianFactor, input_spectrum, spectral_factor
from lti.errors import (
    CertificateError,
    DefectiveError,
    DerivativeError,
    DimensionError,
    FileError,
    LTIError,
    NonFiniteError,
    OptionError,
    OrderError,
    ReductionWarning,
    TimebaseError,
    UnstableError,
)
from lti.files import DenseWarning, load, save
from lti.gramians import controllability_gramian, gramian_factors, observability_gramian
from lti.hankel import error_bound, hankel_singular_values, order_for
from lti.hankel_approximation import hankel_norm_approximation
from lti.interop import as_statespace
from lti.modal import diagonalize, modal_truncation
from lti.norms import h2_norm, hankel_norm, hinf_norm, linf_norm
from lti.plotting import plot_error, plot_hsv, plot_reduction, plot_response
from lti.reduction import Reduction
from lti.response import frequency_response
from lti.system import DiagonalStateSpace, Labels, StateSpace

__all__ = [
    "Balancing",
    "CertificateError",
    "DefectiveError",
    "DerivativeError",
    "DenseWarning",
    "DiagonalStateSpace",
    "DimensionError",
    "FileError",
    "GramianFactor",
    "LTIError",
    "Labels",
    "NonFiniteError",
    "OptionError",
    "OrderError",
    "Reduction",
    "ReductionWarning",
    "StateSpace",
    "TimebaseError",
    "UnstableError",
    "as_statespace",
    "balance",
    "balanced_truncation",
    "bilinear",
    "controllability_gramian",
    "diagonalize",
    "error_bound",
    "frequency_response",
    "gramian_factors",
    "h2_norm",
    "hankel_norm",
    "hankel_norm_approximation",
    "hankel_singular_values",
    "hinf_norm",
    "input_spectrum",
    "linf_norm",
    "load",
    "modal_truncation",
    "observability_gramian",
    "order_for",
    "plot_error",
    "plot_hsv",
    "plot_reduction",
    "plot_response",
    "save",
    "singular_perturbation",
    "spectral_factor",
]
