"""Measures of a spectrum: known values, and what makes no sense."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lti
from compressm import nuclear_norm, smooth_order, tail_energy


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: tail_energy(s, 1.0), r"must lie in \(0, 1\), got 1.0"),
        (lambda s: smooth_order(s, 0.0), "level must be positive, got 0.0"),
    ],
)
def test_senseless_measures(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.ones(3))


def test_measures_of_a_known_spectrum():
    sigma = torch.tensor([[8.0, 1.0, 1.0], [4.0, 0.0, 0.0]])
    torch.testing.assert_close(nuclear_norm(sigma), torch.tensor([10.0, 4.0]))
    torch.testing.assert_close(tail_energy(sigma, 0.8), torch.tensor([2.0, 0.0]))
    torch.testing.assert_close(tail_energy(sigma, 0.81), torch.tensor([1.0, 0.0]))
    expected = torch.tensor([8 / 12 + 2 / 5, 4 / 6])
    torch.testing.assert_close(smooth_order(sigma, 0.5), expected)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=8), st.integers(1, 19))
def test_the_tail_is_what_keeping_the_energy_would_cut(values, twentieths):
    sigma = torch.tensor(sorted(values, reverse=True), dtype=torch.float64)
    energy = twentieths / 20 + 1e-6  # no sum of values meets it exactly but for rounding
    order = lti.order_for(sigma, energy=energy)
    torch.testing.assert_close(tail_energy(sigma, energy), sigma[order:].sum())
