"""One result object, ``report.json``, and its renderings: a page, a summary, a terminal table."""

from deploypipe.report.markdown import render_markdown
from deploypipe.report.page import render_html
from deploypipe.report.schema import Report, load_report, read_report
from deploypipe.report.terminal import render_terminal
from deploypipe.report.write import write_report

__all__ = [
    "Report",
    "load_report",
    "read_report",
    "render_html",
    "render_markdown",
    "render_terminal",
    "write_report",
]
