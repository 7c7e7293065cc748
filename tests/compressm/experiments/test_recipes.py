"""Recipes: files, changes, and what is refused."""

import pytest

from compressm import RecipeError
from compressm.experiments.recipes import read_recipe, to_yaml


def test_a_recipe_survives_its_file(recipe, tmp_path):
    (tmp_path / "again.yaml").write_text(to_yaml(recipe))
    assert read_recipe(tmp_path / "again.yaml") == recipe


def test_changes_replace_what_the_file_says():
    changed = read_recipe("smnist", ["lr=3e-3", "layer_options.r_min=5e-1", "policy.n_stored=7"])
    assert changed.lr == 3e-3
    assert changed.layer_options == {"r_min": 0.5, "r_max": 0.999}
    assert repr(changed.make_policy()) == "States(n_stored=7)"
    assert repr(read_recipe("smnist").make_policy()) == "KeepEnergy(energy=0.98)"


@pytest.mark.parametrize(
    "change, said",
    [
        ("d_stat=3", "there is no setting 'd_stat'; did you mean 'd_state'?"),
        ("layer_options.rmin=1", "there is no option of lru 'rmin'; did you mean 'r_min'?"),
        ("data_options.x=1", "there is no option of mnist 'x'"),
        ("layer=lrv", "did you mean 'lru'?"),
        ("data=mnst", "did you mean 'mnist'?"),
        ("policy.n_stord=1", "did you mean 'n_stored'?"),
        ("policy.n_stored=0", "n_stored must be an integer of at least 1"),
        ("steps=1.5", "steps: input should be a valid integer"),
        ("steps=0", "steps must be at least 1, got 0"),
        ("energy=2", "energy is a fraction"),
        ("lr=-1", "lr must be a positive number"),
        ("lr_floor=1", "lr_floor must lie in"),
        ("weight_decay=-1", "weight_decay must be a number >= 0"),
        ("weight_decay=.nan", "weight_decay must be a number >= 0"),
        ("dropout=5", r"dropout must lie in"),
        ("dropout=.nan", r"dropout must lie in"),
        ("gramians=both", "gramians: input should be 'model', 'input', 'data' or 'output'"),
        ("lr", "not of the form name=value"),
        ("lr.x=3", "lr is .* and has no settings in it"),
        ("lr=[", "smnist: "),
    ],
)
def test_what_makes_no_sense_is_said_and_what_would(change, said):
    with pytest.raises(RecipeError, match=said.replace("?", r"\?")):
        read_recipe("smnist", [change])


def test_two_policies_at_once_are_refused():
    with pytest.raises(RecipeError, match="no policy has all of n_stored, tol"):
        read_recipe("smnist", ["policy.n_stored=3", "policy.tol=1"])


@pytest.mark.parametrize(
    "content, said", [("- 1", "holds no settings"), ("lr: 1", "must be given")]
)
def test_what_is_no_recipe_is_refused(tmp_path, content, said):
    (tmp_path / "x.yaml").write_text(content)
    with pytest.raises(RecipeError, match=said):
        read_recipe(tmp_path / "x.yaml")
    with pytest.raises(RecipeError, match="there is no recipe .*smnist"):
        read_recipe(tmp_path / "nothing.yaml")
