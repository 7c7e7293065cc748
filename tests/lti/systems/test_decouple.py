"""W A T = diag(A_1, A_2), whatever the units of the states."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lti.systems.decouple import block_sizes, decouple
from lti.systems.schur import schur_form
from tests.lti.helpers import close, random_dense


@given(st.integers(1, 12), st.integers(0, 10**6), st.booleans())
def test_two_groups_are_taken_apart(n, seed, is_complex):
    rng = np.random.default_rng(seed)
    A = random_dense(n, seed=seed, is_complex=is_complex).A
    A = A * (rng.random((n, n)) < 0.4)  # several irreducible blocks
    form = schur_form(A)
    first = form.poles.real > np.median(form.poles.real)
    T, W, lost = decouple(form, first)
    k = np.count_nonzero(first)
    turned, size = W @ A @ T, lost / 2.0**-52 * (1 + np.abs(A).max())
    close(W @ T, np.eye(n), 1e-12 * size)
    assert abs(turned[:k, k:]).max(initial=0.0) < 1e-13 * size
    assert abs(turned[k:, :k]).max(initial=0.0) < 1e-13 * size
    assert T.dtype == A.dtype
    if lost < 1e-12:
        poles = np.linalg.eigvals(turned[:k, :k])
        np.testing.assert_allclose(
            np.sort_complex(poles), np.sort_complex(form.poles[first]), atol=1e-7
        )


@pytest.mark.parametrize("coupling", [1e4, 1e10, 1e40])
def test_no_rounding_passes_through_a_chain(coupling):
    """The poles of a triangular A are known, and so is every digit of its separation."""
    poles = np.array([-1.0, 3.0, -2.0, 5.0])
    A = np.diag(poles) + np.diag(np.full(3, coupling), 1)
    T, W, lost = decouple(schur_form(A), poles > 0)
    assert lost < 1e-14
    turned = W @ A @ T
    np.testing.assert_allclose(np.diag(turned), [3, 5, -1, -2], rtol=1e-14)
    d = coupling ** np.array([-1.0, -3.0, 0.0, -2.0])  # units in which the couplings are 1
    own = turned / d[:, None] * d
    assert abs(own[:2, 2:]).max() < 1e-12 and abs(own[2:, :2]).max() < 1e-12


def test_the_size_of_a_pole_is_that_of_its_block():
    A = np.zeros((3, 3))
    A[0, 0], A[0, 2], A[1:, 1:] = -1e-9, 1e9, [[0.0, 1.0], [-4.0, 0.0]]
    form = schur_form(A)
    sizes = dict(zip(form.poles.imag.round(6), block_sizes(form), strict=True))
    assert sizes[0.0] == 1e-9
    np.testing.assert_allclose([sizes[2.0], sizes[-2.0]], np.sqrt(8))
