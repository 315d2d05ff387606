"""YAML <-> Recipe: everything that a run is told, checked before any work.

``read_recipe`` raises the first mistake with its path and, for a typo, the nearest name.  The
plug-ins come onto their shelves before the rest is checked, so that any part may name them.
``schema`` is the JSON Schema of the same models, so that an editor can say it earlier.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from deploypipe.changes import SHORT, change
from deploypipe.core import options, shelf
from deploypipe.core.errors import UserError
from deploypipe.core.files import Json
from deploypipe.data import DataRecipe
from deploypipe.data.recipe import Seed
from deploypipe.data.spec import locate
from deploypipe.plain_yaml import NO_YAML, load_yaml
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
        return SHORT["model"](given) if isinstance(given, str) else given

    @model_validator(mode="after")
    def _one_of_both(self) -> ModelRecipe:
        if (self.build is None) == (self.onnx is None):
            raise ValueError("give either build (FILE.py:FUNCTION) or onnx (a file)")
        if self.onnx and (self.weights or self.args):
            raise ValueError("weights and args belong to build, not to onnx")
        return self


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
    for asked in changes:
        change(given, asked, Recipe.model_fields)
    _load_plugins(options.check(_Plugins, given, "").plugins, path.absolute().parent)
    return options.check(Recipe, given, "")


def _yaml_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError("no such recipe", where=str(path), then="Give the path of a YAML file")
    try:
        given = load_yaml(path.read_text(encoding="utf-8"))
    except NO_YAML as error:
        reason = " ".join(str(error).split())
        raise UserError(f"not YAML: {reason}", where=str(path)) from error
    if not isinstance(given, dict):
        raise UserError("a recipe is a mapping with name, model, data and steps", where=str(path))
    return given


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
