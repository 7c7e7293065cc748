"""Shared by all tests: how hypothesis runs, how many examples it ran, where the real data is."""

import functools
import os
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.internal.conjecture import providers

ROOT = Path(__file__).resolve().parent.parent

# Before NumPy and torch are imported: threads that wait for each other slow down small matrices,
# and by far more when several workers share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples on every machine: what is red is red for everybody. `make slow` explores.
settings.register_profile(
    "default", max_examples=40, deadline=None, derandomize=True, print_blob=True
)
settings.register_profile("explore", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
if hasattr(providers, "_get_local_constants"):
    # It draws from the constants in our modules as well, of those that happen to be loaded: which
    # they are depends on the tests that ran before in the same worker, and examples would too
    providers._get_local_constants = lambda: providers._local_constants


@pytest.fixture(scope="session")
def data_dir():
    """Return the folder of real data: COMPRESSM_DATA, or ../shared/data beside the project."""
    folder = Path(os.environ.get("COMPRESSM_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}; set COMPRESSM_DATA to the one that holds the data")
    return folder


@pytest.fixture(scope="session")
def data_file(data_dir):
    """Return a function from a file name to its path in `data_dir`; it skips if there is none."""

    def find(name):
        if not (data_dir / name).is_file():
            pytest.skip(f"no {name} in {data_dir}; set COMPRESSM_DATA to the folder that holds it")
        return data_dir / name

    return find


# Examples are counted where hypothesis hands them to the test body, which it documents as
# replaceable (`test.hypothesis.inner_test`); only those that ran to their end count.
examples_run = 0
properties_run = set()


def pytest_itemcollected(item):
    handle = getattr(getattr(item, "obj", None), "hypothesis", None)
    if handle is None or hasattr(handle.inner_test, "is_counted"):
        return
    body, name = handle.inner_test, f"{item.module.__name__}.{item.originalname}"

    @functools.wraps(body)
    def counted(*args, **kwargs):
        global examples_run
        result = body(*args, **kwargs)
        examples_run += 1
        properties_run.add(name)
        return result

    counted.is_counted = True
    handle.inner_test = counted


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):  # this process is an xdist worker
        session.config.workeroutput["examples_run"] = examples_run
        session.config.workeroutput["properties_run"] = sorted(properties_run)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    global examples_run
    output = getattr(node, "workeroutput", {})  # a worker that crashed has left none
    examples_run += output.get("examples_run", 0)
    properties_run.update(output.get("properties_run", ()))


def pytest_terminal_summary(terminalreporter):
    if examples_run:
        terminalreporter.write_line(
            f"hypothesis: {examples_run} examples of {len(properties_run)} properties"
        )
