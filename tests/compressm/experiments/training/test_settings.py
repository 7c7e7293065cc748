"""Settings: numbers out of range are refused."""

import pytest

from compressm.experiments.training import Settings


def test_settings_are_checked_in_python_too():
    with pytest.raises(ValueError, match="d_state must be at least 1, got 0"):
        Settings(d_model=1, d_state=0, n_layers=1, steps=1, batch_size=1, lr=1.0)
