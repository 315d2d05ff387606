"""The timed calls as pytest-benchmark writes them."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from deploypipe.report import benchmark_json
from deploypipe.report.benchmark_json import statistics_of

FIELDS = [
    *("min", "max", "mean", "stddev", "rounds", "median", "iqr", "q1", "q3", "iqr_outliers"),
    *("stddev_outliers", "outliers", "ld15iqr", "hd15iqr", "ops", "total", "data", "iterations"),
]


def test_reference_and_candidate_are_one_group_in_seconds(report: dict[str, Any]) -> None:
    told = benchmark_json(report)
    assert sorted(told) == ["benchmarks", "commit_info", "datetime", "machine_info", "version"]
    names = [(one["group"], one["name"], one["fullname"]) for one in told["benchmarks"]]
    assert names == [("resnet20", side, f"resnet20::{side}") for side in ("reference", "candidate")]
    stats = told["benchmarks"][0]["stats"]
    assert list(stats) == FIELDS
    assert stats["data"][0] == report["latency"]["reference_ms"][0] / 1000
    assert stats["rounds"] == 120 and 0.002 < stats["median"] < 0.0025
    json.dumps(told, allow_nan=False)


def test_quartiles_and_outliers_of_known_numbers() -> None:
    told = statistics_of([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 100.0])
    assert (told["q1"], told["median"], told["q3"], told["iqr"]) == (2.5, 4.5, 6.5, 4.0)
    assert (told["ld15iqr"], told["hd15iqr"], told["outliers"]) == (1.0, 7.0, "1;1")
    odd = statistics_of([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (odd["q1"], odd["q3"]) == (1.75, 4.25)


def test_one_call_has_no_spread() -> None:
    told = statistics_of([0.5])
    assert (told["stddev"], told["iqr"], told["ops"]) == (0, 0, 2.0)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 8, 101])
def test_the_numbers_are_those_of_pytest_benchmark(count: int) -> None:
    theirs = pytest.importorskip("pytest_benchmark.stats").Stats()
    source = random.Random(count)
    for _ in range(count):
        theirs.update(source.lognormvariate(0, 1))
    mine = statistics_of(theirs.data)
    for name, value in theirs.as_dict().items():
        assert mine[name] == pytest.approx(value) if name != "outliers" else mine[name] == value


def test_what_was_not_timed_is_left_out(report: dict[str, Any], bare: dict[str, Any]) -> None:
    assert benchmark_json(bare)["benchmarks"] == []
    report["latency"]["reference_ms"] = [float("nan")]
    assert [one["name"] for one in benchmark_json(report)["benchmarks"]] == ["candidate"]
