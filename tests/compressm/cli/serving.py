"""What docs/serving.md takes as given."""

import numpy as np

from compressm.checkpoints.pretrained import quiet
from tests.compressm.language_models import language_model, tokens

__all__ = ["write_big"]


def write_big():
    """A language model in the folder "big", and tokens for it in text.npy."""
    with quiet():
        language_model("Mamba").save_pretrained("big")
    np.save("text.npy", tokens().numpy())
