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


@pytest.mark.parametrize("value", [0, -1, 2.0, True])
def test_a_multiple_that_is_no_count_is_refused(value):
    with pytest.raises(ValueError, match="multiple_of must be an integer of at least 1"):
        compress_(model_of(), KeepEnergy(0.9), multiple_of=value)


def test_fewer_states_than_the_multiple_are_refused():
    with pytest.raises(ValueError, match="leaves no size to store, which must be a multiple of 4"):
        compress_(model_of(), States(3), multiple_of=4)


def test_an_unknown_gramian_type_is_refused_with_the_known_ones():
    with pytest.raises(
        ValueError,
        match="'model', 'input', 'data' or 'output', or an instance of a GramianType, got 'x'",
    ):
        compress_(model_of(), States(3), gramians="x")


def test_conjugate_must_be_true_or_false():
    with pytest.raises(ValueError, match="conjugate must be True .* got 'dense'"):
        compress_(model_of(), States(3), conjugate="dense")
