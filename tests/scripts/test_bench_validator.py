"""The bench of the validator: its models, its neighbour and its sums; not its timings."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import beta

from deploypipe.runtime.targets.cpu import Cpu

FILE = Path(__file__).parents[2] / "scripts" / "bench_validator.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_validator", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_more_work_takes_and_gives_the_same(bench, tmp_path):
    files = [bench.chain(length, tmp_path / f"{length}.onnx") for length in (3, 4)]
    signatures = []
    for file in files:
        with Cpu(1).open(file) as session:
            signatures.append([str(spec) for spec in (*session.inputs, *session.outputs)])
            assert np.isfinite(session(bench.feeds()[0])["y"]).all()
    assert signatures[0] == signatures[1]


@pytest.mark.parametrize(("count", "of"), [(0, 200), (1, 200), (5, 30), (3, 3)])
def test_the_bound_of_a_share_is_clopper_and_pearson_s(bench, count, of):
    expected = beta.ppf(0.95, count + 1, of - count) if count < of else 1.0
    assert bench.upper_bound(count, of) == pytest.approx(expected, abs=1e-9)


def test_both_ways_are_counted_for_every_experiment(bench):
    decided = [
        bench.Decided("same", i, answer, 2.0 + i, 1.0, 5, 0.3, naive, 0.1)
        for i, (answer, naive) in enumerate(
            [("not slower", 1.0), ("undecided", 1.2), ("not slower", 0.9), ("slower", 1.04)]
        )
    ]
    found = {(row["method"], row["metric"]): row["value"] for row in bench.rows(decided, [])}
    assert found["deploypipe", "slower_share"] == 0.25
    assert found["deploypipe", "undecided_share"] == 0.25
    assert found["deploypipe", "seconds_most"] == 5.0
    assert found["naive", "slower"] == 1
    assert {row["experiment"] for row in bench.rows(decided, [])} == {"same"}


def test_the_table_tells_both_ways_and_equal_models_together(bench):
    def some(name, answers, naive, ms=0.3):
        return [
            bench.Decided(name, i, a, 3.0, 1.0, 5, ms, naive, 0.1) for i, a in enumerate(answers)
        ]

    calm = some("same", ["not slower"] * 9 + ["undecided"], 1.01)
    busy = some("same, busy neighbour", ["not slower"] * 9 + ["slower"], 1.2)
    slower = some("slower", ["slower"] * 9 + ["undecided"], 1.0)
    facts = [bench.row("slower", "long measurement", "ratio", 1.081, 0.0)]
    lines = bench.table(bench.rows(calm + busy + slower, facts)).splitlines()
    assert lines[2].startswith(
        "| its copy (0.3 ms) | 10 | 0 (0.0%), at most 25.9% | 10.0% | 3.0, 3.0"
    )
    assert lines[3].endswith("| 100.0% |")
    assert lines[4].startswith("| its copy, both | 20 | 1 (5.0%), at most 21.6% | 5.0% |")
    assert lines[4].endswith("| 50.0% |")
    assert lines[5].startswith(
        "| 8.1% more work (0.3 ms) | 10 | 9 (90.0%), at least 60.6% | 10.0% |"
    )


def test_the_neighbour_is_gone_afterwards(bench):
    with bench.neighbour(True) as process:
        assert process.poll() is None
    assert process.poll() is not None
    with bench.neighbour(False) as process:
        assert process is None


def test_half_of_the_decisions_on_equal_models_have_a_neighbour(bench, tmp_path):
    given = type("Given", (), {"decisions": 7, "slower": 2, "large": 1})
    slow = bench.chain(2, tmp_path / "slow.onnx")
    jobs = list(bench.jobs(given, tmp_path, slow))
    names = [name for name, _, _ in jobs]
    assert (names.count("same"), names.count("same, busy neighbour")) == (3, 4)
    assert (names.count("slower"), names.count("large")) == (2, 1)
    assert {busy for name, _, busy in jobs if name == "same, busy neighbour"} == {True}
    for name, (a, b), _ in jobs:
        assert (a.read_bytes() == b.read_bytes()) == (name != "slower")
