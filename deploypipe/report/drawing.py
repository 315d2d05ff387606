"""Templates of pages: found in this package, everything escaped, nothing undefined."""

from __future__ import annotations

import functools
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined


def draw(template: str, **values: object) -> str:
    """The page that a template of ``templates/`` gives."""
    return _environment().get_template(template).render(**values).lstrip()


@functools.cache
def _environment() -> Environment:
    return Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _source(name: str) -> str:
    folder = resources.files(__package__).joinpath("templates")
    return folder.joinpath(name).read_text(encoding="utf-8")
