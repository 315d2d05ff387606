"""How the user writes a source: ``parquet:FILE``, or ``{parquet: {file: FILE, label: y}}``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from deploypipe.core import options
from deploypipe.core.errors import UserError, did_you_mean
from deploypipe.data.source import SOURCES, Source

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


def source_of(spec: object, where: str = "data", folder: Path = Path()) -> Source:
    """Build the source that ``spec`` names; relative paths start at ``folder``.

    Raises:
        UserError: unknown source or option, missing file, unset environment variable.
        EnvironmentLacks: the source needs a package that is not installed.
    """
    if isinstance(spec, Source):
        return spec
    name, given = read_spec(spec, where)
    cls = SOURCES.get(name, where)
    given = _by_name(cls, name, given, where)
    return SOURCES.build({name: _located(cls, given, f"{where}.{name}", folder)}, where)


def read_spec(spec: object, where: str) -> tuple[str, str | Mapping[str, Any]]:
    """The source's name, and its argument or its options; imports no source.

    Raises:
        UserError: not a spec, or no source has that name.
    """
    if isinstance(spec, str):
        name, colon, argument = spec.partition(":")
        given: str | Mapping[str, Any] = argument if colon else {}
    else:
        name, given = _pair(spec) or SOURCES.split(spec, where)
    if name not in SOURCES.names():
        raise _unknown(str(spec) if isinstance(spec, str) else name, name, where)
    return name, given


def _pair(spec: object) -> tuple[str, str] | None:
    """``{parquet: FILE}`` as a name and its bare argument."""
    pair = next(iter(spec.items())) if isinstance(spec, Mapping) and len(spec) == 1 else None
    return pair if pair and isinstance(pair[0], str) and isinstance(pair[1], str) else None


def _unknown(text: str, name: str, where: str) -> UserError:
    suffix = Path(name).suffix[1:]
    then = f"Write it as {suffix}:{text}" if suffix in SOURCES.names() else None
    hint = did_you_mean(name, SOURCES.names())
    return UserError(f"unknown source '{name}', {hint}", where=where, then=then)


def _by_name(
    cls: type[Source], name: str, given: str | Mapping[str, Any], where: str
) -> dict[str, Any]:
    """A bare argument becomes the source's first option."""
    if isinstance(given, Mapping):
        return dict(given)
    first = next(iter(options.model_of(cls).model_fields), None)
    if first is None:
        raise UserError(f"'{name}' takes no argument, got {given!r}", where=where)
    if not given:
        raise UserError(
            f"nothing follows '{name}:'", where=where, then=f"Write {name}:{first.upper()}"
        )
    return {first: given}


def _located(cls: type[Source], given: dict[str, Any], where: str, folder: Path) -> dict[str, Any]:
    """``given`` with every option that is a path made absolute, and there."""
    located = dict(given)
    for name, field in options.model_of(cls).model_fields.items():
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        value = given.get(name, default)
        if "Path" in str(field.annotation) and isinstance(value, str | Path):
            located[name] = locate(str(value), f"{where}.{name}", folder)
    return located


def locate(text: str, where: str, folder: Path) -> Path:
    """An existing absolute path for what the user wrote.

    Raises:
        UserError: an environment variable is not set, or nothing is there.
    """
    try:
        path = Path(
            _VARIABLE.sub(lambda match: _value(match[1] or match[2], where), text)
        ).expanduser()
    except RuntimeError as error:  # ~nobody
        raise UserError(f"cannot expand '{text}': {error}", where=where) from error
    path = (folder / path).absolute()
    if not path.exists():
        raise UserError(
            f"no such file or folder: {path}",
            where=where,
            then=f"Relative paths start at {folder.absolute()}",
        )
    return path


def _value(variable: str, where: str) -> str:
    value = os.environ.get(variable, "")
    if not value:
        raise UserError(
            f"the environment variable {variable} is not set",
            where=where,
            then=f"Set it, for example: export {variable}=/path/to/data",
        )
    return value


class _Spec:
    """Annotation of a field that names a source; checks the name, opens nothing."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        variants = SOURCES.schema()["anyOf"][1:]
        for variant in variants:
            for choices in variant["properties"].values():
                choices["anyOf"].append({"type": "string"})
        return {"anyOf": [{"type": "string", "description": "source:argument"}, *variants]}

    def _check(self, spec: object) -> object:
        try:
            read_spec(spec, "")
        except UserError as error:
            raise options.through_pydantic(UserError(error.what, then=error.then)) from error
        return spec


Spec = Annotated[Any, _Spec()]
"""A pydantic field that names a source: its name is checked, nothing is opened."""
