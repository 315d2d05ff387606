"""The published JSON Schema of ``report.json``: ``report.schema.json`` beside this file."""

from __future__ import annotations

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema

from deploypipe.core.files import Json
from deploypipe.report.schema import VERSION, Report

FILE = "report.schema.json"

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _Honest(GenerateJsonSchema):
    """Numbers may be the words for what JSON cannot hold; lists and mappings may be null."""

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        words = {"enum": ["NaN", "Infinity", "-Infinity"]}
        return {"anyOf": [super().float_schema(schema), words]}

    def generate(self, schema: core_schema.CoreSchema, mode: JsonSchemaMode = "validation") -> Json:
        made = super().generate(schema, mode)
        for part in (made, *made.get("$defs", {}).values()):
            for name, one in part.get("properties", {}).items():
                part["properties"][name] = _nullable(one)
        return made


def _nullable(one: Json) -> Json:
    if one.get("type") not in ("array", "object"):
        return one
    shape = {key: value for key, value in one.items() if key not in ("title", "default")}
    rest = {key: value for key, value in one.items() if key in ("title", "default")}
    return {"anyOf": [shape, {"type": "null"}], **rest}


def report_schema() -> dict[str, Json]:
    """JSON Schema (2020-12) of this version.  Keys it does not name are allowed: a newer deploypipe
    may add some, and only what changes their meaning changes the version."""
    made = Report.model_json_schema(schema_generator=_Honest)
    head = {"$schema": DIALECT, "$id": f"urn:deploypipe:report:{VERSION}"}
    return {**head, **made, "title": f"deploypipe report, version {VERSION}"}
