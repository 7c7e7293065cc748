"""What several test modules of compressm share."""

import pytest
import torch


@pytest.fixture
def every_state(monkeypatch):
    """Look at all states, so that what is found is exact."""
    monkeypatch.setattr("compressm.gramians.moments.SAMPLES", 10**6)


@pytest.fixture
def exact(monkeypatch):
    """transformers computes its scans in single precision; here in double."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
