"""Reduction: balancing, the methods that reduce a system, and the certificate of the result."""

from lti.reduction.balancing import Balancing, balance
from lti.reduction.certificate import Claim, Reduction
from lti.reduction.controller import controller_weights
from lti.reduction.gramian_pair import GramianPair
from lti.reduction.hankel_norm import hankel_norm_approximation
from lti.reduction.interpolation import irka
from lti.reduction.method import ReductionMethod
from lti.reduction.methods import register_method
from lti.reduction.modal import modal_truncation
from lti.reduction.residualization import singular_perturbation
from lti.reduction.riccati import (
    bounded_real_gramians,
    lqg_gramians,
    positive_real_gramians,
    stochastic_gramians,
)
from lti.reduction.second_order import SecondOrderModel, second_order_truncation
from lti.reduction.truncation import balanced_truncation

__all__ = [
    "Balancing",
    "Claim",
    "GramianPair",
    "Reduction",
    "ReductionMethod",
    "SecondOrderModel",
    "balance",
    "balanced_truncation",
    "bounded_real_gramians",
    "controller_weights",
    "hankel_norm_approximation",
    "irka",
    "lqg_gramians",
    "modal_truncation",
    "positive_real_gramians",
    "register_method",
    "second_order_truncation",
    "singular_perturbation",
    "stochastic_gramians",
]
