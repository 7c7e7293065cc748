"""G + F, G - F, -G, G F, k G: what they do to responses, forms and labels."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lti
from tests.lti.helpers import boundary, close, random_dense, response, systems

LABELS = lti.Labels(name="arm", inputs=("a", "b"), outputs=("x", "y"), states=("p", "q", "r"))


def labelled(seed=0, n=3):
    sys = random_dense(n, 2, 2, seed=seed)
    return lti.StateSpace(*sys.matrices, 0, LABELS)


@given(systems(), st.integers(0, 99))
def test_operators_act_on_responses(sys, seed):
    p, m = sys.n_outputs, sys.n_inputs
    other, s = random_dense(3, m, p, dt=sys.dt, seed=seed), boundary(sys, 20)
    after = random_dense(2, p, 3, dt=sys.dt, seed=seed)
    G, F, K = response(sys, s), response(other, s), np.arange(1.0, 1 + p * m).reshape(p, m)
    close(response(sys + other, s), G + F)
    close(response(sys - other, s), G - F)
    close(response(after * sys, s), response(after, s) @ G)
    close(response(-sys, s), -G)
    close(response(2 * sys / 4, s), G / 2)
    close(response(sys + K, s), G + K)
    close(response(K - sys, s), K - G)
    close(response(K.T * sys, s), K.T @ G)
    close(response(sys * K.T, s), G @ K.T)


def test_numbers_keep_the_form_and_the_dtype():
    ring = lti.DiagonalStateSpace([0.5j], [[1.0]], [[1.0]], conjugate=True)
    assert isinstance(-ring, lti.DiagonalStateSpace) and isinstance(
        ring * 2, lti.DiagonalStateSpace
    )
    single = lti.StateSpace(*(np.ones((1, 1), np.float32) for _ in range(4)))
    assert (np.float64(3) * single).C.dtype == np.float32
    assert (1j * ring).order == 2
    np.testing.assert_allclose((1j * ring).C, 1j * ring.to_dense().C)


def test_labels():
    G, F = labelled(1), labelled(2)
    F = replace(F, labels=replace(F.labels, states=("s", "t", "u")))
    assert (-G).labels == G.labels
    for sys in (G + F, G * F, lti.feedback(G, F)):
        assert sys.labels == lti.Labels(
            inputs=("a", "b"), outputs=("x", "y"), states=(*LABELS.states, "s", "t", "u")
        )
    assert (G + np.eye(2)).labels == G.labels
    assert (np.eye(2) * G).labels == lti.Labels("arm", inputs=("a", "b"), states=LABELS.states)
    assert (G * random_dense(1, 2, 2)).labels.states is None


def test_in_every_library(library):
    G = library.system(random_dense(3, 2, 2, seed=1, stack=(2,)))
    for sys in (G + G, G - G, G * G, -G, lti.feedback(G, G), lti.feedback(G), 1.5 * G):
        assert library.owns(*sys.matrices) and sys.batch_shape == (2,)


@pytest.mark.parametrize(("make", "error", "text"), [
    (lambda G: G + random_dense(2, 1, 1), lti.DimensionError, "outputs can be added"),
    (lambda G: G * random_dense(2, 1, 1), lti.DimensionError, "cannot follow one of 1 outputs"),
    (lambda G: G + random_dense(2, 2, 2, dt=1), lti.TimebaseError, "different time bases"),
    (lambda G: G + np.ones(2), lti.DimensionError, "a gain is a matrix or a number"),
    (lambda G: G + np.ones((3, 2)), lti.DimensionError, "cannot be added"),
    (lambda G: np.ones((2, 3)) * G, lti.DimensionError, "cannot follow 2 outputs"),
    (lambda G: G * np.ones((3, 2)), lti.DimensionError, "cannot come before 2 inputs"),
    (lambda G: lti.series(), lti.DimensionError, "at least one system"),
    (lambda G: lti.feedback(G, np.ones((3, 2))), lti.DimensionError, "needs a feedback of 2 inp"),
    (lambda G: lti.feedback(random_dense(2, 1, 2), 1.0), lti.DimensionError, "a number closes"),
    (lambda G: lti.feedback(G, sign=0), lti.OptionError, "sign is -1"),
    (lambda G: lti.feedback(0 * G + np.eye(2), -1.0), lti.OptionError, "the loop has no solution"),
    (lambda G: lti.feedback(G, random_dense(2, 2, 2, stack=(2,))), lti.DimensionError, "no loop"),
])  # fmt: skip
def test_what_does_not_fit(make, error, text):
    with pytest.raises(error, match=text):
        make(labelled())
    with pytest.raises(TypeError):
        labelled() + "a"


@given(systems(), st.integers(0, 99), st.sampled_from([-1, 1]))
def test_feedback_solves_the_loop(sys, seed, sign):
    K = 0.3 * random_dense(2, sys.n_outputs, sys.n_inputs, dt=sys.dt, seed=seed)
    try:
        loop = lti.feedback(sys, K, sign)
    except lti.OptionError:
        return
    s = boundary(sys, 20)
    G, F, Y = response(sys, s), response(K, s), response(loop, s)
    size = np.abs(G).max() * (1 + np.abs(F).max()) * (1 + np.abs(Y).max())
    np.testing.assert_allclose(Y, G + sign * G @ F @ Y, rtol=0, atol=1e-9 * max(size, 1))


def test_series_and_parallel_of_several():
    one, two, three = (random_dense(2, 2, 2, seed=k) for k in range(3))
    s = boundary(one, 20)
    X, Y, Z = (response(x, s) for x in (one, two, three))
    close(response(lti.series(one, two, three), s), Z @ Y @ X)
    close(response(lti.parallel(one, two, three), s), X + Y + Z)


@pytest.mark.parametrize("gain", [2.0, np.array([[2.0]])])
def test_a_gain_closes_the_loop(gain):
    loop = lti.feedback(([[0.0]], [[1.0]], [[1.0]]), gain)
    assert loop.order == 1
    np.testing.assert_allclose(loop.A, [[-2.0]])


def test_names_that_would_stand_twice_are_left_out():
    sys = labelled()
    square = lti.StateSpace([[-1.0]], [[1.0]], [[1.0]], labels=lti.Labels(states=["x"]))
    for joined in (sys + sys, square * square, lti.feedback(square, square)):
        assert joined.labels.states is None
        assert joined.to_control().nstates == joined.order
    other = lti.StateSpace([[-1.0]], [[1.0]], [[1.0]], labels=lti.Labels(states=["y"]))
    assert lti.feedback(square, other).labels.states == ("x", "y")


@pytest.mark.parametrize("zero", [0, 0.0, 0j, np.float64(0)])
def test_no_system_is_divided_by_zero(zero):
    with pytest.raises(lti.OptionError, match="divided by zero"):
        labelled() / zero


def test_a_gain_by_its_rows():
    sys = lti.StateSpace([[-1.0]], [[1.0]], [[1.0]])
    assert np.allclose(lti.feedback(sys, [[2.0]]).A, -3.0)
