"""Old names of functions, classes and arguments mean what the new ones mean."""

import copy

import numpy as np
import pytest

import compressm
import lti
from compressm import (
    Budget,
    Compressor,
    ErrorBound,
    Every,
    KeepEnergy,
    MetricDrop,
    OptionError,
    Order,
    Rollback,
    States,
    compress_,
    preview,
)
from compressm._renamed import renamed
from tests.compressm.helpers import is_unchanged, model_of, parameters_of

HSV = np.array([6.0, 3.0, 1.0])


def metric(model):
    return 1.0


def identity(order):
    return order


def test_outlook_is_preview():
    assert compressm.outlook is preview


def test_order_is_states():
    assert isinstance(Order(6), States) and Order(n_stored=6).n_stored == 6
    model = model_of()
    twin = copy.deepcopy(model)
    compress_(model, Order(6)), compress_(twin, States(6))
    assert is_unchanged(model, parameters_of(twin))


def test_tolerance_is_tol():
    assert Rollback(metric, tolerance=0.5, window=3) == Rollback(metric, 0.5, window=3)
    assert Rollback(metric, 0.5).tolerance == 0.5
    assert MetricDrop(evaluate=metric, tolerance=0.5) == MetricDrop(metric, tol=0.5)
    assert (MetricDrop(metric, 0.5).evaluate, MetricDrop(metric, 0.5).tolerance) == (metric, 0.5)


@pytest.mark.parametrize("policy", [KeepEnergy(0.8), ErrorBound(2.5), States(2), Order(2)], ids=str)
def test_slots_is_stored(policy):
    assert policy(HSV, slots=identity) == policy(HSV, stored=identity) == policy(HSV, identity) == 2


def test_slots_is_stored_in_a_budget():
    options = [HSV, HSV], [identity] * 2
    assert Budget(total=3).across(options[0], slots=options[1]) == Budget(total=3).across(*options)


@pytest.mark.parametrize(("system", "conjugate"), [("real", True), ("complex", False)])
def test_system_is_conjugate(system, conjugate):
    model = model_of()
    twin = copy.deepcopy(model)
    (event,), (other,) = (
        preview(model, [States(4)], **{name: value})
        for name, value in (("system", system), ("conjugate", conjugate))
    )
    assert str(event) == str(other) and event.layers[0].order == other.layers[0].order
    compress_(model, States(4), system=system)
    compress_(twin, States(4), conjugate=conjugate)
    assert is_unchanged(model, parameters_of(twin))
    compressor = Compressor(model_of(), policy=States(4), schedule=Every(1), system=system)
    assert compressor.options.conjugate is conjugate
    assert compressor.step().layers[0].order == other.layers[0].order


def test_an_unknown_system_is_refused():
    for wrong in ("Real", "imaginary", 1):
        with pytest.raises(OptionError, match="'real' or 'complex'"):
            compress_(model_of(), States(2), system=wrong)
        with pytest.raises(OptionError, match="'real' or 'complex'"):
            Compressor(model_of(), policy=States(2), schedule=Every(1), system=wrong)


def test_both_names_at_once_are_refused():
    @renamed(old="new")
    def f(new=1):
        return new

    assert f(old=2) == f(new=2) == f(2) == 2 and f() == 1
    with pytest.raises(lti.OptionError, match="old is the old name of new; give new alone"):
        f(old=2, new=3)
