"""One result object, ``report.json``, and its renderings: pages, summaries, a terminal table, JUnit
and pytest-benchmark's JSON."""

from deploypipe.report.benchmark_json import benchmark_json
from deploypipe.report.json_schema import report_schema
from deploypipe.report.junit import render_junit
from deploypipe.report.markdown import render_markdown
from deploypipe.report.page import render_html
from deploypipe.report.schema import Report, load_report, read_report
from deploypipe.report.terminal import render_terminal
from deploypipe.report.two_runs import compare_runs
from deploypipe.report.write import write_report

__all__ = [
    "Report",
    "benchmark_json",
    "compare_runs",
    "load_report",
    "read_report",
    "render_html",
    "render_junit",
    "render_markdown",
    "render_terminal",
    "report_schema",
    "write_report",
]
