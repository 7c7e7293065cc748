"""Pictures: what they show is what was computed, and no system breaks them."""

import warnings
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

import lti
from lti import Labels
from lti.plotting import plot_error, plot_hsv, plot_reduction, plot_response
from tests.lti.helpers import claiming, random_dense
from tests.lti.sparse_systems import rod

matplotlib.use("agg")
STABLE = random_dense(6, 2, 2, seed=2)
RING = lti.DiagonalStateSpace([0.9j, 0.5 + 0.5j], [[1.0], [1.0]], [[1.0, 0.5]], conjugate=True)
UNSTABLE = lti.StateSpace(np.diag([1.0, -1, -2]), np.ones((3, 1)), np.ones((1, 3)))


@pytest.fixture
def ax():
    """Return axes that nobody has to close."""
    return Figure(layout="constrained").subplots()


def lines(ax):
    return {line.get_label(): line.get_xydata() for line in ax.lines}


def draw(ax):
    ax.figure.savefig("/dev/null", format="png")


# ------------------------------------------------------------------ Hankel singular values


def test_values_and_bounds(ax):
    found = lines(plot_hsv(STABLE, 2, ax))
    hsv = lti.hankel_singular_values(STABLE)
    np.testing.assert_array_equal(found["values kept"], np.transpose([[1, 2], hsv[:2]]))
    np.testing.assert_array_equal(found["values truncated"], np.transpose([[3, 4, 5, 6], hsv[2:]]))
    bounds = np.transpose([np.arange(1, 8), lti.error_bound(hsv)])
    np.testing.assert_array_equal(found["error bound"][:-1], bounds[:-1])
    assert np.isnan(found["error bound"][-1, 1])  # zero has no logarithm
    assert found["order 2"][0, 0] == 2.5  # between the last value kept and the first truncated
    both = found["error bound"][:-1][[0, 1, 5]], np.transpose([[1, 2, 6], hsv[[0, 1, 5]]])
    assert (both[0][:, 0] == both[1][:, 0]).all() and (both[0][:, 1] >= both[1][:, 1]).all()
    draw(ax)


def test_what_has_values(ax):
    reduction, balancing = lti.balanced_truncation(STABLE, 2), lti.balance(STABLE)
    expected = lines(plot_hsv(STABLE, 2, ax))
    for thing, order in ((reduction, None), (balancing, 2)):
        found = lines(plot_hsv(thing, order, ax.figure.add_subplot()))
        assert found.keys() == expected.keys()
        for name in ("values kept", "error bound"):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-9)
    assert "values" in lines(plot_hsv(STABLE, ax=ax.figure.add_subplot()))


def test_bounds_of_other_methods(ax):
    limited = lti.balanced_truncation(STABLE, 2, frequencies=(0.5, 2))
    assert "error bound" not in lines(plot_hsv(limited, ax=ax))
    half = claiming(lti.balanced_truncation(STABLE, 2), error_bound=np.array(0.125))
    bounds = lines(plot_hsv(half, ax=ax.figure.add_subplot()))["error bound"]
    np.testing.assert_array_equal(bounds[np.isfinite(bounds[:, 1])], [[3, 0.125]])


def test_infinite_values_stand_at_the_top(ax):
    reduction = lti.balanced_truncation(UNSTABLE, 2, unstable="split")
    found = lines(plot_hsv(reduction, ax=ax))
    assert found["unstable (infinite)"].tolist() == [[1, 0.97]] and len(found["values kept"]) == 1
    assert np.isfinite(ax.get_ylim()).all()
    draw(ax)


@pytest.mark.parametrize("gain", [0.0, 1.0])
def test_systems_without_values(ax, gain):
    nothing = lti.StateSpace(np.zeros((0, 0)), np.zeros((0, 1)), np.zeros((1, 0)), [[gain]])
    still = lti.StateSpace([[-1.0]], [[0.0]], [[1.0]], [[gain]])
    for sys in (nothing, still):
        plot_hsv(sys, ax=ax.figure.add_subplot())
        plot_response(sys, ax=ax.figure.add_subplot())
    draw(ax)


# ------------------------------------------------------------------ responses


def test_response(ax):
    w = np.array([0.5, 1.0])
    found = lines(plot_response(STABLE, replace(STABLE, labels=Labels("rig")), w=w, ax=ax))
    gain = np.linalg.norm(lti.frequency_response(STABLE, w), 2, axis=(1, 2))
    for name in ("system 1, 6 states", "rig, 6 states"):
        np.testing.assert_allclose(found[name], np.transpose([w, gain]))
    assert ax.get_xlabel() == "frequency [rad/s]" and ax.get_ylabel() == "largest singular value"
    draw(ax)


@pytest.mark.parametrize("dt", [0, True, 0.1])
def test_resonances_are_on_the_grid(ax, dt):
    pole = -1e-4 + 5j  # a peak of relative width 4e-5
    poles = [pole if dt == 0 else np.exp(pole * (0.1 if dt is True else dt))]
    sys = lti.DiagonalStateSpace(poles, [[1.0]], [[0.5]], dt=dt, conjugate=True)
    curve = lines(plot_response(sys, ax=ax))["system 1, 2 states"]
    assert np.nanmax(curve[:, 1]) > 0.999 * lti.hinf_norm(sys)


def test_discrete_time_ends_at_the_nyquist_frequency(ax):
    for sys, end in ((RING, np.pi), (replace(RING, dt=0.1), 10 * np.pi)):
        found = lines(plot_response(sys, ax=ax))
        assert found["Nyquist frequency"][0, 0] == pytest.approx(end)
        assert found["system 1, 4 states"][-1, 0] == pytest.approx(end, rel=1e-3)
        unit = "rad/sample" if sys.dt is True else "rad/s"
        assert ax.get_xlabel() == f"frequency [{unit}]" and ax.get_ylabel() == "gain"
        ax.clear()


@pytest.mark.parametrize("dt", [0, True])
def test_poles_on_the_boundary(ax, dt):
    poles = np.array([2j, -2j, 0, -1]) if dt == 0 else np.array([1j, -1j, 1, -1])
    b = np.ones((poles.size, 1))
    sys = lti.DiagonalStateSpace(poles, b, b.T, dt=dt)
    curve = lines(plot_response(sys, sys.to_dense(), ax=ax))["system 2, 4 states"]
    assert np.median(curve[:, 1]) > ax.get_ylim()[0]  # no infinite peak takes all the room
    draw(ax)


def test_frequencies_and_poles_at_zero(ax):
    plot_response(STABLE, w=[0.0, 0.5], ax=ax)
    delay = lti.StateSpace([[0.0]], [[1.0]], [[1.0]], dt=True)
    curve = lines(plot_response(delay, ax=ax.figure.add_subplot()))["system 1, 1 states"]
    np.testing.assert_allclose(curve[:, 1], 1)
    draw(ax)


# ------------------------------------------------------------------ errors


def test_error_within_its_bounds(ax):
    reduction = lti.balanced_truncation(STABLE, 2)
    found = lines(plot_error(reduction, ax))
    error = np.nanmax(found["error"][:, 1])
    assert error == pytest.approx(reduction.verify(), rel=0.02) and error <= reduction.verify()
    upper, lower = reduction.error_bound, reduction.lower_bound
    assert (found[f"upper bound {upper:.3g}"][:, 1] == upper).all()
    assert (found[f"lower bound {lower:.3g}"][:, 1] == lower).all()
    low, high = ax.get_ylim()
    assert low < lower and upper < high


def test_the_error_of_the_stable_parts_and_of_weighted_systems(ax):
    reduction = lti.balanced_truncation(UNSTABLE, 2, unstable="split")
    error = np.nanmax(lines(plot_error(reduction, ax))["error"][:, 1])
    assert error == pytest.approx(reduction.verify(), rel=0.02)
    weight = lti.StateSpace([[-1.0]], [[1.0]], [[1.0]])
    sys = random_dense(4, 1, 1)
    reduction = lti.balanced_truncation(sys, 1, output_weight=weight)
    error = np.nanmax(lines(plot_error(reduction, ax.figure.add_subplot()))["error"][:, 1])
    assert error == pytest.approx(reduction.verify(), rel=0.02)


def test_no_error_at_all(ax):
    with pytest.warns(lti.ReductionWarning, match="returned as it is"):
        reduction = lti.balanced_truncation(STABLE, tol=1e-30)
    plot_error(reduction, ax)
    assert [text.get_text() for text in ax.texts] == ["zero at every frequency"]
    draw(ax)


@pytest.mark.parametrize("sys", [STABLE, RING, UNSTABLE], ids=["dense", "ring", "unstable"])
def test_the_whole_picture(sys):
    figure = plot_reduction(lti.balanced_truncation(sys, 2, unstable="split"))
    assert [ax.get_title("left") for ax in figure.axes] == [
        "Hankel singular values", "Frequency response", "Error of the reduced system"]  # fmt: skip
    assert {f"original, {sys.order} states", "reduced, 2 states"} <= lines(figure.axes[1]).keys()
    figure.savefig("/dev/null", format="png")


def test_tensors_and_new_figures():
    import matplotlib.pyplot as plt
    import torch

    sys = lti.StateSpace(*(torch.tensor(x) for x in (STABLE.A, STABLE.B, STABLE.C)))
    reduction = lti.balanced_truncation(sys, 2)
    for ax in (plot_hsv(sys), plot_response(sys), plot_error(reduction)):
        draw(ax)
    plt.close("all")


def test_stacks_are_refused():
    stack = random_dense(2, stack=(3,))
    reduction = lti.balanced_truncation(stack, 1)
    for function, thing in ((plot_hsv, stack), (plot_response, stack), (plot_error, reduction)):
        with pytest.raises(lti.DimensionError, match=r"one system, got a batch of shape \(3,\)"):
            function(thing)
    with pytest.raises(lti.DimensionError, match="no system to draw; pass at least one"):
        plot_response()


# ------------------------------------------------------------------ integrators, dB, phase


def test_integrators_do_not_set_the_range(ax):
    # 1/s^2 + 1/(s^2 + .02 s + 1) + .1/(s^2 + .2 s + 100)
    second = [(0.0, 0.0, 1.0), (0.02, 1.0, 1.0), (0.2, 100.0, 0.1)]
    sys = lti.parallel(
        *(lti.StateSpace([[0, 1], [-k, -d]], [[0], [b]], [[1, 0]]) for d, k, b in second)
    )
    for turn in (np.eye(6), np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0]):
        turned = lti.StateSpace(turn.T @ sys.A @ turn, turn.T @ sys.B, sys.C @ turn)
        (curve,) = lines(plot_response(turned, ax=ax.figure.add_subplot())).values()
        assert 0.05 <= curve[0, 0] <= 0.2 and 50 <= curve[-1, 0] <= 200


def test_decibels_and_phase(ax):
    lag, w = lti.StateSpace([[-1.0]], [[1.0]], [[1.0]]), np.array([0.1, 1.0, 10.0])
    three = lti.series(lag, lag, lag)
    (curve,) = lines(plot_response(three, w=w, db=True, ax=ax)).values()
    np.testing.assert_allclose(curve[:, 1], -30 * np.log10(1 + w**2))
    assert ax.get_ylabel() == "gain [dB]" and ax.get_yscale() == "linear"
    ax = ax.figure.add_subplot()
    (curve,) = lines(plot_response(three, w=w, phase=True, db=True, ax=ax)).values()
    np.testing.assert_allclose(curve[:, 1], -3 * np.rad2deg(np.arctan(w)))
    assert ax.get_ylabel() == "phase [deg]"
    with pytest.raises(lti.DimensionError, match="the phase is that of one input and one output"):
        plot_response(lti.StateSpace([[-1.0]], [[1.0, 2.0]], [[1.0]]), phase=True, ax=ax)
    draw(ax)


def test_reductions_of_sparse_systems():
    """Nothing is made dense; of interpolation, which knows no values, the rest is drawn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", lti.DenseWarning)
        assert len(lti.plot_reduction(lti.balanced_truncation(rod(300), 3)).axes) == 3
        assert len(lti.plot_reduction(interpolated := lti.irka(rod(300), 3)).axes) == 2
    with pytest.raises(lti.DimensionError, match="computes no Hankel singular values"):
        lti.plot_hsv(interpolated)
