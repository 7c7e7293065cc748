"""Old module paths: each is the module that holds its names now."""

import importlib
import subprocess
import sys

import pytest

import compressm
from compressm._moved import MOVED

# Of each old module, the public names that are still there
NAMES = {
    "adapters": "directions is_supported load_lti_ reads_itself to_lti",
    "callbacks": "Deferred",
    "compressor": "Compressor",
    "cutting": "CompressionEvent compress_ outlook",
    "data": "DataError Dataset cifar digits mnist require spoken_digits",
    "demo": "demo",
    "distributed": "from_first replica_of rewrap_",
    "empirical": "ObservationError observability_factor observed_factor",
    "families": "FAMILIES Family family_of",
    "hankel": "hankel_spectra ssm_layers",
    "hippo": "hippo_legs hippo_normal hippo_nplr s4d_inv s4d_legs s4d_lin",
    "html": "save_report",
    "huggingface": "CompressionCallback",
    "lightning": "CompressionCallback",
    "listops": "TOKENS listops",
    "observations": "Observer observe",
    "policies": "ENERGIES Budget ErrorBound KeepEnergy MetricDrop Order Policy",
    "rebuilding": "inputs_of rebuilt",
    "recipes": "DATASETS SHIPPED Recipe RecipeError load_data read_recipe to_yaml",
    "recurrence": "recur_ recur_by_kernel_ recur_by_step_",
    "report": "Watch picture table",
    "rollback": "Rollback",
    "runs": "ARMS Run RunError read_run train",
    "scan": "linear_ssm linear_ssm_reference powers_of steps_within",
    "schedules": "At Every Schedule",
    "selection": "Coefficients coefficients is_selective keep_states_ state_count",
    "selective": "selective_scan selective_scan_reference",
    "signals": "Signal",
    "snapshots": "attributes_of restore_ snapshot",
    "surgery": "resize_",
    "tables": "kinds_table outlook_table spectra_table",
    "tensorboard": "Board",
    "training": (
        "Point RunResult Settings Spectra Step TrainingError accuracy from_record "
        "model_of orders run to_record"
    ),
    "trees": "CheckpointError load_tree replacing save_tree",
    "weights": "layers_in prefixes read_checkpoint",
}


@pytest.mark.parametrize("old", MOVED)
def test_an_old_path_is_the_new_module(old):
    module = importlib.import_module(f"compressm.{old}")
    assert module is importlib.import_module(f"compressm.{MOVED[old]}")
    assert module.__spec__.name == module.__name__ == f"compressm.{MOVED[old]}"


def test_every_old_module_has_names():
    assert NAMES.keys() == MOVED.keys()


@pytest.mark.parametrize("old", NAMES)
def test_an_old_path_has_its_names(old):
    module = importlib.import_module(f"compressm.{old}")
    missing = [name for name in NAMES[old].split() if not hasattr(module, name)]
    assert not missing


def test_old_paths_load_nothing_before_they_are_asked_for():
    script = "import sys, compressm; print(*(m for m in sys.modules if 'compressm.' in m))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    loaded = run.stdout.split()
    assert not {f"compressm.{old}" for old in MOVED} & set(loaded)
    assert "compressm.experiments.report.html" not in loaded


@pytest.mark.parametrize("name", compressm.__all__)
def test_public_names_are_there(name):
    assert getattr(compressm, name).__doc__
