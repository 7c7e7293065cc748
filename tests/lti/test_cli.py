"""The command line: what it prints and writes, and one line on stderr where it cannot."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import lti
from lti import Labels, cli
from lti.cli import main, reduce, tables
from lti.files import load, save
from lti.reduction import methods
from lti.reduction.truncation import TRUNCATION
from tests.lti.helpers import random_dense
from tests.lti.sparse_systems import rod

UNSTABLE = lti.StateSpace(np.diag([1.0, -1, -2]), np.ones((3, 1)), np.ones((1, 3)))


@pytest.fixture
def model(tmp_path):
    """Return the path of a system of 8 states with labels."""
    path = tmp_path / "model.mat"
    sys = random_dense(8, 2, 2, seed=1)
    save(path, replace(sys, B=100 * sys.B, labels=Labels("rig", ("force", "wind"))))
    return path


@pytest.fixture(params=[True, False], ids=["rich", "plain"])
def rich(request, monkeypatch):
    """With and without the package that draws the tables."""
    monkeypatch.setattr(tables, "_has_rich", lambda: request.param)


def run(capsys, *arguments):
    code = main([str(x) for x in arguments])
    return code, *capsys.readouterr()


def rows(out):
    """First cell to the other ones; cells are two spaces apart."""
    split = (
        [cell.strip() for cell in line.split("  ") if cell.strip()] for line in out.split("\n")
    )
    return {cells[0]: cells[1:] for cells in split if cells}


def refused(capsys, *arguments):
    code, out, err = run(capsys, *arguments)
    assert code == 2 and out == "" and err.startswith("lti: error: ") and err.count("\n") == 1
    return err


# ------------------------------------------------------------------ info


@pytest.mark.usefixtures("rich")
def test_info(capsys, model):
    code, out, err = run(capsys, "info", model)
    assert code == 0 and err == "" and "model.mat, rig" in out
    sys, found = load(model), rows(out)
    assert found["states"] == ["8"] and found["inputs, outputs"] == ["2, 2"]
    assert found["time"] == ["continuous"]
    assert found["stability"][0].startswith("stable; nearest to the imaginary axis: ")
    for name, norm in (("H2", lti.h2_norm), ("H-infinity", lti.hinf_norm),
                       ("Hankel", lti.hankel_norm)):  # fmt: skip
        assert found[f"{name} norm"] == [f"{norm(sys):.4g}"]
    hsv = lti.hankel_singular_values(sys)
    bound = lti.error_bound(hsv, 3)
    assert found["3"] == [f"{x:.4g}" for x in (hsv[3], bound, bound / hsv[0])]
    order = lti.order_for(hsv, 1e-2, relative=True)
    assert found["1e-02"] == [str(order), f"{lti.error_bound(hsv, order):.4g}"]


@pytest.mark.parametrize(
    ("poles", "dt", "text"),
    [
        ([-2, -0.5], 0, "stable; nearest to the imaginary axis: -0.5, 0.5 away"),
        ([0.5j, -0.9], True, "stable; nearest to the unit circle: -0.9, 0.1 away"),
        ([1j, -2j], 0.1, "2 poles on or beyond the unit circle, the worst 0 - 2j, 1 away"),
        ([], 0, "stable, without poles"),
    ],
)  # fmt: skip
def test_stability(capsys, tmp_path, poles, dt, text):
    b = np.ones((len(poles), 1))
    save(tmp_path / "x.npz", lti.DiagonalStateSpace(poles, b, b.T, [[1.0]], dt))
    code, out, _ = run(capsys, "info", tmp_path / "x.npz")
    assert code == 0 and text in " ".join(out.split())
    time = "continuous" if dt == 0 else "discrete" + ", sampling time 0.1" * (dt is not True)
    assert rows(out)["time"] == [time]


def test_info_of_a_system_with_constraints(capsys, data_file):
    """Index 3; its poles are too close to each other for a few Arnoldi steps."""
    code, out, _ = run(capsys, "info", data_file("sparse/msd_600_index3.mat"))
    assert code == 0 and "stable, no pole is known exactly" in " ".join(out.split())


def test_info_of_an_unstable_system(capsys, tmp_path):
    save(tmp_path / "x.npz", UNSTABLE)
    code, out, _ = run(capsys, "info", tmp_path / "x.npz")
    stable = lti.StateSpace(np.diag([-1.0, -2]), np.ones((2, 1)), np.ones((1, 2)))
    assert code == 0 and "unstable: 1 poles on or beyond" in out
    assert rows(out)["Hankel norm of the stable part"] == [f"{lti.hankel_norm(stable):.4g}"]
    assert "0" not in rows(out) and rows(out)["1"][0] == f"{lti.hankel_norm(stable):.4g}"


# ------------------------------------------------------------------ reduce


@pytest.mark.usefixtures("rich")
def test_reduce(capsys, model, tmp_path):
    code, out, err = run(capsys, "reduce", model, "--order", 3, "-o", tmp_path / "small.json")
    assert code == 0 and err == "" and "8 -> 3 states, balanced truncation" in out
    sys, found = load(model), rows(out)
    expected = lti.balanced_truncation(sys, 3)
    norm = expected.hsv[0]
    for name, x in (("best possible", expected.lower_bound), ("measured", expected.verify()),
                    ("upper bound", expected.error_bound)):  # fmt: skip
        assert found[name] == [f"{x:.4g}", f"{x / norm:.4g}"]
    small = load(tmp_path / "small.json")
    np.testing.assert_array_equal(small.A, expected.system.A)
    assert small.labels == Labels("rig", ("force", "wind"))


@pytest.mark.parametrize(
    ("options", "keywords"),
    [
        (["--tol", 50], {"tol": 50}),
        (["--tol", 0.1, "--relative"], {"tol": 0.1, "relative": True}),
        (["--energy", 0.9], {"energy": 0.9}),
        (["--order", 4, "--frequencies", 0.1, 10], {"order": 4, "frequencies": [(0.1, 10)]}),
        (["--order", 4, "--times", 0, 5], {"order": 4, "times": [(0, 5)]}),
    ],
)
@pytest.mark.parametrize("method", ["balanced-truncation", "singular-perturbation"])
def test_options_reach_the_library(capsys, model, tmp_path, method, options, keywords):
    path = tmp_path / "small.npz"
    code, *_ = run(capsys, "reduce", model, *options, "--method", method, "--no-verify", "-o", path)
    expected = getattr(lti, method.replace("-", "_"))(load(model), **keywords)
    assert code == 0
    np.testing.assert_array_equal(load(path).A, expected.system.A)


@pytest.mark.parametrize("method", ["hankel-norm", "modal"])
def test_other_methods(capsys, model, method):
    code, out, _ = run(capsys, "reduce", model, "--order", 4, "--method", method)
    assert code == 0 and "8 -> 4 states" in out
    err = refused(capsys, "reduce", model, "--order", 4, "--method", method, "--times", 0, 1)
    assert "got Gramians time-limited; leave these options out, or choose balanced" in err


def test_unstable_systems(capsys, tmp_path):
    save(tmp_path / "x.npz", UNSTABLE)
    assert "poles are unstable" in refused(capsys, "reduce", tmp_path / "x.npz", "--order", 2)
    code, out, _ = run(capsys, "reduce", tmp_path / "x.npz", "--order", 2, "--unstable", "split")
    assert code == 0 and "the Hankel norm of the stable part" in " ".join(out.split())


def test_another_boundary(capsys, tmp_path):
    path = tmp_path / "x.npz"
    slow = lti.StateSpace(np.diag([-0.1, -1, -2, -4]), np.ones((4, 1)), np.ones((1, 4)))
    save(path, slow)
    fast = lti.StateSpace(np.diag([-1.0, -2, -4]), np.ones((3, 1)), np.ones((1, 3)))
    values = [f"{x:.4g}" for x in lti.hankel_singular_values(fast)]
    code, out, _ = run(capsys, "info", path, "--alpha=-0.5")
    assert code == 0 and rows(out)["Hankel norm of the part that is reduced"] == values[:1]
    assert rows(out)["2"][0] == values[1]
    assert "--unstable split" in refused(capsys, "reduce", path, "--order", 2, "--alpha=-0.5")
    assert "alpha must be" in refused(capsys, "info", path, "--alpha", 1)
    options = ("--order", 2, "--unstable", "split", "--alpha", -0.5)
    code, out, _ = run(capsys, "reduce", path, *options, "-o", tmp_path / "small.npz")
    assert code == 0 and rows(out)["best possible"][0] == values[1]
    assert "the Hankel norm of the part that is reduced" in " ".join(out.split())
    assert abs(load(tmp_path / "small.npz").poles + 0.1).min() < 1e-12


def test_without_measuring(capsys, model, monkeypatch):
    monkeypatch.delattr(lti.Reduction, "verify")
    code, out, _ = run(capsys, "reduce", model, "--order", 3, "--no-verify")
    assert code == 0 and "measured" not in rows(out)


def test_notes_are_printed_once(capsys, tmp_path):
    save(tmp_path / "x.npz", (-np.eye(2), np.ones((2, 1)), np.ones((1, 2))))
    code, out, err = run(capsys, "reduce", tmp_path / "x.npz", "--order", 2)
    assert code == 0 and err == "" and " ".join(out.split()).count("order lowered from 2 to 1") == 1


def test_a_picture(capsys, model, tmp_path):
    code, out, _ = run(capsys, "reduce", model, "--order", 3, "--plot", tmp_path / "x.png")
    assert code == 0 and (tmp_path / "x.png").read_bytes()[:4] == b"\x89PNG"
    assert "picture" in rows(out)


# ------------------------------------------------------------------ what cannot be done


def test_output_is_checked_before_anything_else(capsys, tmp_path):
    for option, name, text in (
        ("-o", "x.txt", "x.txt is none of .mat, .npz, .json; choose"),
        ("-o", "none/x.mat", "no file can be written at .*; choose"),
        ("--plot", "x.txt", "x.txt is none of .png, .pdf, .svg; choose"),
        ("--plot", "none/x.png", "no file can be written at"),
    ):
        err = refused(
            capsys, "reduce", tmp_path / "gone.mat", "--order", 1, option, tmp_path / name
        )
        assert text.partition(".*")[0] in err and "gone" not in err
    assert "there is no file" in refused(capsys, "info", tmp_path / "gone.mat")


def test_nothing_is_written_where_a_bound_is_broken(capsys, model, tmp_path, monkeypatch):
    def broken(self, **_):
        raise lti.CertificateError("the measured error lies outside its bounds")

    monkeypatch.setattr(lti.Reduction, "verify", broken)
    output = tmp_path / "small.mat"
    assert "outside" in refused(capsys, "reduce", model, "--order", 3, "-o", output)
    assert not output.exists()


def test_options_that_do_not_go_together(capsys, model):
    assert "--relative goes with --tol" in refused(
        capsys, "reduce", model, "--order", 3, "--relative"
    )
    for options in ([], ["--order", "1", "--tol", "0.1"], ["--order", "x"]):
        with pytest.raises(SystemExit) as stop:
            main(["reduce", str(model), *options])
        assert stop.value.code == 2
    capsys.readouterr()
    assert "order must be from 0 to 8" in refused(capsys, "reduce", model, "--order", 9)


def test_matplotlib_is_asked_for(capsys, model, tmp_path, monkeypatch):
    monkeypatch.setattr(reduce.importlib.util, "find_spec", lambda name: None)
    err = refused(capsys, "reduce", model, "--order", 3, "--plot", tmp_path / "x.png")
    assert "--plot needs matplotlib, which is not installed: run 'pip install matplotlib'" in err


def test_stacks(capsys, tmp_path):
    save(tmp_path / "x.npz", random_dense(2, stack=(3,)))
    assert "is a batch of shape (3,), and" in refused(capsys, "info", tmp_path / "x.npz")


def test_interrupted(capsys, model, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(lti, "balance", stop)
    assert run(capsys, "info", model) == (130, "", "lti: stopped; nothing was written\n")


def test_as_a_program(model):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "lti.cli", "info", str(model)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stderr == "" and "Hankel norm" in done.stdout


def test_methods_of_installed_plugins_are_there(capsys, model, monkeypatch):
    class Plugin:
        def load(self):
            methods.register_method(replace(TRUNCATION, name="plugged-in"))

    monkeypatch.setattr(methods, "_METHODS", dict(methods._METHODS))
    monkeypatch.setattr(cli, "entry_points", lambda group: [Plugin()] * (group == "lti.plugins"))
    code, out, _ = run(capsys, "reduce", model, "--order", 4, "--method", "plugged-in")
    assert code == 0 and "plugged in" in " ".join(out.split())


def test_sparse_systems(tmp_path, capsys):
    path = tmp_path / "rod.mat"
    save(path, rod(600, m=2))
    assert main(["info", str(path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "stable, by the 6 poles closest to zero" in said
    assert "of the projection" in said and "estimates" in said
    small = tmp_path / "small.mat"
    assert main(["reduce", str(path), "--tol", "1e-3", "--relative", "-o", str(small)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "the bound is an estimate" in said
    assert 0 < lti.load(small).order < 10
