"""Control theory first: linear systems, Gramians, Hankel singular values, certified reduction."""

from lti._moved import MOVED as _MOVED
from lti._moved import keep_old_paths as _keep_old_paths
from lti.errors import (
    CertificateError,
    DefectiveError,
    DenseWarning,
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
from lti.files import load, save
from lti.gramians import (
    GramianFactor,
    controllability_gramian,
    gramian_factors,
    input_spectrum,
    observability_gramian,
    spectral_factor,
)
from lti.hankel import error_bound, hankel_singular_values, order_for
from lti.norms import h2_norm, hankel_norm, hinf_norm, linf_norm
from lti.plotting import plot_error, plot_hsv, plot_reduction, plot_response
from lti.reduction import (
    Balancing,
    Claim,
    GramianPair,
    Reduction,
    ReductionMethod,
    balance,
    balanced_truncation,
    hankel_norm_approximation,
    modal_truncation,
    register_method,
    singular_perturbation,
)
from lti.systems import (
    DiagonalStateSpace,
    Labels,
    StateSpace,
    as_statespace,
    bilinear,
    diagonalize,
    frequency_response,
)

__all__ = [
    "Balancing",
    "CertificateError",
    "Claim",
    "DefectiveError",
    "DerivativeError",
    "DenseWarning",
    "DiagonalStateSpace",
    "DimensionError",
    "FileError",
    "GramianFactor",
    "GramianPair",
    "LTIError",
    "Labels",
    "NonFiniteError",
    "OptionError",
    "OrderError",
    "Reduction",
    "ReductionMethod",
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
    "register_method",
    "save",
    "singular_perturbation",
    "spectral_factor",
]

__getattr__ = _keep_old_paths(__name__, _MOVED)
