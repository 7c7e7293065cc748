"""Reduction: balancing, the methods that reduce a system, and the certificate of the result."""

from lti.reduction.balancing import Balancing, balance, balanced_truncation, singular_perturbation
from lti.reduction.certificate import Reduction
from lti.reduction.hankel_norm import hankel_norm_approximation
from lti.reduction.modal import modal_truncation

__all__ = [
    "Balancing",
    "Reduction",
    "balance",
    "balanced_truncation",
    "hankel_norm_approximation",
    "modal_truncation",
    "singular_perturbation",
]
