"""Sphinx configuration: `make docs`."""

import re
from importlib.metadata import version as installed_version

project = "compressm"
author = "the compressm authors"
copyright = "the compressm authors"
version = release = installed_version("compressm")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
html_theme = "furo"
html_title = "compressm"

myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3  # so that pages can link to each other's sections

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # shapes and types stand in the docstrings
numpydoc_show_class_members = False  # _templates/autosummary/class.rst shows them
default_role = "code"


def escape_bars(app, what, name, obj, options, lines):
    """In docstrings |x| is an absolute value, not a substitution; code and examples stay as is."""
    example = False
    for i, line in enumerate(lines):
        example = line.lstrip().startswith(">>>") or (example and line.strip())
        if not example:
            parts = re.split(r"(`+[^`]+`+)", line)
            parts[::2] = [re.sub(r"\|(?=\S)", r"\\|", part) for part in parts[::2]]
            lines[i] = "".join(parts)


def setup(app):
    app.connect("autodoc-process-docstring", escape_bars, priority=100)  # before numpydoc
