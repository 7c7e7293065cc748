"""Data sets: batches that a seed determines, and what cannot be one."""

import numpy as np
import pytest
import torch

from compressm import DataError
from compressm.experiments.data import batches
from compressm.experiments.data.dataset import standardized


def test_an_epoch_is_a_permutation_that_the_seed_decides():
    one, two, other = ([*map(torch.Tensor.tolist, batches(20, 6, 6, s))] for s in (0, 0, 1))
    assert one == two != other
    first, second = sum(one[:3], []), sum(one[3:], [])
    assert len(set(first)) == len(set(second)) == 18
    assert first != second


@pytest.mark.parametrize("n_train, n_test", [(0, 3), (3, 0), (3, 3)])
def test_an_empty_part_or_a_constant_one_is_refused(n_train, n_test):
    x, x_test = np.zeros((n_train, 4, 1)), np.zeros((n_test, 4, 1))
    with pytest.raises(DataError, match=f"own: {n_train} sequences to train, {n_test} to test"):
        standardized("own", x, np.zeros(n_train), x_test, np.zeros(n_test))
