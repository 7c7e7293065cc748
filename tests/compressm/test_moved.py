"""Old module paths lead to the modules that hold their names now."""

from importlib import import_module
from importlib.util import find_spec

import pytest

from compressm._moved import MOVED


@pytest.mark.parametrize("old", MOVED)
def test_an_old_path_has_a_module_to_lead_to(old):
    """Without importing it, since some need optional packages that take seconds."""
    assert find_spec(f"compressm.{old}") and find_spec(f"compressm.{MOVED[old]}")


@pytest.mark.parametrize("old", ["data", "recipes", "schedules", "surgery", "training"])
def test_an_old_path_is_the_new_module(old):
    module = import_module(f"compressm.{MOVED[old]}")
    assert import_module(f"compressm.{old}") is module
    assert module.__spec__.name == module.__name__ == f"compressm.{MOVED[old]}"
