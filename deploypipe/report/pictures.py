"""The pictures of the page, in the order in which they answer questions."""

from __future__ import annotations

from deploypipe.report.margins import drop_figure, speedup_figure
from deploypipe.report.marks import Figure
from deploypipe.report.panels import history_figure, ledger_figures
from deploypipe.report.schema import Report
from deploypipe.report.spread import spread_figure

__all__ = ["figures", "ledger_figures"]


def figures(report: Report) -> list[Figure]:
    """How sure the comparison is, how the calls spread, and what happened before the export."""
    found = (
        speedup_figure(report),
        drop_figure(report),
        spread_figure(report),
        history_figure(report),
    )
    return [figure for figure in found if figure is not None]
