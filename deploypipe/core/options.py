"""Options are the constructor's parameters: one place for types, defaults, errors and schema.

``build(Percentile, {"share": 99.9}, "steps[5].quantize.calibrator")`` checks the mapping against
the constructor of ``Percentile`` and calls it.  Every error names the path, what was expected and
what came.  The same models give the JSON Schema.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import inspect
import json
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from deploypipe.core.errors import UserError, did_you_mean

# pydantic takes a third of the start of a process, and a process that only times a model has no use
# for it: so it is imported where it is used.
if TYPE_CHECKING:
    import pydantic
    from pydantic_core import ErrorDetails

T = TypeVar("T")
M = TypeVar("M", bound="pydantic.BaseModel")

_EXPECTED = {
    "int_type": "int",
    "int_from_float": "int",
    "float_type": "float",
    "string_type": "str",
    "bool_type": "bool",
    "list_type": "list",
    "tuple_type": "list",
    "dict_type": "mapping",
    "model_type": "mapping",
    "path_type": "path",
}

_WORDS = {Path: "path"}


NAMES: dict[type, str] = {}
"""What the user types for classes that are not called after their file: those of plug-ins."""


def name_of(cls: type) -> str:
    """The name that the user types for a class: that of its file, unless it was given another."""
    module = cls.__module__.rsplit(".", 1)[-1]
    return NAMES.get(cls) or module.lstrip("_").replace("_", "-")


def model_of(cls: type) -> type[pydantic.BaseModel]:
    """The pydantic model of a class's constructor: one field per parameter."""
    return _model_of(cls)


@functools.cache
def _model_of(cls: type) -> type[pydantic.BaseModel]:
    import pydantic

    constructor = cls.__init__  # type: ignore[misc]
    # Inherited fields are annotated with names of the file that they come from.
    annotated = cls if dataclasses.is_dataclass(cls) else constructor
    hints = typing.get_type_hints(annotated, include_extras=True)
    fields: dict[str, Any] = {}
    for name, parameter in list(inspect.signature(constructor).parameters.items())[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        fields[name] = (hints.get(name, Any), _default(cls, name, parameter))
    config = pydantic.ConfigDict(
        extra="forbid", strict=True, arbitrary_types_allowed=True, allow_inf_nan=False
    )
    return pydantic.create_model(cls.__name__, __config__=config, **fields)


def _default(cls: type, name: str, parameter: inspect.Parameter) -> Any:
    import pydantic

    if dataclasses.is_dataclass(cls):
        for field in dataclasses.fields(cls):
            if field.name == name and field.default_factory is not dataclasses.MISSING:
                return pydantic.Field(default_factory=field.default_factory)
    return ... if parameter.default is parameter.empty else parameter.default


def build(cls: type[T], given: Mapping[str, Any] | None, where: str) -> T:
    """Call ``cls`` with ``given`` after checking it.

    Raises:
        UserError: an option is unknown, missing or of the wrong type; says where.
    """
    model = check(model_of(cls), dict(given or {}), where)
    values = {name: getattr(model, name) for name in type(model).model_fields}
    try:
        return cls(**values)
    except ValueError as error:  # a range check in __post_init__
        raise UserError(str(error), where=where) from error


def check(model: type[M], given: Any, where: str) -> M:
    """Validate plain data (as YAML or JSON gives it) against a pydantic model.

    Raises:
        UserError: the first error, with its path and, for a typo, the nearest name.
    """
    import pydantic

    try:
        text = json.dumps(given, default=str)
    except (TypeError, ValueError) as error:
        raise UserError(f"not plain data: {error}", where=where) from error
    try:
        return model.model_validate_json(text, strict=True)
    except pydantic.ValidationError as error:
        raise _explain(_first(error.errors()), model, where) from None


def _first(errors: list[ErrorDetails]) -> ErrorDetails:
    """A misspelt name explains a missing one, so it is told first."""
    unknown = [error for error in errors if error["type"] == "extra_forbidden"]
    return (unknown or errors)[0]


def _explain(error: ErrorDetails, model: type[pydantic.BaseModel], where: str) -> UserError:
    path = _path(where, error["loc"])
    inner = error.get("ctx", {}).get("error")
    if isinstance(inner, _NestedError):
        inside = f"{path}.{inner.error.where}" if inner.error.where else path
        return UserError(inner.error.what, where=inside, then=inner.error.then)
    match error["type"]:
        case "extra_forbidden":
            known = _known_at(model, error["loc"][:-1])
            word = str(error["loc"][-1])
            parent = _path(where, error["loc"][:-1])
            return UserError(f"unknown option '{word}', {did_you_mean(word, known)}", where=parent)
        case "missing":
            return UserError("required, but not given", where=path)
        case kind if kind in _EXPECTED:
            return UserError(f"expected {_EXPECTED[kind]}, got {error['input']!r}", where=path)
        case "literal_error" | "enum":
            expected = error["ctx"]["expected"].replace(" or ", ", ").replace("'", "")
            word = str(error["input"])
            hint = did_you_mean(word, expected.split(", "))
            return UserError(f"expected one of {expected}, got {word!r}; {hint}", where=path)
        case _:
            message = error["msg"].removeprefix("Value error, ")
            message = message[:1].lower() + message[1:]
            return UserError(f"{message}, got {error['input']!r}", where=path)


def _path(where: str, loc: tuple[int | str, ...]) -> str:
    """``data`` and ``("mean", 0)`` -> ``data.mean[0]``."""
    steps = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return (where + "".join(steps)).lstrip(".")


def _known_at(model: type[pydantic.BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Field names of the (nested) model that ``loc`` leads to."""
    for part in loc:
        field = model.model_fields.get(str(part))
        nested = _model_in(field.annotation) if field else None
        if nested is None and not isinstance(part, int):
            break
        model = nested or model
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[pydantic.BaseModel] | None:
    import pydantic

    candidates = [annotation, *typing.get_args(annotation)]
    models = (c for c in candidates if isinstance(c, type) and issubclass(c, pydantic.BaseModel))
    return next(models, None)


class _NestedError(ValueError):
    """Carries a finished error of ours through pydantic."""

    def __init__(self, error: UserError) -> None:
        self.error = error
        super().__init__(str(error))


def through_pydantic(error: UserError) -> ValueError:
    """Wrap an explained error, so that it leaves a pydantic validator unchanged."""
    return _NestedError(error)


def values_of(instance: object) -> dict[str, Any]:
    """The options that rebuild ``instance``, as plain JSON; its part of the cache key."""
    model = model_of(type(instance))
    given = {name: getattr(instance, name) for name in model.model_fields}
    return {name: _plain(value) for name, value in given.items()}


def _plain(value: Any) -> Any:
    import pydantic

    if isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if dataclasses.is_dataclass(value) or type(value) in NAMES:
        return {name_of(type(value)): values_of(value)}
    return str(value)


def value_of(text: str) -> Any:
    """A value as it stands on the command line: JSON, or else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def given_in(parts: Iterable[str], where: str, then: str | None = None) -> dict[str, Any]:
    """Texts ``option=value`` as values by name.

    Raises:
        UserError: one is no such text, or names an option again.
    """
    given: dict[str, Any] = {}
    for part in parts:
        option, equals, value = (one.strip() for one in part.partition("="))
        if not equals or option in given:
            what = "comes twice" if equals else "is no OPTION=VALUE"
            raise UserError(f"'{part.strip()}' {what}", where=where or None, then=then)
        given[option] = value_of(value)
    return given


@dataclasses.dataclass(frozen=True)
class OptionLine:
    """One option as a person reads it."""

    name: str
    type: str
    default: str


def describe(cls: type) -> list[OptionLine]:
    """The options of a class, for ``deploypipe list`` and ``plan``."""
    lines = []
    for name, field in model_of(cls).model_fields.items():
        default = "required"
        if not field.is_required():
            default = in_words(_plain(field.get_default(call_default_factory=True)))
        lines.append(
            OptionLine(name, _shelf(field.metadata) or _type_words(field.annotation), default)
        )
    return lines


def _type_words(kind: Any) -> str:
    """``int``, ``list of pass``, ``fast | exact``, ``path | null``; a spec is called by its shelf."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _shelf(kind.__metadata__) or _type_words(kind.__origin__)
    if origin is typing.Literal:
        return " | ".join(map(str, inner))
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(_type_words, inner))
    if origin in (tuple, list, collections.abc.Sequence):
        known = [one for one in inner if one is not ...]
        same = len(set(known)) == 1
        return f"list of {_type_words(known[0])}" if same else "list"
    if origin is not None or kind in (dict, Any):
        return {dict: "mapping", collections.abc.Mapping: "mapping"}.get(origin or kind, "any")
    return "null" if kind is type(None) else str(_WORDS.get(kind, getattr(kind, "__name__", kind)))


def _shelf(metadata: Sequence[Any]) -> str | None:
    """The kind of the shelf that a spec's annotation names."""
    return next((str(one.shelf.kind) for one in metadata if hasattr(one, "shelf")), None)


def in_words(value: Any) -> str:
    """A plain value as short text: a spec as ``percentile(share=99.9)``, a list with commas."""
    if isinstance(value, Mapping):
        if len(value) == 1 and isinstance(given := next(iter(value.values())), Mapping):
            inside = ", ".join(f"{key}={in_words(one)}" for key, one in given.items())
            return f"{next(iter(value))}({inside})" if inside else str(next(iter(value)))
        return "{" + ", ".join(f"{key}: {in_words(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(in_words, value)) + "]"
    return value if isinstance(value, str) and value else json.dumps(value)
