"""From continuous poles to discrete ones and back."""

import cmath

import pytest
import torch

from compressm.layers.sampling import DISCRETIZATIONS

POINTS = [-1e-12 + 1e-3j, -0.3 + 1j, -2.0 + 0j, -0.01 - 3j]


@pytest.mark.parametrize("name", DISCRETIZATIONS)
@pytest.mark.parametrize("w", POINTS)
def test_a_pole_comes_back_with_its_digits(name, w):
    there, back = DISCRETIZATIONS[name]
    p, _ = there(torch.tensor([w], dtype=torch.complex128))
    found = back(p, torch.finfo(torch.float64).tiny).item()
    assert abs(p.item()) < 1
    assert found.real == pytest.approx(w.real, rel=1e-3)  # as small as it is
    assert found == pytest.approx(w, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("w", POINTS)
def test_the_gain_of_a_step_input_is_that_of_the_continuous_mode(w):
    """x' = w x + u from 0, u = 1: with a hold, x(1) = (exp(w) - 1) / w exactly."""
    p, gain = (x.item() for x in DISCRETIZATIONS["zoh"][0](torch.tensor(w, dtype=torch.complex128)))
    assert p == pytest.approx(cmath.exp(w)) and gain * w == pytest.approx(p - 1, rel=1e-6)
    p, gain = (
        x.item() for x in DISCRETIZATIONS["bilinear"][0](torch.tensor(w, dtype=torch.complex128))
    )
    assert p - 1 == pytest.approx(w / 2 * (p + 1)) and gain == pytest.approx(1 + (p - 1) / 2)


@pytest.mark.parametrize("name", DISCRETIZATIONS)
def test_a_pole_at_zero_stays_finite(name):
    there, back = DISCRETIZATIONS[name]
    w = back(torch.zeros(1, dtype=torch.complex128), torch.finfo(torch.float32).tiny)
    assert torch.isfinite(torch.view_as_real(w)).all()
    assert there(w)[0].abs().item() < 1e-30
