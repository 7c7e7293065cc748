"""What is read from a system before a layer stores it."""

import pytest
import torch

import lti
from compressm.layers.modes import mean_lengths, one_of, read_modes, stored


def system(poles, m=2, p=3, **options):
    torch.manual_seed(0)
    n, options = len(poles), {"dt": True, "conjugate": True} | options
    B, C = (torch.randn(size, dtype=torch.complex128) for size in ((n, m), (p, n)))
    return lti.DiagonalStateSpace(torch.tensor(poles, dtype=torch.complex128), B, C, **options)


def test_of_a_pair_the_mode_in_the_upper_half_plane_is_read():
    G = system([0.5 - 0.3j, 0.2 + 0.1j, -0.4 + 0j])
    poles, B, C = read_modes(G, "a layer", 2, 3)
    assert (poles.imag >= 0).all()
    dense = G.to_dense()
    for k in range(4):
        found = (C * poles**k) @ B  # of which the real part is the impulse response
        exact = dense.C @ torch.linalg.matrix_power(dense.A, k) @ dense.B
        assert torch.allclose(found.real, exact, rtol=0, atol=1e-12)


def test_a_complex_system_is_read_as_it_is():
    G = system([0.5 - 0.3j], conjugate=False)
    for found, given in zip(read_modes(G, "a layer", 2, 3), (G.poles, G.B, G.C), strict=True):
        assert torch.equal(found, given)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (lambda: system([0.5]).to_dense(), lti.DimensionError, "a layer takes a diagonal system"),
        (lambda: system([-0.5], dt=0), lti.TimebaseError, "a layer is a discrete system"),
        (lambda: system([0.5], m=4), lti.DimensionError, "2 inputs and 3 outputs got B"),
        (lambda: system([0.5], D=torch.ones(3, 2)), lti.DimensionError, "feed-through D"),
    ],
)
def test_systems_that_no_layer_takes(given, error, message):
    with pytest.raises(error, match=message):
        read_modes(given(), "a layer", 2, 3)


def test_mean_lengths_of_rows_and_columns():
    B, C = torch.tensor([[[3.0, 4.0]], [[0.0, 1.0]]]), torch.tensor([[[0.0, 2.0], [0.0, 4.0]]])
    assert mean_lengths(B, C) == (3.0, 3.0)
    assert mean_lengths(torch.zeros(0, 1, 2), torch.zeros(1, 2, 2)) == (1.0, 1.0)


def test_a_value_that_does_not_fit_the_precision_is_named():
    with pytest.raises(lti.NonFiniteError, match="log_dt would not be finite in torch.float32"):
        stored({"log_dt": torch.tensor([1e300], dtype=torch.float64)}, torch.float32)


def test_an_unknown_option_is_named_with_the_known_ones():
    one_of("init", "lin", ("lin", "inv"))
    with pytest.raises(lti.OptionError, match="init must be 'lin' or 'inv'; got 'foo'"):
        one_of("init", "foo", ("lin", "inv"))
