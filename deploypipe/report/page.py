"""``report.html``: one self-contained page, without network and without script."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources

from jinja2 import Environment, StrictUndefined, Template

from deploypipe.core.files import Json
from deploypipe.report import words
from deploypipe.report.comparison import comparison, remarks
from deploypipe.report.headline import checks, headline
from deploypipe.report.pictures import figures, ledger_figures
from deploypipe.report.schema import Report, read_report
from deploypipe.report.stages import command, fitting, fitting_json, pairs, stages

ROOM = 100_000
"""Characters that all stages together may take, so that the page stays below 200 kB."""


def render_html(report: Mapping[str, Json] | Report) -> str:
    """The page, below 200 kB.

    Raises:
        UserError: the report is of another version or shape.
    """
    read = read_report(report)
    return _template().render(
        report=read,
        words=words,
        headline=headline(read),
        rows=comparison(read),
        remarks=remarks(read),
        checks=checks(read),
        panels=ledger_figures(read),
        figures=figures(read),
        stages=stages(read, ROOM),
        drift=drift(read),
        data=_data(read),
        environment=_environment(read),
        recipe=fitting_json(read.recipe, 20_000),
        command=command(read),
    )


@functools.cache
def _template() -> Template:
    source = resources.files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source)


def drift(report: Report) -> list[tuple[str, str]]:
    """How alike the two models answer: ``top1_agreement`` is a share, ``sqnr_db`` is in dB."""
    told = []
    known = {key: value for key, value in report.drift.items() if value not in (None, [])}
    for key, value in known.items():
        name = words.plain(key.removesuffix("_db").replace("_", " "), 60)
        if key.endswith("agreement") and isinstance(value, int | float):
            told.append((name, words.percent(value)))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            told.append((name, words.quantity(value, "dB" if key.endswith("_db") else "")))
        else:
            told += pairs({name: value})
    return told[:40]


def _environment(report: Report) -> list[tuple[str, str]]:
    target = {} if report.target is None else {"target": report.target}
    return pairs({**target, **report.environment})[:80]


def _data(report: Report) -> dict[str, Json] | None:
    if report.data is None:
        return None
    told = {"source": report.data.source, "preprocess": report.data.preprocess}
    told |= report.data.model_extra or {}
    return {
        "facts": pairs({name: value for name, value in told.items() if value is not None}),
        "splits": report.data.splits,
        "notes": fitting(report.data.notes, 8_000),
    }
