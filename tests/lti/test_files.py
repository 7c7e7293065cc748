"""Systems to files and back: what is written is read, and what is foreign is refused in words."""

import json
import os
from dataclasses import replace
from itertools import cycle, product

import numpy as np
import pytest
import torch
from scipy.io import loadmat, mmwrite, savemat
from scipy.sparse import csc_matrix, eye_array, issparse, save_npz

import lti
from lti import DiagonalStateSpace, Labels, StateSpace, files
from lti.errors import FileError
from lti.files import DenseWarning, load, save
from tests.lti.helpers import random_dense, random_ring
from tests.lti.sparse_systems import rod

SUFFIXES = (".mat", ".npz", ".json")
NAMED = Labels("plant", ("force", "wind"), ("place",), ("x", "v", "a longer one"))
A, B, C = -np.eye(2), np.ones((2, 1)), np.ones((1, 2))


def assert_same(ours, theirs):
    assert type(ours) is type(theirs) and ours.labels == theirs.labels
    assert ours.dt == theirs.dt and (ours.dt is True) == (theirs.dt is True)
    state = "poles" if isinstance(ours, DiagonalStateSpace) else "A"
    for name in (state, "B", "C", "D"):
        one, other = getattr(ours, name), getattr(theirs, name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


# ------------------------------------------------------------------ there and back


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("dt", [0, True, 0.1])
@pytest.mark.parametrize("suffix", [*SUFFIXES, ".MAT"])
def test_round_trip(tmp_path, suffix, dt, is_complex):
    sys = random_dense(3, 2, 1, dt=dt, is_complex=is_complex)
    for each in (sys, replace(sys, labels=NAMED)):
        save(tmp_path / f"sys{suffix}", each)
        assert_same(load(str(tmp_path / f"sys{suffix}")), each)


@pytest.mark.parametrize("conjugate", [False, True])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_diagonal_systems(tmp_path, suffix, conjugate):
    sys = random_ring(3, 2, 2, conjugate=conjugate)
    sys = replace(sys, labels=Labels(outputs=("left", "right")))
    save(tmp_path / f"ring{suffix}", sys)
    back = load(tmp_path / f"ring{suffix}")
    assert_same(back, sys.to_dense() if suffix == ".mat" else sys)
    assert suffix == ".mat" or back.conjugate == conjugate


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_systems_without_states(tmp_path, suffix):
    sys = StateSpace(np.zeros((0, 0)), np.zeros((0, 2)), np.zeros((1, 0)), [[3.0, 4.0]])
    save(tmp_path / f"gain{suffix}", sys)
    assert_same(load(tmp_path / f"gain{suffix}"), sys)


DTYPES = ("float32", "float64", "complex64", "complex128")


def exactly(ours, theirs):
    assert_same(ours, theirs)
    assert all(x.tobytes() == y.tobytes() for x, y in zip(ours.matrices, theirs.matrices,
                                                          strict=True))  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ["dense", "diagonal", "conjugate"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_saved_is_loaded_as_it_was(tmp_path, suffix, form, dtype):
    path, rng, times = tmp_path / f"x{suffix}", np.random.default_rng(0), cycle([0, True, 0.1, 1])
    for n, m, p in product((0, 1, 2), repeat=3):
        shapes = [(n, n) if form == "dense" else (n,), (n, m), (p, n), (p, m)]
        parts = [rng.standard_normal(x) for x in shapes]
        if dtype.startswith("complex"):
            parts = [x * (0.3 - 0.1j) - 0.0 for x in parts]
        A, B, C, D = (x.astype(dtype) for x in parts)
        dt, names = next(times), (("a",) * m, ("b ", "c")[:p])
        if form == "dense":
            sys = StateSpace(A, B, C, D, dt, Labels(" plant ", *names, ("x", "y")[:n]))
        else:
            conjugate = form == "conjugate"
            D = D.real if conjugate else D
            sys = DiagonalStateSpace(A, B, C, D, dt, conjugate, Labels(None, *names))
        save(path, sys)
        exactly(load(path), sys.to_dense() if suffix == ".mat" else sys)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_signs_of_zeros_and_all_digits(tmp_path, suffix):
    zeros = np.array([[complex(-0.0, -0.0), complex(0.0, -0.0)]])
    sys = StateSpace([[-1 / 3]], zeros, [[1e-320], [1e308]], np.zeros((2, 2)), 0.1)
    save(tmp_path / f"x{suffix}", sys)
    exactly(load(tmp_path / f"x{suffix}"), sys)


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_empty_names(tmp_path, suffix):
    sys = StateSpace(A, B, C, labels=Labels("", ("",), None, ("", "x ")))
    save(tmp_path / f"x{suffix}", sys)
    exactly(load(tmp_path / f"x{suffix}"), sys)


@pytest.mark.parametrize("shape", [[1, 1], [0], [0, 1, 2], "x", [0, -1]])
def test_shapes_of_no_empty_matrix(tmp_path, shape):
    record = {"A": {"shape": [0, 0]}, "B": {"shape": shape}, "C": {"shape": [1, 0]}}
    (tmp_path / "x.json").write_text(json.dumps(record))
    with pytest.raises(FileError, match="cannot be read"):
        load(tmp_path / "x.json")


def test_json_without_states_as_it_was_written_before(tmp_path):
    (tmp_path / "x.json").write_text('{"A": [], "B": [], "C": [[]], "D": [[3.0, 4.0]], "dt": 0}')
    sys = load(tmp_path / "x.json")
    assert sys.order == 0 and sys.B.shape == (0, 2) and sys.D.tolist() == [[3, 4]]


def test_stacks_and_precisions_and_tensors(tmp_path):
    stack = random_dense(2, stack=(3,))
    single = StateSpace(*(torch.tensor(x, dtype=torch.float32) for x in (A, B, C)))
    for name, sys in (("stack", stack), ("single", single)):
        save(tmp_path / f"{name}.npz", sys)
        back = load(tmp_path / f"{name}.npz")
        np.testing.assert_array_equal(back.A, np.asarray(sys.A))
        assert back.A.dtype == np.asarray(sys.A).dtype
    for suffix in (".mat", ".json"):
        with pytest.raises(FileError, match=r"got a batch of shape \(3,\); save it as .npz"):
            save(tmp_path / f"stack{suffix}", stack)


def test_what_matlab_reads(tmp_path):
    path = tmp_path / "sys.mat"
    save(path, StateSpace(A, B, C, None, True, Labels("plant", ("force",), None, ("x", "v"))))
    data = loadmat(path)
    assert {k for k in data if k[0] != "_"} == {"A", "B", "C", "D", "Ts", "Name", "InputName",
                                                "StateName"}  # fmt: skip
    assert data["D"].shape == data["Ts"].shape == (1, 1) and data["Ts"] == -1
    assert data["StateName"].shape == (2, 1) and data["StateName"].dtype == object  # a cell
    assert data["StateName"][1, 0] == ["v"] and data["Name"] == ["plant"]
    save(path, (A, B, C))
    assert loadmat(path)["Ts"] == 0


# ------------------------------------------------------------------ files that others wrote


BENCHMARKS = {
    "building": (48, 1, 1), "CDplayer": (120, 2, 2), "heat-cont": (200, 1, 1), "iss": (270, 3, 3)
}  # fmt: skip


@pytest.mark.parametrize(("name", "size"), BENCHMARKS.items())
def test_slicot_benchmarks(data_file, name, size):
    path = data_file(f"slicot/{name}.mat")
    with pytest.warns(
        DenseWarning, match=rf"sparse A of {name}.mat is made dense: .* [kM]B$"
    ) as seen:
        sys = load(path)
    assert seen[0].filename == __file__
    assert (sys.order, sys.n_inputs, sys.n_outputs) == size and sys.dt == 0
    data = loadmat(path)
    np.testing.assert_array_equal(sys.A, data["A"].todense())
    assert not sys.D.any() and sys.A.dtype == sys.C.dtype == np.float64


@pytest.mark.parametrize(
    ("extra", "dt", "expected"),
    [
        ({}, None, 0),
        ({}, 0.2, 0.2),
        ({"Ts": 0}, 0.2, 0),
        ({"Ts": -1}, None, True),
        ({"ts": 0.5}, None, 0.5),
        ({"dt": 0.25}, None, 0.25),
        ({"dt": True}, None, True),  # a logical, not the number 1
        ({"dt": 1}, None, 1),
        ({"Ts": np.zeros((0, 0)), "D": np.zeros((0, 0))}, None, 0),  # MATLAB's []
    ],
)
def test_time_bases_and_lower_case(tmp_path, extra, dt, expected):
    savemat(tmp_path / "x.mat", {"a": A, "b": B, "c": C, "inputs": [1, 2, 3], **extra})
    sys = load(tmp_path / "x.mat", dt)
    assert sys.dt == expected and (sys.dt is True) == (expected is True)
    assert sys.labels == Labels() and not sys.D.any()


def test_labels_in_the_shapes_of_matlab(tmp_path):
    rows = np.array(["force", "wind "])  # a char matrix, and a cell of empty texts
    empty = np.array(["", ""], dtype=object)[:, None]
    savemat(
        tmp_path / "x.mat",
        {"A": A, "B": np.ones((2, 2)), "C": C, "InputName": rows, "StateName": empty, "Name": ""},
    )
    assert load(tmp_path / "x.mat").labels == Labels(inputs=("force", "wind"))


@pytest.mark.parametrize(
    "text",
    [
        '{"A": [[-1, [0, 1]], [0, {"re": 2, "im": 0}]], "B": [[1], [1]], "C": [[1, 1]]}',
        '{"a": {"re": [[-1, 0], [0, 2]], "im": [[0, 1], [0, 0]]}, "b": [[1], [1]], "c": [[1, 1]]}',
    ],
)
def test_complex_numbers_in_json(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    np.testing.assert_array_equal(load(tmp_path / "x.json").A, [[-1, 1j], [0, 2]])


def test_poles_as_pairs_in_json(tmp_path):
    text = {"poles": [[0.5, 0.25]], "B": [[1]], "C": [[1]], "conjugate": True, "dt": 0.5}
    (tmp_path / "x.json").write_text(json.dumps(text))
    sys = load(tmp_path / "x.json")
    assert sys.poles == [0.5 + 0.25j] and sys.conjugate and sys.dt == 0.5


# ------------------------------------------------------------------ what is no system


def test_a_missing_file(tmp_path):
    with pytest.raises(FileError, match="there is no file .*gone.mat; check"):
        load(tmp_path / "gone.mat")


@pytest.mark.parametrize("path", ["x.csv", "x", "x.mat.txt"])
def test_an_unknown_format(tmp_path, path):
    for function in (load, lambda p: save(p, (A, B, C))):
        with pytest.raises(FileError, match="none of .mat, .npz, .json; choose one of"):
            function(tmp_path / path)
    assert not (tmp_path / path).exists()


@pytest.mark.parametrize("junk", [b"", b"hello world" * 50, b"\0" * 300, b"PK\3\4aaaa", b"[1, 2]"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_foreign_bytes(tmp_path, suffix, junk):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(junk)
    with pytest.raises(FileError, match="x.* cannot be read as|is no JSON object; write"):
        load(path)


def test_no_pickles(tmp_path):
    np.savez(tmp_path / "x.npz", A=A, B=B, C=np.array([[None, None]]))
    with pytest.raises(FileError, match="cannot be read as .npz .*pickle"):
        load(tmp_path / "x.npz")


def test_matlab_7_3(tmp_path):
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM"
    (tmp_path / "x.mat").write_bytes(header + b"\x89HDF\r\n\x1a\n" + b"\0" * 500)
    with pytest.raises(FileError, match="x.mat is of MATLAB's version 7.3; save it .* -v7$"):
        load(tmp_path / "x.mat")


def test_missing_variables(tmp_path):
    savemat(tmp_path / "x.mat", {"A": A, "sys": C})
    with pytest.raises(FileError, match=r"has no B, C \(it holds A, sys\); save .* ssdata"):
        load(tmp_path / "x.mat")


def test_dense_descriptor_systems(tmp_path):
    path = tmp_path / "x.mat"
    savemat(path, {"A": A, "B": B, "C": C, "E": csc_matrix(2 * np.eye(2))})
    np.testing.assert_allclose(load(path).A, A / 2)
    savemat(path, {"A": A, "B": B, "C": C, "E": np.eye(2)})
    np.testing.assert_array_equal(load(path).A, A)


# ------------------------------------------------------------------ sparse systems


@pytest.fixture
def sparse_system():
    return rod(30, m=2)


def same_matrices(one, other):
    for name in "ABCDE":
        X, Y = getattr(one, name), getattr(other, name)
        assert (X is None) == (Y is None)
        np.testing.assert_array_equal(*(x.toarray() if issparse(x) else x for x in (X, Y)))


def test_sparse_systems_come_back_from_mat(tmp_path, sparse_system):
    sys = replace(sparse_system, dt=0.5, labels=lti.Labels(inputs=["a", "b"]))
    save(tmp_path / "x.mat", sys)
    loaded = load(tmp_path / "x.mat")
    same_matrices(loaded, sys)
    assert loaded.dt == 0.5 and loaded.labels.inputs == ("a", "b")
    for suffix in (".npz", ".json"):
        with pytest.raises(FileError, match=r"goes into a \.mat file"):
            save(tmp_path / f"x{suffix}", sys)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [3, files.SMALL + 1])
@pytest.mark.parametrize("E", [None, 2.0])
@pytest.mark.parametrize("ports", [(1, 2), (0, 2), (1, 0)])
def test_sparse_systems_are_loaded_as_they_were(tmp_path, dtype, n, E, ports):
    m, p = ports
    identity = eye_array(n, dtype=dtype)
    sys = lti.SparseStateSpace(
        -2 * identity, np.ones((n, m)), np.ones((p, n)), None, E and E * identity, True
    )
    save(tmp_path / "x.mat", sys)
    loaded = load(tmp_path / "x.mat")
    assert type(loaded) is type(sys) and loaded.dt is True
    same_matrices(loaded, sys)
    assert loaded.A.dtype == sys.A.dtype and loaded.D.dtype == sys.D.dtype


def test_a_large_sparse_A_stays_sparse(tmp_path):
    sys = rod(files.SMALL + 1)
    savemat(tmp_path / "x.mat", {"A": sys.A, "B": csc_matrix(sys.B), "C": sys.C})
    assert isinstance(load(tmp_path / "x.mat"), lti.SparseStateSpace)


@pytest.mark.parametrize("ending", ["", ".mtx", ".npz"])
@pytest.mark.parametrize("stem", ["", "rod.", "rod_"])
def test_a_file_for_each_matrix(tmp_path, sparse_system, stem, ending):
    for name in "ABCE":
        x = csc_matrix(getattr(sparse_system, name))
        file = tmp_path / f"{stem}{name}{ending}"
        if ending == ".npz":
            save_npz(file, x)
        else:
            with file.open("wb") as stream:
                mmwrite(stream, x, precision=17)
    found = [load(tmp_path)] + ([load(tmp_path / stem[:-1])] if stem else [])
    for loaded in found:
        assert isinstance(loaded, lti.SparseStateSpace)
        same_matrices(loaded, sparse_system)
    if stem:
        (tmp_path / f"other.A{ending}").write_bytes(b"")
        with pytest.raises(FileError, match="several files for A"):
            load(tmp_path)


def test_a_folder_without_matrices(tmp_path):
    with pytest.raises(FileError, match="none of .mat, .npz, .json"):
        load(tmp_path)
    (tmp_path / "A.mtx").write_text("nonsense")
    with pytest.raises(FileError, match="cannot be read"):
        load(tmp_path)


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "folder.npz").mkdir()
    for path in (tmp_path / "folder.npz", tmp_path / "none" / "x.npz"):
        with pytest.raises(FileError, match="no file can be written at .*; choose one in a folder"):
            save(path, (A, B, C))
    (tmp_path / "x.json").symlink_to(tmp_path / "gone" / "x.json")
    with pytest.raises(FileError, match="x.json cannot be written .*; choose another place"):
        save(tmp_path / "x.json", (A, B, C))


def test_a_system_of_wrong_shapes_is_the_systems_error(tmp_path):
    np.savez(tmp_path / "x.npz", A=A, B=C, C=B)
    with pytest.raises(lti.DimensionError, match="B has shape"):
        load(tmp_path / "x.npz")


@pytest.mark.parametrize("suffix", [".mat", ".npz", ".json"])
def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"sys{suffix}"
    lti.save(path, ([[-1.0]], [[1.0]], [[1.0]]))
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(lti.FileError, match="No space left"):
        lti.save(path, ([[-2.0]], [[1.0]], [[1.0]]))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("record", [
    {"dt": {}}, {"dt": [1, 2]}, {"dt": "x"}, {"name": 5}, {"Name": {"a": 1}}, {"InputName": [1]},
    {"InputName": {"a": 1}}, {"OutputName": 3.0},
])  # fmt: skip
def test_times_and_names_of_wrong_types_are_refused(tmp_path, record):
    path = tmp_path / "sys.json"
    path.write_text(json.dumps({"A": [[-1]], "B": [[1]], "C": [[1]], **record}))
    if "name" in record:
        assert lti.load(path).labels.name is None  # no field of a system
        return
    with pytest.raises((lti.FileError, lti.TimebaseError)):
        lti.load(path)


@pytest.mark.parametrize("extra", [
    {"Ts": {"a": 1}}, {"Ts": np.eye(2)}, {"Ts": "abc"}, {"Ts": 1j}, {"Name": {"a": 1}},
    {"Name": 5.0}, {"InputName": {"a": 1}}, {"OutputName": np.eye(2)},
])  # fmt: skip
def test_matlab_structs_are_no_times_and_no_names(tmp_path, extra):
    savemat(tmp_path / "sys.mat", {"A": [[-1.0]], "B": [[1.0]], "C": [[1.0]], **extra})
    with pytest.raises((lti.FileError, lti.TimebaseError)):
        lti.load(tmp_path / "sys.mat")


def test_names_of_files_that_are_too_long_are_refused(tmp_path):
    path = tmp_path / ("a" * 300 + ".json")
    with pytest.raises(lti.FileError, match="there is no file"):
        lti.load(path)
    with pytest.raises(lti.FileError, match="cannot be written"):
        lti.save(path, ([[-1.0]], [[1.0]], [[1.0]]))


def test_a_number_is_a_matrix_of_one_entry(tmp_path):
    path = tmp_path / "lag.json"
    path.write_text('{"A": -1, "B": [[1]], "C": 2.5}')
    assert_same(load(path), StateSpace([[-1.0]], [[1.0]], [[2.5]]))
    path.write_text('{"A": [[-1]], "B": [1], "C": 2.5}')
    with pytest.raises(FileError, match="a matrix is a list of rows"):
        load(path)


def test_sampling_times_that_differ_are_refused(tmp_path):
    path = tmp_path / "lag.json"
    path.write_text('{"A": 0.5, "B": 1, "C": 1, "Ts": 0.1, "dt": 0.2}')
    with pytest.raises(lti.TimebaseError, match="differ"):
        load(path)
    for Ts, dt, read in (("0.1", "[0.1]", 0.1), ("-1", "true", True), ("-1", "-1", True)):
        path.write_text(f'{{"A": 0.5, "B": 1, "C": 1, "Ts": {Ts}, "dt": {dt}}}')
        assert load(path).dt == read
