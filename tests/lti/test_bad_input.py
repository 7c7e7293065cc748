"""What is no system, no value or no file is refused in a sentence, as a typed error."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.signal
import torch

import lti
from lti.cli import main
from tests.conftest import ROOT

ONE = [[-1.0]], [[1.0]], [[1.0]]
HUGE = 10**400


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: lti.StateSpace(None, [[1.0]], [[1.0]]), lti.DimensionError, "A is None"),
        (lambda: lti.StateSpace([[-1.0]], None, [[1.0]]), lti.DimensionError, "B is None"),
        (lambda: lti.StateSpace([[1.0, 2.0], [3.0]], *ONE[1:]), lti.DimensionError, "rows of"),
        (
            lambda: lti.StateSpace(np.ma.masked_array([[-1.0]], mask=[[True]]), *ONE[1:]),
            lti.DimensionError,
            "masked array",
        ),
        (lambda: lti.StateSpace(*ONE, dt=HUGE), lti.TimebaseError, "not a time base"),
        (lambda: lti.balanced_truncation(ONE, tol=HUGE), lti.OrderError, "tol must be a finite"),
        (lambda: lti.hinf_norm(ONE, rtol=HUGE), lti.OptionError, "rtol must be a finite"),
        (lambda: lti.load(None), lti.FileError, "None is no path"),
        (lambda: lti.save(None, ONE), lti.FileError, "None is no path"),
    ],
)
def test_it_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("hsv", [[1.0, np.nan], [1.0, 2.0], [1.0, -1.0], [np.nan], 3.0])
def test_what_are_no_singular_values_is_refused(hsv):
    for function in (lti.error_bound, lambda x: lti.order_for(x, 0.1)):
        with pytest.raises(lti.OptionError, match="non-negative and descending"):
            function(np.asarray(hsv))


def test_values_of_kept_states_may_be_infinite():
    assert lti.error_bound(np.array([np.inf, 2.0, 1.0]))[1] == 6.0


@pytest.mark.parametrize(
    "static",
    [
        scipy.signal.TransferFunction(2, 1),
        scipy.signal.ZerosPolesGain([], [], 2.0),
        scipy.signal.TransferFunction(2, 1, dt=0.5),
    ],
    ids=["tf", "zpk", "discrete"],
)
def test_a_static_gain_of_scipy_has_no_states(static):
    sys = lti.as_statespace(static)
    assert sys.order == 0 and lti.hinf_norm(static) == 2.0 and lti.h2_norm(sys) >= 0
    if not sys.is_discrete:
        weighted = lti.balanced_truncation(
            (np.diag([-1.0, -5.0]), np.ones((2, 1)), np.ones((1, 2))), 1, input_weight=static
        )
        assert weighted.system.order == 1


def test_an_integrator_of_scipy_keeps_its_state():
    assert lti.as_statespace(scipy.signal.TransferFunction([1.0], [1.0, 0.0])).order == 1


@pytest.mark.parametrize("value, read", [(True, True), (False, False), (1, True), (0, False)])
def test_a_file_says_whether_modes_come_in_pairs(tmp_path, value, read):
    record = {"poles": [[-1.0, 1.0]], "B": [[1.0]], "C": [[1.0]], "dt": 0, "conjugate": value}
    (tmp_path / "sys.json").write_text(json.dumps(record))
    assert lti.load(tmp_path / "sys.json").conjugate is read


@pytest.mark.parametrize("value", ["false", "true", 2, [True, False]])
def test_what_is_no_truth_value_is_refused(tmp_path, value):
    record = {"poles": [[-1.0, 1.0]], "B": [[1.0]], "C": [[1.0]], "conjugate": value}
    (tmp_path / "sys.json").write_text(json.dumps(record))
    with pytest.raises(lti.FileError, match="save true or false"):
        lti.load(tmp_path / "sys.json")


def test_an_empty_time_base_in_a_file_is_none(tmp_path):
    np.savez(tmp_path / "sys.npz", A=[[-1.0]], B=[[1.0]], C=[[1.0]], dt=np.empty(0))
    assert lti.load(tmp_path / "sys.npz").dt == 0


def test_a_conjugate_pair_is_two_poles(tmp_path, capsys):
    pair = lti.DiagonalStateSpace([1.0 + 2j], [[1.0]], [[1.0]], dt=0, conjugate=True)
    lti.save(tmp_path / "pair.json", pair)
    main(["info", str(tmp_path / "pair.json")])
    assert "2 poles on or beyond" in " ".join(capsys.readouterr().out.split())


def tensors(change=lambda x: x):
    return tuple(change(torch.tensor(x, dtype=torch.float64)) for x in ONE)


FUNCTIONS = [
    lti.hankel_singular_values,
    lti.h2_norm,
    lti.hinf_norm,
    lti.linf_norm,
    lti.controllability_gramian,
    lambda sys: lti.balanced_truncation(sys, 1).system.A,
]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    "change, message",
    [
        (lambda x: x.to("meta"), "meta device"),
        (lambda x: x.to_sparse(), "sparse; pass .to_dense"),
        (lambda x: torch.nested.nested_tensor([x, x]), "nested"),
    ],
    ids=["meta", "sparse", "nested"],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_tensors_without_plain_numbers_are_refused(function, change, message):
    with pytest.raises(lti.DimensionError, match=message):
        function(tensors(change))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize("function", FUNCTIONS)
def test_vmap_and_forward_derivatives_are_refused(function):
    A, B, C = tensors()
    with pytest.raises(lti.DimensionError, match="without vmap"):
        torch.vmap(lambda x: function((x, B, C)))(torch.stack([A, A]))
    with pytest.raises(lti.DerivativeError, match="forward mode"):
        torch.func.jvp(lambda x: function((x, B, C)), (A,), (A,))
    if function is not FUNCTIONS[-1]:
        torch.func.jacrev(lambda x: function((x, B, C)))(A)


@pytest.mark.parametrize("function", FUNCTIONS[:-1])
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_results_beyond_single_precision_are_refused(function, library):
    A, B, C = (np.array(x, np.float32) for x in ONE)
    sys = [A, B * np.float32(1e30), C * np.float32(1e30)]
    if library == "torch":
        sys = [torch.tensor(x) for x in sys]
    with pytest.raises(lti.NonFiniteError, match="beyond the range of single precision"):
        function(tuple(sys))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("diagonal", [False, True])
def test_results_beyond_double_precision_are_refused(function, diagonal):
    big = [[1e200]]
    sys = lti.DiagonalStateSpace([-1.0], big, big, dt=0) if diagonal else (ONE[0], big, big)
    with pytest.raises(lti.NonFiniteError, match="beyond the range of double precision"):
        function(sys)


@pytest.mark.parametrize("b, c", [(1e-200, 1.0), (1e160, 1.0), (1e160, 1e-200), (1e-160, 1e300)])
@pytest.mark.parametrize("dt", [0, True])
def test_magnitudes_of_ports_do_not_matter(b, c, dt):
    A = np.array([[-0.5, 0.2], [0.1, -0.4]])
    B, C = np.ones((2, 1)), np.ones((1, 2))
    one, other = lti.StateSpace(A, B, C, None, dt), lti.StateSpace(A, b * B, c * C, None, dt)
    for norm in (lti.h2_norm, lti.hinf_norm, lti.hankel_singular_values):
        np.testing.assert_allclose(norm(other), b * norm(one) * c, rtol=1e-12)


def test_a_large_given_factor_keeps_the_order():
    A, B, C = np.diag([-1.0, -2.0]), np.ones((2, 1)), np.ones((1, 2))
    for size in (1e-300, 1.0, 1e300):
        given = lti.balance((A, B, C), controllability=size * np.eye(2))
        assert given.truncate(1).order == 1 and given.minimal_order == 2


@pytest.mark.parametrize("rate", [1e-300, 1e-154, 1e154, 1e300])
def test_the_unit_of_time_does_not_make_a_system_unstable(rate):
    A = np.array([[-1.0, 2.0, 0.0], [-2.0, -1.0, 1.0], [0.0, 0.5, -3.0]])
    B, C = np.ones((3, 1)), np.array([[1.0, 2.0, -1.0]])
    balancing = lti.balance((rate * A, B, C), unstable="split")
    assert balancing.smallest_order == 0
    expected = lti.hankel_singular_values((A, B, C))
    np.testing.assert_allclose(balancing.hsv * rate, expected, rtol=1e-9)
    assert balancing.truncate(1).verify() > 0


def test_frequencies_are_real_numbers():
    for w in (None, "abc", [HUGE], [1j], [True]):
        with pytest.raises(lti.DimensionError, match="real frequencies"):
            lti.frequency_response(ONE, w)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_an_output_that_is_full_is_a_sentence(tmp_path):
    path = tmp_path / "sys.json"
    lti.save(path, lti.StateSpace(*ONE))
    for command in (["info", path], ["reduce", path, "--order", "1", "-o", tmp_path / "o.json"]):
        with open("/dev/full", "w") as full:
            found = subprocess.run(
                [sys.executable, "-m", "lti.cli", *command],
                stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT,
            )  # fmt: skip
        assert found.returncode == 1
        assert found.stderr.startswith("lti: error: the output cannot be written")
        assert "Traceback" not in found.stderr
