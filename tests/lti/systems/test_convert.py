"""Systems of python-control and scipy.signal, and tuples: in, and out again."""

import control
import numpy as np
import pytest
import scipy.signal
import torch

import lti
from lti import DiagonalStateSpace, Labels, StateSpace
from tests.lti.helpers import boundary, random_dense, random_ring, response

A, B, C, D = np.array([[-1.0, 1], [0, -3]]), np.ones((2, 1)), np.ones((1, 2)), np.ones((1, 1))


def assert_is(sys, dt, matrices=(A, B, C, D)):
    assert type(sys) is StateSpace and sys.dt == dt and (sys.dt is True) == (dt is True)
    for ours, theirs in zip((sys.A, sys.B, sys.C, sys.D), matrices, strict=True):
        assert isinstance(ours, np.ndarray)
        np.testing.assert_array_equal(ours, theirs)


def test_systems_pass_as_they_are():
    for sys in (random_dense(2), random_ring(2)):
        assert lti.as_statespace(sys) is sys and lti.as_statespace(sys, dt=0.5) is sys


def test_tuples():
    assert_is(lti.as_statespace((A, B, C)), 0, (A, B, C, 0 * D))
    assert_is(lti.as_statespace([A, B, C, D]), 0)
    assert_is(lti.as_statespace((A, B, C, D), dt=0.1), 0.1)
    assert_is(lti.as_statespace((A, B, C, D), dt=True), True)
    assert_is(lti.as_statespace((A, B, C, D, 0.2)), 0.2)
    assert_is(lti.as_statespace((A, B, C, None, True), dt=0.5), True, (A, B, C, 0 * D))
    assert_is(lti.as_statespace((A.tolist(), B.tolist(), C.tolist())), 0, (A, B, C, 0 * D))
    tensors = lti.as_statespace(tuple(torch.from_numpy(x) for x in (A, B, C)))
    assert isinstance(tensors.A, torch.Tensor)


@pytest.mark.parametrize("dt", [0, True, 0.25])
def test_control_state_space(dt):
    assert_is(lti.as_statespace(control.StateSpace(A, B, C, D, dt)), dt)
    assert_is(lti.as_statespace(control.StateSpace(A, B, C, D, dt), dt=0.7), dt)


def test_control_without_a_time_base():
    sys = control.StateSpace(A, B, C, D, None)
    with pytest.raises(lti.TimebaseError, match="dt=None, neither continuous nor discrete; set"):
        lti.as_statespace(sys)
    assert_is(lti.as_statespace(sys, dt=0.5), 0.5)
    assert_is(lti.as_statespace(sys, dt=0), 0)


@pytest.mark.parametrize("dt", [0, True, 0.25])
def test_control_transfer_function(dt):
    theirs = control.TransferFunction([2.0, 1], [1, 0.5, 0.06], dt)
    ours = lti.as_statespace(theirs)
    assert ours.dt == dt and ours.order == 2
    s = boundary(StateSpace(ours.A / 2, ours.B, ours.C, None, dt), 30)
    np.testing.assert_allclose(response(ours, s)[:, 0, 0], theirs(s), rtol=1e-10)


@pytest.mark.parametrize("dt", [None, 0.25])
def test_scipy_signal(dt):
    keywords = {} if dt is None else {"dt": dt}
    assert_is(lti.as_statespace(scipy.signal.StateSpace(A, B, C, D, **keywords)), dt or 0)
    transfer = scipy.signal.TransferFunction([1.0], [1.0, 0.5], **keywords)
    zeros = scipy.signal.ZerosPolesGain([], [-0.5], 1.0, **keywords)
    for theirs in (transfer, zeros):
        ours = lti.as_statespace(theirs)
        assert ours.dt == (dt or 0)
        np.testing.assert_allclose(response(ours, [1.0])[0, 0, 0], 1 / 1.5)


def test_scipy_discrete_without_a_sampling_time():
    assert lti.as_statespace(scipy.signal.StateSpace(A, B, C, D, dt=True)).dt is True


@pytest.mark.parametrize("dt", [0, True, 0.25])
def test_there_and_back(dt):
    assert_is(lti.as_statespace(StateSpace(A, B, C, D, dt).to_control()), dt)
    ring = random_ring(3, 2, 2, seed=1, conjugate=True)
    back = lti.as_statespace(ring.to_control())
    s = boundary(ring, 20)
    np.testing.assert_allclose(response(back, s), response(ring, s), rtol=1e-11)


def test_tensors_go_to_control():
    sys = StateSpace(*(torch.from_numpy(x) for x in (A, B, C, D)))
    assert_is(lti.as_statespace(sys.to_control()), 0)
    learned = StateSpace(*(torch.from_numpy(x).requires_grad_() for x in (A, B, C, D)))
    assert isinstance(learned.to_control().A, np.ndarray)


def test_complex_systems_do_not_lose_their_imaginary_part():
    with pytest.raises(
        lti.DimensionError, match="casts complex systems to real, got dtype complex"
    ):
        random_dense(3, is_complex=True).to_control()


def test_stacks_do_not_go_to_control():
    with pytest.raises(
        lti.DimensionError, match=r"no batches, got one of shape \(3,\); convert each"
    ):
        random_dense(2, stack=(3,)).to_control()


@pytest.mark.parametrize("thing", [1.0, "abc", None, np.eye(2), object(), {"A": A}])
def test_what_is_no_system(thing):
    with pytest.raises(lti.DimensionError, match=f"a {type(thing).__name__} is not a system; pass"):
        lti.as_statespace(thing)


@pytest.mark.parametrize("count", [0, 1, 2, 6])
def test_tuples_of_a_wrong_length(count):
    with pytest.raises(lti.DimensionError, match=f"a tuple of {count} entries is not a system"):
        lti.as_statespace((A,) * count)


def test_every_function_opens_its_door():
    theirs = control.StateSpace(A, B, C, 0 * D)
    ours = StateSpace(A, B, C)
    for function in (lti.hankel_singular_values, lti.h2_norm, lti.hinf_norm, lti.hankel_norm,
                     lti.controllability_gramian, lti.observability_gramian):  # fmt: skip
        for system in (theirs, (A, B, C), scipy.signal.StateSpace(A, B, C, 0 * D)):
            np.testing.assert_array_equal(function(system), function(ours))
    assert lti.balance(theirs).minimal_order == lti.balanced_truncation((A, B, C), 2).order == 2
    assert lti.bilinear(theirs).order == lti.diagonalize(theirs)[0].order == 2
    assert lti.frequency_response((A, B, C), [1.0]).shape == (1, 1, 1)
    assert len(lti.gramian_factors(theirs)) == 2
    assert isinstance(lti.as_statespace(DiagonalStateSpace([0.5], [[1.0]], [[1.0]])),
                      DiagonalStateSpace)  # fmt: skip


# ------------------------------------------------------------------ labels

LABELS = Labels("cart", ("force",), ("place",), ("x", "v"))


def named(dt=0):
    return control.StateSpace(
        A, B, C, D, dt, name="cart", inputs="force", outputs=["place"], states=["x", "v"]
    )


def test_labels_of_control_go_there_and_back():
    sys = lti.as_statespace(named())
    assert sys.labels == LABELS
    back = sys.to_control()
    assert (back.name, back.input_labels, back.output_labels, back.state_labels) == (
        "cart", ["force"], ["place"], ["x", "v"])  # fmt: skip
    transfer = control.TransferFunction([1.0], [1, 2], name="lag", inputs="force")
    assert lti.as_statespace(transfer).labels == Labels("lag", ("force",))


def test_names_that_control_made_up_are_none():
    assert lti.as_statespace(control.StateSpace(A, B, C, D)).labels == Labels()
    assert lti.as_statespace(control.StateSpace(A, B, C, D).copy(name="sys")).labels.name == "sys"
    sys = StateSpace(A, B, C).to_control()
    assert sys.input_labels == ["u[0]"] and sys.state_labels == ["x[0]", "x[1]"]


def test_labels_are_of_as_many_as_there_are():
    for signal, count in (("inputs", 1), ("outputs", 1), ("states", 2)):
        for make in (StateSpace, lambda _, B, C, **k: DiagonalStateSpace([-1, -2], B, C, **k)):
            with pytest.raises(
                lti.DimensionError, match=rf"{count} {signal} but 3 labels .*; pass"
            ):
                make(A, B, C, labels=Labels(**{signal: ["a", "b", "c"]}))
    with pytest.raises(lti.DimensionError, match="2 states but 1 labels"):
        DiagonalStateSpace([0.5], [[1]], [[1]], conjugate=True, labels=Labels(states=["x"]))
    assert Labels(inputs="force") == Labels(inputs=["force"]) == Labels(inputs=("force",))


def test_labels_survive_what_keeps_the_states():
    ports = LABELS.without_states()
    assert ports == Labels("cart", ("force",), ("place",))
    for conjugate, poles in ((False, [0.5, 0.25j]), (True, [0.5j])):
        b = np.ones((len(poles), 1))
        ring = DiagonalStateSpace(poles, b, b.T, conjugate=conjugate, labels=LABELS)
        assert ring.double().labels == ring.to_dense().labels == LABELS
        assert ring.closed().labels == (ports if conjugate else LABELS)
        assert lti.diagonalize(ring)[0].order == 2
    dense = StateSpace(A, B, C, labels=LABELS)
    assert dense.double().labels == LABELS
    assert (dense - StateSpace(A, B, C)).labels == Labels(None, ("force",), ("place",))
    assert (StateSpace(A, B, C) - dense).labels == Labels(None, ("force",), ("place",))


def test_labels_of_reduced_systems():
    ports, unstable = LABELS.without_states(), StateSpace(A + 2 * np.eye(2), B, C, labels=LABELS)
    stable = lti.as_statespace(named())
    for reduced in (
        lti.balanced_truncation(stable, 1),
        lti.balanced_truncation(stable, 1, method="balancing-free"),
        lti.singular_perturbation(stable, 1),
        lti.balanced_truncation(unstable, 1, unstable="split"),
    ):
        assert reduced.system.labels == ports
