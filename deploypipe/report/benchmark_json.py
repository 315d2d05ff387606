"""The timed calls in the shape of pytest-benchmark's JSON (5.x), for dashboards that read it.

Seconds instead of milliseconds; quartiles by its method (Tukey's hinges for an even count, the mean
of two methods for an odd one), outliers as it counts them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from deploypipe.core.files import Json
from deploypipe.report.schema import Report, read_report

VERSION = "5.0.0"
"""Of the format; its readers take any."""


def benchmark_json(report: Mapping[str, Json] | Report) -> dict[str, Json]:
    """What ``pytest-benchmark compare`` reads: the reference and the candidate of one group.

    Raises:
        UserError: the report is of another version or shape.
    """
    read = read_report(report)
    latency = read.latency
    calls = {
        "reference": latency.reference_ms if latency else [],
        "candidate": latency.candidate_ms if latency else [],
    }
    timed = {
        side: [ms / 1000 for ms in times if math.isfinite(ms)] for side, times in calls.items()
    }
    return {
        "machine_info": _machine(read),
        "commit_info": {"id": "unknown", "time": None, "dirty": False, "project": read.name},
        "benchmarks": [_benchmark(read, side, data) for side, data in timed.items() if data],
        "datetime": read.created,
        "version": VERSION,
    }


def _machine(report: Report) -> dict[str, Json]:
    found = report.environment
    return {
        "node": "",
        "processor": found.get("cpu", ""),
        "machine": found.get("machine", ""),
        "python_compiler": "",
        "python_implementation": "CPython",
        "python_implementation_version": found.get("python", ""),
        "python_version": found.get("python", ""),
        "python_build": ["", ""],
        "release": found.get("os", ""),
        "system": str(found.get("os", "")).partition(" ")[0],
        "cpu": {"brand_raw": found.get("cpu", ""), "count": found.get("cores")},
    }


def _benchmark(report: Report, side: str, data: Sequence[float]) -> dict[str, Json]:
    model = report.reference if side == "reference" else report.candidate
    latency = report.latency
    extra: dict[str, Json] = {}
    if model:
        extra |= {"label": model.label, "bytes": model.bytes, "digest": model.digest}
    if latency:
        extra |= {"threads": latency.threads, "batch": latency.batch}
    if latency and side == "candidate":
        extra |= {"ratio": latency.ratio, "low": latency.low, "high": latency.high}
    return {
        "group": report.name,
        "name": side,
        "fullname": f"{report.name}::{side}",
        "params": None,
        "param": None,
        "extra_info": extra,
        "options": {"disable_gc": True, "timer": "perf_counter_ns", "warmup": True},
        "stats": statistics_of(data),
    }


def statistics_of(data: Sequence[float]) -> dict[str, Json]:
    """All fields of its ``stats``; ``data`` in seconds, at least one."""
    ordered = sorted(data)
    mean, total = statistics.mean(data), sum(data)
    spread = statistics.stdev(data) if len(data) > 1 else 0
    q1, q3 = _quartiles(ordered)
    iqr = q3 - q1
    low, high = q1 - 1.5 * iqr, q3 + 1.5 * iqr
    beyond = sum(not mean - spread <= value <= mean + spread for value in data)
    far = sum(not low <= value <= high for value in data)
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": mean,
        "stddev": spread,
        "rounds": len(data),
        "median": statistics.median(data),
        "iqr": iqr,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": far,
        "stddev_outliers": beyond,
        "outliers": f"{beyond};{far}",
        "ld15iqr": next(value for value in ordered if value >= low),
        "hd15iqr": next(value for value in reversed(ordered) if value <= high),
        "ops": len(data) / total if total else 0,
        "total": total,
        "data": list(data),
        "iterations": 1,
    }


def _quartiles(ordered: Sequence[float]) -> tuple[float, float]:
    count = len(ordered)
    if count == 1:
        return ordered[0], ordered[0]
    if count % 2 == 0:
        return statistics.median(ordered[: count // 2]), statistics.median(ordered[count // 2 :])
    n = count // 4
    if count % 4 == 1:
        pairs = ((n - 1, 0.25, n, 0.75), (3 * n, 0.75, 3 * n + 1, 0.25))
    else:
        pairs = ((n, 0.75, n + 1, 0.25), (3 * n + 1, 0.25, 3 * n + 2, 0.75))
    first, last = (ordered[i] * a + ordered[j] * b for i, a, j, b in pairs)
    return first, last
