"""What several test modules of compressm share."""

import pytest


@pytest.fixture
def every_state(monkeypatch):
    """Look at all states, so that what is found is exact."""
    monkeypatch.setattr("compressm.gramians.moments.SAMPLES", 10**6)
