"""Systems in files: MATLAB's .mat, NumPy's .npz, .json, and Matrix Market files of a folder."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat, mmread, savemat
from scipy.sparse import eye_array, issparse, load_npz

from lti._backend.arrays import narrow, to_numpy
from lti._backend.json_arrays import from_json, to_json
from lti.errors import DenseWarning, FileError, TimebaseError, warn
from lti.systems.convert import as_statespace
from lti.systems.labels import Labels
from lti.systems.protocol import System, SystemLike
from lti.systems.sparse import SparseStateSpace
from lti.systems.statespace import DiagonalStateSpace, StateSpace

__all__ = ["load", "replacing", "save"]

SMALL = 500  # states, up to which a sparse A without an E is made dense
# Labels go by the names of MATLAB's properties, which no measured signal is likely to have.
LABELS = {"name": "Name", "inputs": "InputName", "outputs": "OutputName", "states": "StateName"}


def load(path: str | os.PathLike[str], dt: float | bool | None = None) -> System:
    """Read a system from a file with the variables A, B, C and, optionally, D, E, Ts or dt, labels.

    Parameters
    ----------
    path : str or path
        A .mat file (MATLAB, up to version 7), an .npz file or a .json file. Variables may be in
        lower case. In JSON, a complex number is a pair ``[re, im]``, and numbers, rows or whole
        matrices can be ``{"re": ..., "im": ...}``; an empty matrix is ``{"shape": [0, 2]}``, and
        ``"dtype": "float32"`` states single precision. Or a folder, or the common beginning of file
        names, with a Matrix Market file (``rail_1357.A``, ``.B``, ``.C``, and ``.E`` or none, also
        with ``.mtx``) or a sparse .npz file of `scipy.sparse.save_npz` for each matrix.
    dt : float or True, optional
        Time base to use where the file states none; 0, continuous time, by default. In a file,
        -1 is discrete time without a sampling time, as in MATLAB.

    Returns
    -------
    StateSpace, DiagonalStateSpace or SparseStateSpace
        Diagonal if the file has ``poles`` in place of ``A``; sparse if A is, and has an E or more
        than 500 states. With a dense A and an E, the result of `StateSpace.from_descriptor`.

    Raises
    ------
    FileError
        If there is no such file, or it holds no system.

    Warns
    -----
    DenseWarning
        If A is sparse, has 500 states or fewer, and there is no E: it is made dense.

    See Also
    --------
    save

    Examples
    --------
    >>> import tempfile
    >>> from lti.files import load, save
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(folder + "/lag.json", ([[-1.0]], [[1.0]], [[1.0]]))
    ...     load(folder + "/lag.json")
    StateSpace(order=1, inputs=1, outputs=1, continuous, float64)
    """
    path = _path(path)
    if matrices := matrix_files(path):
        read: Any = partial(_read_matrices, matrices)
    else:
        read, _ = FORMATS[_suffix(path)]
        if not _is(path.is_file):
            raise FileError(f"there is no file {path}; check its name and folder")
    try:
        record = read(path)
    except FileError:
        raise
    except Exception as error:  # whatever a parser makes of foreign bytes
        raise FileError(
            f"{path} cannot be read as {path.suffix} ({error}); save the system again, for example "
            "with lti.save"
        ) from error
    return _system(record, path, dt)


def save(path: str | os.PathLike[str], sys: SystemLike) -> None:
    """Write a system to a file from which `load` restores it; an old file stays if that fails.

    Parameters
    ----------
    path : str or path
        A .mat file, for MATLAB's ``ss(A, B, C, D, Ts)``; an .npz or a .json file.
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        A .mat file holds the dense form of a diagonal system, and names that are all empty are none
        there, as in MATLAB. Only .npz can hold a batch.

    Raises
    ------
    FileError
        If the file cannot be written, or not in this format.

    See Also
    --------
    load

    Notes
    -----
    Labels are saved as the cells ``InputName``, ``OutputName``, ``StateName`` and the text
    ``Name``, as MATLAB calls them.

    Examples
    --------
    >>> import tempfile
    >>> from scipy.io import loadmat
    >>> from lti.files import save
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(folder + "/lag.mat", ([[0.5]], [[1.0]], [[1.0]], None, True))
    ...     loadmat(folder + "/lag.mat")["Ts"]
    array([[-1.]])
    """
    path, sys = _path(path), as_statespace(sys)
    check_writable(path)
    if sys.batch_shape and path.suffix.lower() != ".npz":
        raise FileError(
            f"a {path.suffix} file holds one system, got a batch of shape {sys.batch_shape}; save "
            "it as .npz"
        )
    _, write = FORMATS[_suffix(path)]
    try:
        with replacing(path) as partial:
            write(partial, sys)
    except OSError as error:
        raise FileError(f"{path} cannot be written ({error}); choose another place") from error


def check_writable(path: Path) -> None:
    """Raise `FileError` if no file can be written at `path`, before any work is done."""
    _suffix(path)
    if _is(path.is_dir) or not _is(path.parent.is_dir):
        raise FileError(f"no file can be written at {path}; choose one in a folder that exists")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to, which replaces it when it is complete.

    An old file stays if anything fails, even the machine.
    """
    path = path.resolve()
    partial = path.with_name(path.name + ".partial")
    try:
        partial.touch()
        mode = (path if path.exists() else partial).stat().st_mode
        yield partial
        partial.chmod(mode)  # some writers give nobody else access
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _is(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError:  # a name that is too long
        return False


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise FileError(f"{path} is none of {', '.join(FORMATS)}; choose one of these formats")
    return suffix


# ------------------------------------------------------------------ between systems and records


def _path(path: Any) -> Path:
    try:
        return Path(path)
    except TypeError as error:
        raise FileError(f"{path!r} is no path; give the name of a file") from error


def _truth(value: Any, path: Path) -> bool:
    """`conjugate` as a file may hold it: nothing, a truth value, or 0 or 1."""
    if value is None:
        return False
    if np.size(value) == 1 and np.asarray(value).item() in (False, True):
        return bool(np.asarray(value).item())
    raise FileError(f"{path} has conjugate={value!r}; save true or false")


def _system(record: dict[str, Any], path: Path, dt: float | bool | None) -> System:
    def find(name: str) -> Any:
        value = record.get(name, record.get(name.lower()))
        return None if value is None or np.size(value) == 0 and name in ("D", "Ts", "dt") else value

    diagonal = find("poles") is not None
    first = "poles" if diagonal else "A"
    missing = [name for name in (first, "B", "C") if find(name) is None]
    if missing:
        held = ", ".join(key for key in record if key[0] != "_") or "nothing"
        raise FileError(
            f"{path} has no {', '.join(missing)} (it holds {held}); save the matrices as A, B, C, "
            "D, in MATLAB after [A, B, C, D] = ssdata(sys)"
        )
    state, B, C, D, E = (find(name) for name in (first, "B", "C", "D", "E"))
    base = _timebase(find("Ts"), find("dt"), dt)
    labels = Labels(**{key: _text(record.get(name), key) for key, name in LABELS.items()})
    if diagonal:
        return DiagonalStateSpace(state, B, C, D, base, _truth(find("conjugate"), path), labels)
    sparse = issparse(state) and (E is not None or max(state.shape) > SMALL)
    if E is not None and _is_identity(E):
        E = None
    if E is not None and not issparse(state):
        B, C, D, E = (x.toarray() if issparse(x) else x for x in (B, C, D, E))
        found = StateSpace.from_descriptor(E, state, B, C, D, base)
        return replace(found, labels=labels.without_states())
    if sparse:
        return SparseStateSpace(state, B, C, D, E, base, labels)
    if issparse(state):
        state = state.toarray()
        size = " x ".join(map(str, state.shape))
        warn(f"the sparse A of {path.name} is made dense: {size}, {_size(state)}", DenseWarning)
    B, C, D = (x.toarray() if issparse(x) else x for x in (B, C, D))
    return StateSpace(state, B, C, D, base, labels)


def _is_identity(E: Any) -> bool:
    square = E.ndim == 2 and E.shape[0] == E.shape[1] > 0
    return square and abs(E - eye_array(E.shape[0])).max() == 0


def _record(sys: System, sparse: bool = False) -> dict[str, Any]:
    diagonal = isinstance(sys, DiagonalStateSpace)
    names = ("poles" if diagonal else "A", "B", "C", "D")
    if isinstance(sys, SparseStateSpace):
        if not (sparse and issparse(sys.A)):
            raise FileError(
                "a sparse system goes into a .mat file, if it has matrices A and E; choose that "
                "format, or save the reduced system"
            )
        # The identity as E tells a sparse system from a dense one with a sparse A
        E = eye_array(sys.order, dtype=sys.A.dtype, format="csc") if sys.E is None else sys.E
        record = {"A": sys.A, "B": sys.B, "C": sys.C, "D": sys.D, "E": E}
    else:
        record = {name: to_numpy(getattr(sys, name)) for name in names}
    record["dt"] = sys.dt
    if diagonal:
        record["conjugate"] = sys.conjugate
    labels = {name: getattr(sys.labels, key) for key, name in LABELS.items()}
    return record | {name: text for name, text in labels.items() if text is not None}


def _size(x: np.ndarray) -> str:
    return f"{x.nbytes / 1e6:,.1f} MB" if x.nbytes >= 1e6 else f"{x.nbytes / 1e3:,.0f} kB"


def _timebase(Ts: Any, dt: Any, default: float | bool | None) -> float | bool:
    stated = [_sampling_time(x) for x in (Ts, dt) if x is not None]
    if stated and any(x is not stated[0] and x != stated[0] for x in stated):
        raise TimebaseError(f"Ts={Ts!r:.60} and dt={dt!r:.60} differ; save one of them")
    return stated[0] if stated else default or 0


def _sampling_time(stated: Any) -> float | bool:
    value: Any = np.asarray(stated)
    if value.size != 1 or value.dtype.kind not in "biuf":
        raise TimebaseError(f"a sampling time is one number, got {stated!r:.60}; save Ts as one")
    value = value.item()
    return True if value == -1 else value


def _text(x: Any, label: str) -> Any:
    """A name, or a tuple of them, from a MATLAB cell, an array or a list."""
    if x is None:
        return None
    cells = [np.ravel(item) for item in np.ravel(x)]
    if any(part.size and part.dtype.kind not in "US" for part in cells):
        raise FileError(f"names of signals are text, got {x!r:.60}; save {LABELS[label]} as text")
    names = tuple("".join(part.astype(str)) for part in cells)
    return "".join(names[:1]) if label == "name" else names


# ------------------------------------------------------------------ formats


def _read_mat(path: Path) -> dict[str, Any]:
    try:
        # In MATLAB's dtypes a logical dt stays one, but complex numbers would lose a part
        logical = loadmat(path, appendmat=False, mat_dtype=True, variable_names=["dt"])
        record = loadmat(path, appendmat=False) | logical
    except NotImplementedError:  # HDF5
        raise FileError(f"{path} is of MATLAB's version 7.3; save it with the flag -v7") from None
    for name in LABELS.values():
        x = record.get(name)
        if isinstance(x, np.ndarray):
            if x.dtype.kind == "U" and x.size > 1:  # the rows of a matrix are of one length
                record[name] = x = np.strings.rstrip(x)
            named = any(np.size(item) and np.any(item != "") for item in x.ravel())
            if not named and (x.size or x.dtype.kind == "U"):  # a cell of nothing is a list
                del record[name]
    return record


def matrix_files(path: Path) -> dict[str, Path]:
    """The files of the matrices A, B, C, D, E in a folder, or whose names begin with `path`."""
    folder, stem = (path, None) if _is(path.is_dir) else (path.parent, path.name)
    found: dict[str, Path] = {}
    if not _is(folder.is_dir) or stem and path.suffix.lower() in FORMATS:
        return found
    for file in sorted(folder.iterdir()):
        if match := MATRIX.fullmatch(file.name):
            if stem is None or match["stem"] == stem:
                if match["name"] in found:
                    raise FileError(
                        f"{folder} has several files for {match['name']}, {found[match['name']]} "
                        f"and {file}; pass the beginning of the names as well"
                    )
                found[match["name"]] = file
    return found if "A" in found else {}


def _read_matrices(files: dict[str, Path], path: Path) -> dict[str, Any]:
    return {
        name: load_npz(file) if file.suffix == ".npz" else mmread(file)
        for name, file in files.items()
    }


def _write_mat(path: Path, sys: System) -> None:
    record = _record(sys if isinstance(sys, SparseStateSpace) else sys.to_dense(), sparse=True)
    dt = record.pop("dt")
    record["Ts"] = -1.0 if dt is True else float(dt)
    for name in LABELS.values():
        if isinstance(record.get(name), tuple):
            record[name] = np.array(record[name], dtype=object)[:, None]  # a cell
    savemat(path, record, appendmat=False)


def _read_npz(path: Path) -> dict[str, Any]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
        return dict(data)


def _write_npz(path: Path, sys: System) -> None:
    with path.open("wb") as file:
        np.savez(file, **_record(sys))


def _read_json(path: Path) -> dict[str, Any]:
    record = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(record, dict):
        raise FileError(f'{path} is no JSON object; write the system as {{"A": ..., "B": ...}}')
    for key, value in record.items():
        if key.upper() in ("A", "B", "C", "D", "E"):  # MATLAB writes a matrix of one entry as it
            record[key] = from_json([[value]] if isinstance(value, (int, float)) else value, 2)
        elif key == "poles":
            record[key] = from_json([value] if isinstance(value, (int, float)) else value, 1)
    if np.shape(record.get("B", 0)) == (0,) and "D" in record:  # no states: a list of no rows
        record["B"] = np.zeros((0, record["D"].shape[1]))
        record |= {"A": np.zeros((0, 0))} if "A" in record else {}
    if record.get("dtype") in ("float32", "complex64"):
        single = np.zeros(0, np.float32)
        record |= {k: narrow(x, single) for k, x in record.items() if isinstance(x, np.ndarray)}
    return record


def _write_json(path: Path, sys: System) -> None:
    record = {name: to_json(x) for name, x in _record(sys).items()}
    record["dtype"] = str(to_numpy(sys.B).dtype)
    path.write_text(json.dumps(record, allow_nan=False), encoding="utf-8")


# rail_1357.A, A.mtx, rail_1357_A.mtx, rail_1357.A.npz
MATRIX = re.compile(r"(?:(?P<stem>.+)[._])?(?P<name>[ABCDE])(?:\.mtx|\.npz)?(?:\.gz)?")
FORMATS = {
    ".mat": (_read_mat, _write_mat),
    ".npz": (_read_npz, _write_npz),
    ".json": (_read_json, _write_json),
}
