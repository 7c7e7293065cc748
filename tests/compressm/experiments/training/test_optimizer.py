"""Learning rates of a run."""

from dataclasses import replace

import pytest

from compressm.experiments.training.optimizer import rate
from tests.compressm.experiments.helpers import TINY


def test_rates_start_and_end_at_the_floor():
    settings = replace(TINY, steps=1000, lr=1.0, lr_floor=0.1)
    factor = rate(settings)
    assert factor(0) == pytest.approx(0.109) and factor(99) == 1.0
    assert factor(1000) == pytest.approx(0.1)
    assert rate(replace(settings, lr_schedule="constant"))(7) == 1.0
