"""What the documentation shows is run: README, pages, docstrings, and the build itself."""

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
# A fenced block, or a comment that the reader does not see: what the next block takes as given.
BLOCK = re.compile(r"^```python\n(.*?)^```$|^<!-- setup\n(.*?)^-->$", re.DOTALL | re.MULTILINE)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(page):
    """Return the (line number, code) pairs of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, match.start(match.lastindex)), match[match.lastindex])
        for match in BLOCK.finditer(text)
    ]


PAGES_WITH_CODE = [page for page in sorted(PAGES) if blocks(page)]


def run_doctest(test):
    """Return what went wrong, which is nothing if all went well."""
    report = []
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=report.append, clear_globs=False)
    return "".join(report)


def test_the_entry_pages_have_code():
    assert {"README.md", "docs/quickstart.md", "docs/theory.md"} <= {
        page.relative_to(ROOT).as_posix() for page in PAGES_WITH_CODE
    }


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them (Sphinx has others as well)."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.M)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", sorted(PAGES), ids=lambda page: page.name)
def test_links(page):
    """Links lead to files and headings that are there, on GitHub too."""
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not link.startswith(("http://", "https://")):
            name, _, anchor = link.partition("#")
            place = page.parent / name if name else page
            assert place.exists(), link
            assert not anchor or anchor in anchors(place), link


@pytest.fixture
def registries():
    """What a page registers is forgotten after it."""
    import compressm.gramians.types as types
    from compressm.systems import foreign, selective

    kept = [(x, x.copy()) for x in (foreign.FAMILIES, selective.FORMS, types.GRAMIAN_TYPES)]
    yield
    for registry, before in kept:
        registry.clear()
        (registry.update if isinstance(registry, dict) else registry.extend)(before)


@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize("page", PAGES_WITH_CODE, ids=lambda page: page.name)
def test_page(page, tmp_path, monkeypatch):
    """The blocks of a page run one after the other, as a reader would type them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    names = {"__name__": "__main__"}
    for line, code in blocks(page):
        if code.startswith(">>>"):
            test = doctest.DocTestParser().get_doctest(code, {}, page.name, str(page), line)
            test.globs = names
            wrong = run_doctest(test)
            assert not wrong, wrong
        else:
            exec(compile("\n" * line + code, str(page), "exec"), names)


SHORT = {  # where the whole takes longer
    "penalty.py": ["--steps", "3", "--plot", "penalty.png"],
    "balanced_pod.py": ["--points", "20", "--order", "3", "--plot", "plate.png"],
}


LONG = ("after_training.py", "ddp.py", "lightning_loop.py", "penalty.py")
EXAMPLES = [
    pytest.param(path, id=path.name, marks=[pytest.mark.slow] if path.name in LONG else [])
    for path in sorted(ROOT.glob("examples/*.py"))
]


@pytest.mark.parametrize("script", EXAMPLES)
def test_example(script, tmp_path):
    command = [sys.executable, "-W", "error", str(script), *SHORT.get(script.name, [])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("package", ["lti", "compressm"])
def test_docstrings(package):
    modules = [name for _, name, _ in pkgutil.walk_packages([ROOT / package], f"{package}.")]
    tests = [
        test
        for name in (package, *modules)
        for test in doctest.DocTestFinder().find(importlib.import_module(name), name)
        if test.examples
    ]
    assert tests
    wrong = "".join(map(run_doctest, tests))
    assert not wrong, wrong


@pytest.mark.parametrize("package", ["lti", "compressm"])
def test_api_page_is_complete(package):
    """Each public name is listed on its package's page, and nothing else is."""
    page = (ROOT / "docs" / "api" / f"{package}.md").read_text(encoding="utf-8")
    tables = re.findall(r"autosummary::\n(.*?)```", page, re.DOTALL)
    listed = [name for table in tables for name in re.findall(r"^   (\w+)$", table, re.MULTILINE)]
    assert sorted(listed) == sorted(importlib.import_module(package).__all__)


@pytest.mark.slow  # `make docs` builds them too
def test_documentation_builds_without_warnings(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "docs", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
