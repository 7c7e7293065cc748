"""What the code may import, what it exports, and that every public argument is documented."""

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from numpydoc.docscrape import NumpyDocString

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("lti", "compressm")
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
PUBLIC_MODULES = [
    name
    for package in PACKAGES
    for _, name, _ in pkgutil.walk_packages([str(ROOT / package)], f"{package}.")
    if "._" not in name
]

# NumPy is not among them: it is what holds numbers on the host.
ARRAY_LIBRARIES = {"array_api_compat", "array_api_strict", "cupy", "jax", "torch"}
EXTRAS = {
    "accelerate", "control", "hypothesis", "lightning", "matplotlib", "neural_ssm", "pooch",
    "pytest", "rich", "s5", "safetensors", "sklearn", "sksparse", "slycot", "transformers",
}  # fmt: skip
UNWANTED = {"lti": EXTRAS | ARRAY_LIBRARIES - {"array_api_compat"}, "compressm": EXTRAS}


def relative(path):
    return path.relative_to(ROOT).as_posix()


def imported_packages(path):
    """Top-level packages that a source file imports anywhere, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


def run_python(code):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT
    )


# ------------------------------------------------------------------ imports point one way


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_imports_point_one_way(path):
    imported = set(imported_packages(path))
    assert not imported & {"examples", "benchmarks", "tests"}
    if relative(path).startswith("lti/"):
        assert "compressm" not in imported, "lti knows nothing of neural networks"
        if "_backend" not in path.parts:
            assert not imported & ARRAY_LIBRARIES, "only lti/_backend knows array libraries"


# The layers of each package from the bottom up. A file imports only from its own layer and those
# before it, inside functions too; a name stands for a module or for a sub-package with all in it.
LAYERS = {
    "lti": [
        "lti.errors",
        "lti._moved",
        "lti._renamed",
        "lti._backend",
        "lti.systems",
        "lti.gramians",
        "lti.hankel",
        "lti.realization",
        "lti.peak",
        "lti.norms",
        "lti.files",
        "lti.reduction",
        "lti.plotting",
        "lti",
        "lti.testing",
        "lti.python_control",
        "lti.cli",
    ],
    "compressm": [
        "compressm.errors",
        "compressm._moved",
        "compressm._renamed",
        "compressm._optional",
        "compressm.sizes",
        "compressm.ops",
        "compressm.layers",
        "compressm.models",
        "compressm.export",
        "compressm.systems",
        "compressm.gramians",
        "compressm.penalties",
        "compressm.compression",
        "compressm.checkpoints",
        "compressm.integrations",
        "compressm",
        "compressm.experiments",
        "compressm.cli",
        "compressm.__main__",
    ],
}
MOST_LINES = 400
LONGER = {}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in SOURCES}


def imported_files(name):
    """Names of the files of this project that a file imports anywhere, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in FILES}
        elif isinstance(node, ast.ImportFrom) and node.module in FILES:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & FILES.keys()
            if inner - FILES.keys():  # a name that is no module stands in the file itself
                found.add(node.module)
    return found - {name}


def layer(name, layers):
    """The index of the layer that a file is in: the longest name that begins its own."""
    fits = [one for one in layers if name == one or name.startswith(f"{one}.")]
    assert fits, f"{name} is in no layer; write it into LAYERS"
    best = max(fits, key=len)
    assert best != best.partition(".")[0] or name == best, f"{name} is in no layer of its package"
    return layers.index(best)


@pytest.mark.parametrize(
    ("package", "name"),
    [(package, name) for package in LAYERS for name in FILES if name.split(".")[0] == package],
)
def test_imports_go_downwards(package, name):
    layers = LAYERS[package]
    upwards = {
        other
        for other in imported_files(name)
        if other.split(".")[0] == package and layer(other, layers) > layer(name, layers)
    }
    assert not upwards, f"{name} imports {sorted(upwards)} from a layer above its own"


@pytest.mark.parametrize("package", LAYERS)
def test_no_file_imports_itself_by_way_of_others(package):
    left = {name: imported_files(name) for name in FILES if name.split(".")[0] == package}
    while free := {name for name, needs in left.items() if not needs & left.keys()}:
        left = {name: needs for name, needs in left.items() if name not in free}
    assert not left, f"these files import each other in a circle, or one that does: {sorted(left)}"


LAYERED = [path for path in SOURCES if module_name(path).split(".")[0] in LAYERS]


@pytest.mark.parametrize("path", LAYERED, ids=relative)
def test_a_file_holds_one_idea(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    if relative(path) in LONGER:
        assert lines > MOST_LINES, f"{relative(path)} needs no exception any more"
    else:
        assert lines <= MOST_LINES, f"{lines} lines: split it, or write the reason into LONGER"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_only_surgery_assigns_data(path):
    def targets(node):
        if isinstance(node, ast.Assign):
            return node.targets
        return [node.target] if isinstance(node, (ast.AugAssign, ast.AnnAssign)) else []

    lines = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for target in targets(node)
        for part in ast.walk(target)
        if isinstance(part, ast.Attribute) and part.attr == "data"
    ]
    if relative(path) == "compressm/ops/resize.py":
        assert lines, "ops/resize.py is where parameters are resized"
    else:
        assert not lines, (
            f"{relative(path)} assigns .data in lines {lines}: leave that to ops/resize.py"
        )


def test_lti_works_where_torch_is_not_installed():
    done = run_python("""
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoTorch())
import lti, numpy as np

for name in lti.__all__:
    getattr(lti, name)
sys_ = lti.StateSpace(-np.diag([1.0, 2.0, 3.0]), np.ones((3, 1)), np.ones((1, 3)))
reduction = lti.balanced_truncation(sys_, order=1)
assert reduction.order == 1 and isinstance(reduction.system.A, np.ndarray)
assert 0 < reduction.lower_bound <= reduction.verify()
assert "torch" not in sys.modules
""")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_pulls_in_no_extra(package):
    done = run_python(f"import sys, {package}; print(*{UNWANTED[package]!r} & set(sys.modules))")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


# ------------------------------------------------------------------ __all__


@pytest.mark.parametrize("name", PACKAGES)
def test_package_exports_exactly_its_public_names(name):
    package = importlib.import_module(name)
    defined = {
        key for key, value in vars(package).items() if key[0] != "_" and not inspect.ismodule(value)
    }
    assert defined == set(package.__all__)
    assert len(package.__all__) == len(set(package.__all__))
    for key in package.__all__:
        home = importlib.import_module(getattr(package, key).__module__)
        assert key in getattr(home, "__all__", ()), f"{key} is not in {home.__name__}.__all__"


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_module_exports_what_it_defines(name):
    module = importlib.import_module(name)
    assert hasattr(module, "__all__"), f"{name} does not say what it exports: it has no __all__"
    assert len(module.__all__) == len(set(module.__all__))
    for key in module.__all__:
        assert hasattr(module, key), f"{name}.__all__ names {key}, which does not exist"
        if not hasattr(module, "__path__"):  # a package's __init__ collects names
            home = getattr(getattr(module, key), "__module__", name)
            assert home == name, f"{name}.__all__ names {key}, which {home} defines"


# ------------------------------------------------------------------ documentation

EXPORTED = [
    f"{name}.{key}"
    for name in (*PACKAGES, "compressm.layers")
    for key in getattr(importlib.import_module(name), "__all__", ())
]


def exported(path):
    module, _, key = path.rpartition(".")
    return getattr(importlib.import_module(module), key)


def parameters(function):
    names = inspect.signature(function).parameters
    return [name for name in names if name not in ("self", "cls") and not name.startswith("_")]


@pytest.mark.parametrize("path", EXPORTED)
def test_every_public_argument_is_documented(path):
    item = exported(path)
    assert item.__doc__, f"{path} has no docstring"
    abstract = inspect.isabstract(item) or getattr(item, "_is_protocol", False)
    if abstract or (inspect.isclass(item) and issubclass(item, BaseException)):
        return  # not for users to build
    parsed = NumpyDocString(inspect.cleandoc(item.__doc__))
    entries = [entry.name for part in ("Parameters", "Attributes") for entry in parsed[part]]
    documented = {name.strip(" *") for entry in entries for name in entry.split(",")}
    missing = [name for name in parameters(item) if name not in documented]
    assert not missing, f"{path} does not document {missing}"


@pytest.mark.parametrize("path", [path for path in EXPORTED if inspect.isclass(exported(path))])
def test_every_public_method_is_documented(path):
    item = exported(path)
    for name, member in vars(item).items():
        if name.startswith("_") or not (inspect.isroutine(member) or isinstance(member, property)):
            continue
        doc = inspect.getdoc(getattr(item, name))  # inherited where a base class has said it
        assert doc, f"{path}.{name} has no docstring"
        if inspect.isfunction(member):
            missing = [p for p in parameters(member) if not re.search(rf"\b{p}\b", doc)]
            assert not missing, f"{path}.{name} does not mention {missing}"
