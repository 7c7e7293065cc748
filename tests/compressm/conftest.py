"""What several test modules of compressm share."""

from pathlib import Path

import pytest
import torch


def pytest_collection_modifyitems(items):
    """Many tests are about layers that are left alone; what warns then is tested once."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(
                pytest.mark.filterwarnings("ignore::compressm.errors.NothingRemovedWarning")
            )


@pytest.fixture
def every_state(monkeypatch):
    """Look at all states, so that what is found is exact."""
    monkeypatch.setattr("compressm.gramians.moments.SAMPLES", 10**6)


@pytest.fixture
def exact(monkeypatch):
    """transformers computes its scans in single precision; here in double."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
