"""YAML <-> Recipe: everything that a run is told, checked before any work.

``read_recipe`` raises the first mistake with its path and, for a typo, the nearest name.  The
plug-ins come onto their shelves before the rest is checked, so that any part may name them.
``schema`` is the JSON Schema of the same models, so that an editor can say it earlier.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from deploypipe.core import options, shelf
from deploypipe.core.errors import UserError
from deploypipe.core.files import Json
from deploypipe.data import DataRecipe
from deploypipe.data.recipe import Seed
from deploypipe.data.spec import locate
from deploypipe.runtime import TARGETS
from deploypipe.stages import STAGES, Stage
from deploypipe.validate.verdict import Budget

ROOMS_WITH_SHELVES = (
    "deploypipe.graph",
    "deploypipe.runtime",
    "deploypipe.quantize",
    "deploypipe.compress",
    "deploypipe.validate",
    "deploypipe.data",
    "deploypipe.stages",
)


class _SpecOf:
    """Annotation of a field that holds a spec for a shelf; checked when the recipe is planned."""

    def __init__(self, one: shelf.Shelf[Any]) -> None:
        self.shelf = one

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return self.shelf.schema()


class ModelRecipe(BaseModel):
    """The model as it comes: built by a function, with or without weights; or an ONNX file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    build: str | None = None
    args: dict[str, Any] = Field(default_factory=dict)
    weights: str | None = None
    onnx: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        return model_of_text(given) if isinstance(given, str) else given

    @model_validator(mode="after")
    def _one_of_both(self) -> ModelRecipe:
        if (self.build is None) == (self.onnx is None):
            raise ValueError("give either build (FILE.py:FUNCTION) or onnx (a file)")
        if self.onnx and (self.weights or self.args):
            raise ValueError("weights and args belong to build, not to onnx")
        return self


def model_of_text(text: str) -> dict[str, Any]:
    """What a bare ``model:`` text stands for."""
    return {"onnx" if text.endswith(".onnx") else "build": text}


class _Plugins(BaseModel):
    """What is read of a recipe before anything else."""

    plugins: list[str] = Field(default_factory=list)


class Recipe(BaseModel):
    """A whole run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)
    model: ModelRecipe
    data: DataRecipe
    steps: list[Annotated[Any, _SpecOf(STAGES)]] = Field(min_length=1)
    target: Annotated[Any, _SpecOf(TARGETS)] = "cpu"
    budget: Budget = Budget()
    seed: Seed = 0
    plugins: list[str] = Field(default_factory=list)


@dataclass(frozen=True)
class Step:
    """One step of a recipe, built: its name, where it stands and what runs it."""

    name: str
    where: str
    stage: Stage


def read_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a YAML recipe, apply ``--set a.b=c`` changes and load its plug-ins.

    Raises:
        UserError: no such file, not YAML, or the first thing that is wrong in it.
    """
    given = _yaml_file(path)
    for change in changes:
        _set(given, change)
    _load_plugins(options.check(_Plugins, given, "").plugins, path.absolute().parent)
    return options.check(Recipe, given, "")


def _yaml_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError("no such recipe", where=str(path), then="Give the path of a YAML file")
    try:
        given = _load(path.read_text(encoding="utf-8"))
    except _NO_YAML as error:
        reason = " ".join(str(error).split())
        raise UserError(f"not YAML: {reason}", where=str(path)) from error
    if not isinstance(given, dict):
        raise UserError("a recipe is a mapping with name, model, data and steps", where=str(path))
    return given


_NO_YAML = (yaml.YAMLError, ValueError, RecursionError)
"""What reading YAML raises; ValueError for no text, or a date such as 2020-13-45."""


class _Yaml(yaml.SafeLoader):
    """Plain YAML, where 1e-3 is a number, as in JSON, and a key may stand only once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if keys.count(key.value) > 1 and key.value != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, f"'{key.value}' is given twice", key.start_mark
                )
        return super().construct_mapping(node, deep)


_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _load(text: str) -> Any:
    return yaml.load(text, _Yaml)  # a SafeLoader


def _set(given: dict[str, Any], change: str) -> None:
    """Apply ``a.b.0.c=value``; a step may be named, not numbered: ``steps.train.epochs=3``."""
    path, equals, text = change.partition("=")
    if not equals or not path:
        raise UserError(f"expected a.b=value, got {change!r}", where="--set")
    try:
        value = _load(text)
    except _NO_YAML as error:
        raise UserError(f"{text!r} is not a YAML value", where=f"--set {path}") from error
    place: Any = given
    *parents, last = path.split(".")
    for part in parents:
        place = _inside(place, part, path)
    place[_key(place, last, path)] = value


def _inside(place: Any, part: str, path: str) -> Any:
    """What ``part`` leads to, made a mapping where it is none yet."""
    key = _key(place, part, path)
    known = isinstance(place, list) or key in place
    inner: Any = _opened(place[key] if known else None, part)
    place[key] = inner
    # A step may be named instead of numbered, and then its name leads to its options at once.
    named = isinstance(place, list) and isinstance(inner, dict) and part in inner
    if named and not isinstance(inner[part], dict | list):
        inner[part] = _opened(inner[part], part)
    return inner[part] if named else inner


def _opened(value: Any, part: str) -> dict[str, Any] | list[Any]:
    """A mapping or list as it is; a bare name as a mapping that has room for its options."""
    if isinstance(value, dict | list):
        return value
    if not isinstance(value, str):
        return {}
    if part == "data":
        return {"source": value}
    return model_of_text(value) if part == "model" else {value: {}}


def _key(place: Any, part: str, path: str) -> Any:
    """A mapping's key, or the position of a list's entry, by number or by the name of a step."""
    if isinstance(place, dict):
        return part
    names = [next(iter(entry), "") if isinstance(entry, dict) else entry for entry in place]
    if part.isdigit() and int(part) < len(place):
        return int(part)
    if names.count(part) == 1:
        return names.index(part)
    if part in names:
        places = ", ".join(str(place) for place, name in enumerate(names) if name == part)
        raise UserError(
            f"'{part}' is there more than once",
            where=f"--set {path}",
            then=f"Give its number instead, one of {places}",
        )
    known = ", ".join(map(str, names))
    raise UserError(f"no entry '{part}'; there are: {known}", where=f"--set {path}")


def _load_plugins(plugins: Sequence[str], folder: Path) -> None:
    """Put a recipe's plug-in files on their shelves."""
    for number, text in enumerate(plugins):
        where = f"plugins[{number}]"
        shelves()
        shelf.load_plugins(locate(text, where, folder), where)


def build_steps(recipe: Recipe, folder: Path = Path()) -> list[Step]:
    """Build every step with all its options, so that every typo shows before any work.

    Relative paths in options start at ``folder``, the recipe's.
    """
    steps = []
    for number, spec in enumerate(recipe.steps):
        where = f"steps[{number}]"
        name, _ = STAGES.split(spec, where)
        with shelf.paths_start_at(folder):
            steps.append(Step(name, f"{where}.{name}", STAGES.build(spec, where)))
    return steps


def shelves() -> Mapping[str, shelf.Shelf[Any]]:
    """All shelves by kind; imports the rooms, not what lies on the shelves."""
    for room in ROOMS_WITH_SHELVES:
        importlib.import_module(room)
    return shelf.ALL


def schema() -> Json:
    """JSON Schema (2020-12) of a recipe, with every step and option."""
    shelves()
    text = Recipe.model_json_schema()
    for short in ("model", "data"):  # a bare text stands for the commonest form
        text["properties"][short] = {"anyOf": [{"type": "string"}, text["properties"][short]]}
    text["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.loads(json.dumps(text))
