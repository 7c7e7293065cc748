"""SLICOT and its benchmark collection: published values, printed examples, second opinions."""

import json

import numpy as np
import pytest
from scipy.io import loadmat

import lti
from lti import StateSpace
from tests.lti.helpers import boundary, random_dense, random_ring, response
from tests.lti.oracles import oracle

# Published orders of balanced truncation, with errors measured by SLICOT's AB13DD at 1e-9; six
# digits. Rows: order, sigma_{r+1}, 2 * tail, error. Two of the errors are ours, confirmed on a fine
# grid: of building at 40 and CDplayer at 40 AB13DD misses the peak (2.27713e-7, 2.85988e-2).
PUBLISHED_ERRORS = {
    "building": [
        (2, 1.93151e-3, 1.94491e-2, 4.07685e-3),
        (4, 7.09566e-4, 1.17294e-2, 1.52716e-3),
        (6, 6.45480e-4, 8.90508e-3, 1.21057e-3),
        (10, 2.72530e-4, 4.71886e-3, 6.02511e-4),
        (20, 7.49818e-5, 6.89385e-4, 1.61488e-4),
        (31, 2.40780e-6, 2.21239e-5, 5.09433e-6),
        (40, 1.13386e-7, 7.64259e-7, 2.28260e-7),
    ],
    "CDplayer": [
        (4, 406.964, 2130.73, 726.542),
        (12, 3.66977, 30.4557, 6.37475),
        (40, 1.27338e-2, 0.285819, 2.86810e-2),
    ],
    "heat-cont": [
        (2, 1.91937e-4, 6.48866e-4, 3.55913e-4),
        (3, 1.15365e-4, 2.64992e-4, 2.56814e-4),
        (5, 1.96838e-6, 4.48257e-6, 3.69505e-6),
        (9, 2.34050e-9, 5.35271e-9, 4.28149e-9),
    ],
    "iss": [(10, 2.32390e-3, 4.56666e-2, 4.58634e-3)],
}
BENCHMARKS = list(PUBLISHED_ERRORS)
# What is left between our values and the published ones, which were computed in double precision
# too: relative to the largest.
AGREEMENT = {"building": 2e-12, "CDplayer": 1e-12, "heat-cont": 4e-11, "iss": 1e-12}


def load(data_file, name):
    data = loadmat(data_file(f"slicot/{name}.mat"))
    dense = {k: np.asarray(x.todense()) if hasattr(x, "todense") else x for k, x in data.items()}
    A, B, C = (np.asarray(dense[k], float) for k in "ABC")
    return StateSpace(A, B, C), dense


def printed(path, *shapes, skip=2):
    """The matrices of a SLICOT example's data file, given their shapes, after `skip` lines."""
    numbers = [float(x) for x in " ".join(path.read_text().splitlines()[skip:]).split()]
    matrices = []
    for shape in shapes:
        count = int(np.prod(shape))
        matrices.append(np.array(numbers[:count]).reshape(shape))
        numbers = numbers[count:]
    return matrices


@pytest.fixture(scope="session")
def anchors(data_file):
    return json.loads(data_file("slicot/anchors.json").read_text())


# ------------------------------------------------------------------ benchmark collection


@pytest.mark.parametrize("dt", [0, True])
@pytest.mark.parametrize("name", BENCHMARKS)
def test_published_hankel_values(data_file, name, dt):
    sys, data = load(data_file, name)
    sigma = lti.hankel_singular_values(sys if dt == 0 else lti.bilinear(sys, dt))
    published = data["hsv"].ravel()
    assert sigma.dtype == np.float64 and (np.diff(sigma) <= 0).all() and (sigma >= 0).all()
    loss = 1 if dt == 0 else 10  # the bilinear map rounds a system whose poles are near the circle
    assert np.abs(sigma - published).max() <= loss * AGREEMENT[name] * published[0]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_published_frequency_response(data_file, name):
    sys, data = load(data_file, name)
    w, mag = data["w"].ravel(), data["mag"]
    first = np.abs(lti.frequency_response(sys, w)[:, 0, 0])
    tiny = 1e-10 * first.max()  # published in double precision: valleys carry its rounding
    np.testing.assert_allclose(mag[:, 0], first, rtol=1e-6, atol=tiny)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_published_gramian_factors_are_ours_up_to_a_rotation(data_file, name):
    sys, data = load(data_file, name)
    P, Q = lti.controllability_gramian(sys), lti.observability_gramian(sys)
    S, R = data["S"], data["R"]
    for ours, theirs in ((P, S), (Q, R)):
        candidates = (theirs @ theirs.T, theirs.T @ theirs)
        gap = min(np.linalg.norm(ours - x) for x in candidates)
        assert gap <= 1e-9 * np.linalg.norm(ours)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_measured_norms(data_file, anchors, name):
    sys, _ = load(data_file, name)
    np.testing.assert_allclose(lti.h2_norm(sys), anchors[name]["h2"], rtol=1e-8)
    np.testing.assert_allclose(lti.hankel_norm(sys), anchors[name]["hsv10"][0], rtol=1e-10)
    if name != "iss":  # its Hamiltonian has order 540
        np.testing.assert_allclose(lti.hinf_norm(sys), anchors[name]["hinf"], rtol=1e-8)


@pytest.mark.parametrize("name", ["building", "heat-cont", "CDplayer"])
def test_measured_errors_of_balanced_truncation(data_file, anchors, name):
    sys, _ = load(data_file, name)
    balancing = lti.balance(sys)
    for order, lower, upper, error in PUBLISHED_ERRORS[name]:
        reduction = balancing.truncate(order)
        rows = zip(
            (reduction.lower_bound, reduction.error_bound, reduction.verify()),
            (lower, upper, error),
            strict=True,
        )
        for ours, published in rows:
            rounding = 2e-11 * anchors[name]["hinf"]
            np.testing.assert_allclose(ours, published, rtol=2e-5, atol=rounding)
    for order, row in anchors[name]["orders"].items():
        reduction = balancing.truncate(int(order))
        np.testing.assert_allclose(reduction.error_bound, row["bound_distinct"], rtol=1e-6)
        np.testing.assert_allclose(lti.h2_norm(sys - reduction.system), row["h2err"], rtol=1e-5)


@pytest.mark.slow
def test_the_space_station(data_file, anchors):
    sys, _ = load(data_file, "iss")
    np.testing.assert_allclose(lti.hinf_norm(sys), anchors["iss"]["hinf"], rtol=1e-8)
    for order, row in anchors["iss"]["orders"].items():
        reduction = lti.balanced_truncation(sys, int(order))
        np.testing.assert_allclose(reduction.verify(), row["bt"], rtol=1e-5)


# ------------------------------------------------------------------ printed examples


def test_example_ab09ad(data_file):
    A, B, C = printed(data_file("slicot/AB09AD.dat"), (7, 7), (7, 2), (3, 7))
    sys = StateSpace(A, B, C)
    more = [2.51387937, 2.08456252, 1.91779535, 0.7666415, 0.54728542, 0.02526614, 0.02458239]
    np.testing.assert_allclose(lti.hankel_singular_values(sys), more, atol=5e-9)
    assert lti.balanced_truncation(sys, tol=0.1).order == 5
    Ar = np.array([[1.3451, 5.0399, 0, 0, 4.5315], [-4.0214, -3.6604, 0, 0, -0.9056],
                   [0, 0, 0.5124, 1.7910, 0], [0, 0, -4.2167, -2.9900, 0],
                   [1.2402, 1.6416, 0, 0, -0.0586]])  # fmt: skip
    Br = np.array([[-0.3857, 0.3857], [-3.1753, 3.1753], [-0.7447, -0.7447], [-3.6872, -3.6872],
                   [1.8197, -1.8197]])  # fmt: skip
    Cr = np.array([[-0.6704, 0.1828, -0.6582, 0.2222, -0.0104], [0.1089, 0.4867, 0, 0, 0.8651],
                   [0.6704, -0.1828, -0.6582, 0.2222, 0.0104]])  # fmt: skip
    theirs = StateSpace(Ar, Br, Cr)
    s = boundary(theirs)
    ours = lti.balanced_truncation(sys, 5).system
    np.testing.assert_allclose(response(ours, s), response(theirs, s), atol=2e-3)
    # Order 1 has a larger error than the norm of the system, legally; order 6 attains its bound
    errors = [float(lti.balanced_truncation(sys, r).verify()) for r in range(1, 7)]
    published = [5.15654, 2.60426, 1.49662, 1.04922, 5.05323e-2, 4.91648e-2]
    np.testing.assert_allclose(errors, published, rtol=2e-5)
    np.testing.assert_allclose(lti.hinf_norm(sys), 4.232775, rtol=2e-7)


def test_example_ab13dd(data_file):
    A, B, C = printed(data_file("slicot/AB13DD.dat"), (6, 6), (6, 1), (1, 6))
    sys = StateSpace(A, B, C)
    np.testing.assert_allclose(lti.hinf_norm(sys), 5.000000001e5, rtol=1e-9)
    peak = np.abs(lti.frequency_response(sys, [1.414213562]))
    np.testing.assert_allclose(peak, 5.0e5, rtol=1e-5)


def test_example_sb03od(data_file):
    A, B = printed(data_file("slicot/SB03OD.dat"), (4, 4), (5, 4))
    X = [[1.0, 3, 2, -1], [3, 10, 5, -2], [2, 5, 6, -5], [-1, -2, -5, 7]]  # A^T X + X A = -B^T B
    Q = lti.observability_gramian((A, np.zeros((4, 1)), B))
    np.testing.assert_allclose(Q, X, atol=1e-12)


# ------------------------------------------------------------------ second opinions


@pytest.mark.parametrize("dt", [0, True])
def test_hankel_values_and_reductions_agree_with_slycot(dt):
    for n, seed in ((1, 0), (6, 1), (20, 2), (60, 3)):
        sys = random_dense(n, dt=dt, seed=seed)
        order = max(1, n // 2)
        A, B, C, hsv = oracle("ab09ad", sys.A, sys.B, sys.C, bool(dt), order)
        ours = lti.balanced_truncation(sys, order)
        assert np.abs(ours.hsv - hsv).max() <= 1e-12 * hsv[0]
        theirs, s = StateSpace(A, B, C, sys.D, dt), boundary(sys)
        scale = lti.hinf_norm(sys)
        np.testing.assert_allclose(response(ours.system, s), response(theirs, s), atol=1e-9 * scale)


@pytest.mark.parametrize("dt", [0, True])
def test_hankel_values_agree_with_slycot_at_order_200(dt):
    sys = random_dense(200, dt=dt, seed=4)
    hsv = oracle("ab09ad", sys.A, sys.B, sys.C, bool(dt), 1)[-1]
    assert np.abs(lti.hankel_singular_values(sys) - hsv).max() <= 1e-12 * hsv[0]


@pytest.mark.parametrize("dt", [0, True])
def test_hankel_values_agree_with_ctrlsys(dt):
    sys = random_dense(12, dt=dt, seed=5)
    norm, order, hsv, info = oracle("ab13ad", sys.A, sys.B, sys.C, bool(dt))
    assert info == 0 and order == 12
    assert np.abs(lti.hankel_singular_values(sys) - hsv).max() <= 1e-12 * hsv[0]
    np.testing.assert_allclose(lti.hankel_norm(sys), norm, rtol=1e-12)


def test_a_conjugate_ring_agrees_with_slycot():
    sys = random_ring(20, seed=6, conjugate=True)
    dense = sys.to_dense()
    hsv = oracle("ab09ad", dense.A, dense.B, dense.C, True, 1)[-1]
    assert np.abs(lti.hankel_singular_values(sys) - hsv).max() <= 1e-12 * hsv[0]


@pytest.mark.parametrize("dt", [0, True])
def test_gramians_agree_with_slycot(dt):
    sys = random_dense(8, dt=dt, seed=7)
    U, scale = oracle("sb03od", sys.A, sys.C, bool(dt))
    np.testing.assert_allclose(
        lti.observability_gramian(sys), U.T @ U / scale**2, rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("dt", [0, True])
def test_hinf_agrees_with_slycot(dt):
    for n, m, p, seed in ((1, 1, 1, 0), (4, 2, 3, 1), (4, 3, 1, 2), (12, 2, 2, 3), (30, 1, 4, 4)):
        sys = random_dense(n, m, p, dt=dt, seed=seed)
        norm, _ = oracle("ab13dd", sys.A, sys.B, sys.C, sys.D, bool(dt))
        np.testing.assert_allclose(lti.hinf_norm(sys), norm, rtol=1e-8)


@pytest.mark.parametrize("radius", [0.999, 1 - 1e-6, 1 - 1e-9])
def test_hinf_of_lightly_damped_rings_agrees_with_slycot(radius):
    poles = radius * np.exp(1j * np.linspace(0.1, 3.1, 6))
    sys = lti.DiagonalStateSpace(poles, np.ones((6, 1)), np.ones((1, 6)) / 2, conjugate=True)
    dense = sys.to_dense()
    norm, _ = oracle("ab13dd", dense.A, dense.B, dense.C, dense.D, True)
    np.testing.assert_allclose(lti.hinf_norm(sys), norm, rtol=1e-8 + 1e-15 / (1 - radius))
