"""Selective layers, such as Mamba: one file for each form, and the registry of the forms."""

from compressm.systems.selective import mamba, mamba2  # noqa: F401, each registers its form
from compressm.systems.selective.evaluate import coefficients
from compressm.systems.selective.form import (
    FORMS,
    Coefficients,
    SelectiveForm,
    form_of,
    is_selective,
    register_form,
    state_count,
)
from compressm.systems.selective.keep import keep_states_

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
