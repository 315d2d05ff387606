"""YAML as recipes are written in it."""

from __future__ import annotations

import re
from typing import Any

import yaml

NO_YAML = (yaml.YAMLError, ValueError, RecursionError)
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


def load_yaml(text: str) -> Any:
    """What the text says; one of ``NO_YAML`` if it is not YAML."""
    return yaml.load(text, _Yaml)  # a SafeLoader
