"""``report.html``: one self-contained page, without network and without script."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploypipe.core.files import Json
from deploypipe.report import words
from deploypipe.report.again import again
from deploypipe.report.channels import removals
from deploypipe.report.comparison import comparison, remarks
from deploypipe.report.drawing import draw
from deploypipe.report.eight_bits import eight_bits
from deploypipe.report.facts import data_facts, drift_facts, environment_facts
from deploypipe.report.headline import checks, headline
from deploypipe.report.layer_bars import layers_figure, worst_layers
from deploypipe.report.ledger import ledger
from deploypipe.report.pictures import ledger_figures, pareto_figures, sureness_figures
from deploypipe.report.samples import worst_samples
from deploypipe.report.schema import Report, read_report
from deploypipe.report.scores import Score
from deploypipe.report.stages import fitting_json, stages

ROOM = 80_000
"""Characters that all stages together may take, so that the page stays below 300 kB."""

SECTIONS = {
    "comparison": ("Comparison", "rows"),
    "checks": ("Checks", "checks"),
    "ledger": ("Steps", "ledger"),
    "sure": ("Certainty", "sureness"),
    "answers": ("Answers", "answers"),
    "channels": ("Channels", "removals"),
    "int8": ("Fewer bits", "eight_bits"),
    "refused": ("Refused", "refused"),
    "stages": ("Stages", "stages"),
    "data": ("Data", "data"),
    "placement": ("Placement", "kernels"),
    "environment": ("Environment", "environment"),
    "again": ("Again", "again"),
}
"""Anchor -> its title in the navigation, and the value without which it is left out."""


def render_html(report: Mapping[str, Json] | Report) -> str:
    """The page, below 300 kB.

    Raises:
        UserError: the report is of another version or shape.
    """
    read = read_report(report)
    values = {**_measured(read), **_told(read)}
    answers = values["drift"] or values["layers"] or values["samples"]
    shown = {**values, "answers": answers}
    sections = [(key, title) for key, (title, what) in SECTIONS.items() if shown[what]]
    return draw("report.html.j2", report=read, words=words, sections=sections, **values)


def _measured(report: Report) -> dict[str, Any]:
    """What was found out of the two models."""
    return {
        "headline": headline(report),
        "score_name": Score.of(report).name,
        "rows": comparison(report),
        "remarks": remarks(report),
        "checks": checks(report),
        "ledger": ledger(report),
        "panels": ledger_figures(report),
        "trades": pareto_figures(report),
        "sureness": sureness_figures(report),
        "drift": drift_facts(report),
        "layers": layers_figure(report),
        "worst_layers": worst_layers(report),
        "samples": worst_samples(report),
    }


def _told(report: Report) -> dict[str, Any]:
    """What the stages did, and with what."""
    told = stages(report, ROOM)
    return {
        "removals": removals(report),
        "eight_bits": eight_bits(report),
        "refused": [stage for stage in told if stage.refusals.total],
        "stages": told,
        "data": data_facts(report),
        "placement": _counts(report.placement),
        "kernels": _counts(report.kernels),
        "environment": environment_facts(report),
        "again": again(report),
        "recipe": fitting_json(report.recipe, 20_000),
    }


def _counts(values: Mapping[str, int]) -> list[tuple[str, int]]:
    ordered = sorted(values.items(), key=lambda item: -item[1])
    return [(words.plain(name, 60), count) for name, count in ordered[:40]]
