"""What several test modules of compressm share."""

import pytest


@pytest.fixture
def every_state(monkeypatch):
    """Look at all states, so that what is found is exact."""
    monkeypatch.setattr("compressm.empirical.SAMPLES", 10**6)
