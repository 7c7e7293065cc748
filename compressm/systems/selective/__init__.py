"""Selective layers, such as Mamba: one file for each form, and the registry of the forms."""

from compressm.systems.selective import (  # noqa: F401, each registers its forms
    gated_deltanet,
    linear_attention,
    mamba,
    mamba2,
    zamba,
)
from compressm.systems.selective.evaluate import coefficients
from compressm.systems.selective.form import (
    FORMS,
    SelectiveForm,
    form_of,
    is_selective,
    register_form,
    state_count,
)
from compressm.systems.selective.keep import keep_states_
from compressm.systems.selective.recurrence import Coefficients

__all__ = [
    "FORMS",
    "Coefficients",
    "SelectiveForm",
    "coefficients",
    "form_of",
    "is_selective",
    "keep_states_",
    "register_form",
    "state_count",
]
