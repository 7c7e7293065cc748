"""Options that make no sense, or contradict each other, are refused before anything is done."""

import pytest
import torch

from compressm import Compressor, ErrorBound, Every, KeepEnergy, States, compress_
from tests.compressm.helpers import lru, model_of


def test_numbers_in_place_of_a_policy_or_a_schedule_are_refused():
    model = model_of()
    with pytest.raises(ValueError, match=r"how far to cut, such as KeepEnergy\(0.99\), got 0.9"):
        compress_(model, 0.9)
    with pytest.raises(ValueError, match="how far to cut"):
        compress_(model, KeepEnergy)
    with pytest.raises(ValueError, match="when to cut"):
        Compressor(model, schedule=Every)
    with pytest.raises(ValueError, match=r"when to cut, such as At\(1_000\), got 100"):
        Compressor(model, schedule=100)


def test_an_error_bound_is_not_promised_on_observed_inputs():
    with pytest.raises(ValueError, match="promises a bound"):
        compress_(lru(), ErrorBound(1.0), gramians="input")
    with pytest.raises(ValueError, match="promises a bound"):
        Compressor(lru(), policy=ErrorBound(1.0), schedule=Every(1), gramians="input")


def test_an_optimizer_that_mixes_all_parameters_is_refused():
    model = model_of()
    optimizer = torch.optim.LBFGS(model.parameters())
    with pytest.raises(ValueError, match="one history for all"):
        Compressor(model, optimizer, policy=States(6), schedule=Every(2))
    with pytest.raises(ValueError, match="one history for all"):
        compress_(model, States(6), optimizer)
    assert [block.layer.d_state for block in model.blocks] == [16, 16]
