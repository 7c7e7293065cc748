"""What is no system, no value or no file is refused in a sentence, as a typed error."""

import json

import numpy as np
import pytest
import scipy.signal

import lti
from lti.cli import main

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
