"""Recipes: model, data, training and cuts of a run, as one flat YAML file of settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from reprlib import repr as shortened
from typing import Any, Literal, get_type_hints

import torch
from torch import nn

import lti
from compressm._optional import require
from compressm.compression.model_policies import Budget
from compressm.compression.options import Options
from compressm.compression.policies import ErrorBound, Policy, States
from compressm.errors import OptionError, RecipeError
from compressm.experiments.data import Dataset, cifar, digits, etth1, mnist, plaid, spoken_digits
from compressm.experiments.data.listops import listops
from compressm.experiments.training import Settings
from compressm.models import LAYERS
from compressm.penalties import HankelPenalty, nuclear_norm, smooth_order, tail_energy

__all__ = ["DATASETS", "SHIPPED", "Recipe", "load_data", "read_recipe", "to_yaml"]

DATASETS: dict[str, Callable[..., Dataset]] = {
    "cifar": cifar,
    "digits": digits,
    "etth1": etth1,
    "listops": listops,
    "mnist": mnist,
    "plaid": plaid,
    "spoken-digits": spoken_digits,
}
"""Data sets by name; a user may add one."""
SHIPPED = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))}
PENALTIES = {
    "nuclear_norm": nuclear_norm,
    "smooth_order": smooth_order,
    "tail_energy": tail_energy,
}
POLICIES = (ErrorBound, States, Budget)
LARGEST_TRIAL = 256  # states: larger layers take long to build


@dataclass(frozen=True, kw_only=True)
class Recipe(Settings):
    """Settings of a run, and its data."""

    data: str  # a name in DATASETS
    data_options: Mapping[str, Any] = field(default_factory=dict)  # arguments of the data set
    system: Literal["real", "complex"] = "real"  # which system is reduced; see Compressor
    # Arguments of ErrorBound, States or Budget, in place of `energy` and `output_error`
    policy: Mapping[str, Any] = field(default_factory=dict)
    penalty: Literal["nuclear_norm", "smooth_order", "tail_energy"] = "nuclear_norm"
    penalty_weight: float = 0.0  # factor of the penalty in the loss of runs that are cut

    @property
    def conjugate(self) -> bool:
        """`system` as `Compressor` takes it: True is the real system."""
        return self.system == "real"

    def make_policy(self) -> Policy:
        """The policy of the cuts: how far they go."""
        if not self.policy:
            return super().make_policy()
        names = {cls: [part.name for part in fields(cls)] for cls in POLICIES}
        cls = next((cls for cls in POLICIES if self.policy.keys() <= set(names[cls])), None)
        if cls is None:
            known = [name for of in names.values() for name in of]
            _require_known("setting of policy", self.policy, known)
            raise RecipeError(f"policy: no policy has all of {', '.join(self.policy)}; choose one")
        options = _checked("setting of policy", cls, self.policy)
        try:
            return cls(**options)
        except (TypeError, ValueError) as error:
            raise RecipeError(f"policy: {error}") from error

    def make_penalty(self, model: nn.Module) -> HankelPenalty:
        """The penalty that is added to the loss of `model`."""
        measure = PENALTIES[self.penalty]
        return HankelPenalty(model, measure, conjugate=self.conjugate, weight=self.penalty_weight)


def read_recipe(source: str | Path, changes: Iterable[str] = ()) -> Recipe:
    """The recipe in a file, or the shipped one of that name.

    Parameters
    ----------
    source
        Path of a YAML file, or a name in `SHIPPED`.
    changes
        Settings that replace those in the file: ``lr=1e-3``,
        ``layer_options.r_min=0.5``.

    Raises
    ------
    RecipeError
        If there is no such recipe, or the file is not a valid one.
    """
    path = SHIPPED.get(str(source), Path(source))
    yaml = require("yaml", "pyyaml")
    try:
        given = _read(path.read_text(encoding="utf-8"))
        if not isinstance(given, dict):
            raise RecipeError(f"{source} holds no settings: write a line 'name: value' for each")
        for change in changes:
            _change_(given, change, _read)
    except (OSError, UnicodeDecodeError) as error:
        near = get_close_matches(str(source), SHIPPED, 1)
        hint = f"did you mean {near[0]!r}?" if near else "give a YAML file, or one of "
        raise RecipeError(
            f"there is no recipe {source}: {hint}{'' if near else ', '.join(SHIPPED)}"
        ) from error
    except RecursionError as error:
        raise RecipeError(f"{source} is nested too deeply; a recipe is a flat file") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{source}: {' '.join(str(error).split())}") from error
    try:
        return _recipe(given)
    except RecipeError as error:
        raise RecipeError(f"{source}: {error}") from error


def to_yaml(recipe: Recipe) -> str:
    """The text of a YAML file from which `read_recipe` reads the same recipe."""
    return require("yaml", "pyyaml").safe_dump(asdict(recipe), sort_keys=False)


def load_data(recipe: Recipe, folder: str | Path | None = None) -> Dataset:
    """Load the data set that a recipe names.

    Parameters
    ----------
    recipe
        Recipe whose `data` and `data_options` are used.
    folder
        Folder that holds the files of the data set; see `compressm.experiments.data`.
    """
    load = DATASETS[recipe.data]
    place = {"folder": folder} if "folder" in signature(load).parameters else {}
    try:
        return load(**recipe.data_options, **place)
    except ValueError as error:
        raise RecipeError(f"data_options: {error}") from error


def _read(text: str) -> Any:
    """YAML, in which no name is set twice."""
    yaml = require("yaml", "pyyaml")

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            names = Counter(key.value for key, _ in node.value if isinstance(key.value, str))
            if twice := [name for name, count in names.items() if count > 1]:
                raise RecipeError(f"{', '.join(twice)} is set twice; leave one of the lines out")
            return super().construct_mapping(node, deep)

    return yaml.load(text, Loader)  # a SafeLoader: no code is run


def _change_(given: dict[str, Any], change: str, read: Callable[[str], Any]) -> None:
    name, equals, value = change.partition("=")
    if not equals:
        raise RecipeError(f"{change!r} is not of the form name=value")
    *path, last = name.split(".")
    for part in path:
        inner = given.get(part) or {}
        if not isinstance(inner, dict):
            raise RecipeError(f"{name}: {part} is {inner!r} and has no settings in it")
        given[part] = given = {**inner}
    given[last] = read(value)


def _recipe(given: Mapping[str, Any]) -> Recipe:
    values = _checked("setting", Recipe, given)
    missing = [
        part.name
        for part in fields(Recipe)
        if part.default is MISSING and part.default_factory is MISSING and part.name not in values
    ]
    if missing:
        raise RecipeError(f"{', '.join(missing)} must be given")
    _require_known("data", [values["data"]], DATASETS)
    options = values.get("data_options", {})
    values["data_options"] = _checked(
        f"option of {values['data']}", DATASETS[values["data"]], options, ("folder",)
    )
    layer = values.get("layer", "lru")
    _require_known("layer", [layer], LAYERS)
    values["layer_options"] = _checked(
        f"option of {layer}",
        LAYERS[layer].__init__,
        values.get("layer_options", {}),
        ("d_model", "d_state"),
    )
    try:
        recipe = Recipe(**values)
        Options(recipe.make_policy(), recipe.conjugate, recipe.gramians)
    except OptionError as error:
        raise RecipeError(str(error)) from error
    _try_layer(recipe)
    return recipe


@torch.random.fork_rng(devices=[])
def _try_layer(recipe: Recipe) -> None:
    """RecipeError if the layer does not take its options, before anything is loaded or trained."""
    if recipe.d_state > LARGEST_TRIAL:
        return
    try:
        LAYERS[recipe.layer](1, recipe.d_state, **recipe.layer_options)
    except (RuntimeError, TypeError, ValueError, lti.LTIError) as error:
        raise RecipeError(f"layer_options: {error}".splitlines()[0]) from error


def _checked(
    what: str, of: Any, given: Mapping[str, Any], taken: Iterable[str] = ()
) -> dict[str, Any]:
    """`given`, converted to the types that `of` is annotated with, such as "1e-3" to a number."""
    pydantic = require("pydantic")
    hints = get_type_hints(of)
    _require_known(what, given, hints.keys() - {*taken, "return"})
    values = {}
    for name, value in given.items():
        try:
            values[name] = pydantic.TypeAdapter(hints[name]).validate_python(value)
        except pydantic.ValidationError as error:
            said = error.errors()[0]["msg"]
            raise RecipeError(
                f"{name}: {said[0].lower()}{said[1:]}, got {shortened(value)}"
            ) from error
    return values


def _require_known(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    known = sorted(known)
    for name in given:
        if name not in known:
            near = get_close_matches(str(name), known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
            raise RecipeError(f"there is no {what} {name!r}; {hint if known else 'there is none'}")
