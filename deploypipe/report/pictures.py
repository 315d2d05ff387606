"""The pictures of the page, in the order in which they answer questions."""

from __future__ import annotations

from deploypipe.report.margins import drop_figure, speedup_figure
from deploypipe.report.marks import Figure
from deploypipe.report.panels import ledger_figures
from deploypipe.report.pareto import pareto_figures
from deploypipe.report.schema import Report
from deploypipe.report.spread import spread_figure

__all__ = ["ledger_figures", "pareto_figures", "sureness_figures"]


def sureness_figures(report: Report) -> list[Figure]:
    """How sure the comparison is, and how the calls spread."""
    found = speedup_figure(report), drop_figure(report), spread_figure(report)
    return [figure for figure in found if figure is not None]
