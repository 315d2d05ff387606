"""Latency and accuracy claims in a user's own test suite.

    def test_deployable(latency, accuracy):
        latency.compare("candidate.onnx", "baseline.onnx").faster_than(1.5)
        accuracy.compare("candidate.onnx", "baseline.onnx", data="npz:val.npz").within("1.0 points")

A claim passes, fails, or is undecided: a warning, and a failure with ``--deploypipe-strict``.  This
file is imported by every run of pytest, so that all that is heavy is imported when it is used.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from deploypipe.runtime import Target
    from deploypipe.validate.accuracy import AccuracyComparison
    from deploypipe.validate.latency import LatencyComparison
    from deploypipe.validate.records import Records, Samples
    from deploypipe.validate.verdict import Check

PROPERTY = "deploypipe"
"""Name of the property of a test's report that carries a check; it reaches JUnit XML and xdist."""


class UndecidedWarning(UserWarning):
    """A claim that the measurement can neither prove nor refute."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("deploypipe")
    group.addoption(
        "--deploypipe-strict",
        action="store_true",
        help="let an undecided latency or accuracy claim fail its test",
    )
    group.addoption(
        "--deploypipe-seconds",
        type=float,
        default=60.0,
        metavar="S",
        help="budget of time of one latency comparison (default: 60)",
    )


@pytest.fixture
def latency(request: pytest.FixtureRequest) -> Latency:
    """Compare the latency of two ONNX files."""
    return Latency(_Claims(request), request.config.getoption("--deploypipe-seconds"))


@pytest.fixture
def accuracy(request: pytest.FixtureRequest) -> Accuracy:
    """Compare the accuracy, or the agreement, of two ONNX files."""
    return Accuracy(_Claims(request))


@dataclass(frozen=True)
class Latency:
    """The fixture ``latency``."""

    claims: _Claims
    seconds: float

    def compare(
        self,
        candidate: str | Path,
        reference: str | Path,
        *,
        target: object = "cpu",
        data: object = None,
        batch: int = 1,
        shapes: Mapping[str, Sequence[int]] | None = None,
        rounds: int = 5,
    ) -> LatencyClaim:
        """Time both in turns, on random inputs unless ``data`` (a SPEC) is given."""
        from deploypipe.validate.alone import alone
        from deploypipe.validate.files import compare_file_latency
        from deploypipe.validate.interleave import Pace

        samples = None if data is None else _samples(data, None)
        with alone():
            comparison = compare_file_latency(
                Path(reference),
                Path(candidate),
                _target(target),
                samples=samples,
                batch=batch,
                shapes=shapes,
                pace=Pace(rounds, budget_seconds=self.seconds),
            )
        return LatencyClaim(comparison, self.claims)


@dataclass(frozen=True)
class LatencyClaim:
    """A measured pair; each method is a claim about it."""

    comparison: LatencyComparison
    claims: _Claims

    def within(self, limit: str | float) -> None:
        """The candidate is at most ``"5%"`` slower than the reference."""
        from deploypipe.validate.judge import speedup_check

        share = _quantity(limit, "%") / 100
        self.claims.settle(speedup_check(self.comparison, 1 / (1 + share), name="not slower"))

    def faster_than(self, times: float) -> None:
        """The candidate is at least ``times`` as fast as the reference."""
        from deploypipe.validate.judge import speedup_check

        self.claims.settle(speedup_check(self.comparison, times))


@dataclass(frozen=True)
class Accuracy:
    """The fixture ``accuracy``."""

    claims: _Claims

    def compare(
        self,
        candidate: str | Path,
        reference: str | Path,
        *,
        data: object,
        target: object = "cpu",
        metric: object = "top1",
        samples: int | None = None,
        batch: int = 64,
    ) -> AccuracyClaim:
        """Score both on the same samples of ``data``, a SPEC such as ``npz:FILE``."""
        from deploypipe.validate import METRICS
        from deploypipe.validate.accuracy import compare_accuracy

        scored = METRICS.build(metric, "metric")
        records = _records(candidate, reference, data, target, samples, batch=batch, metric=scored)
        return AccuracyClaim(compare_accuracy(*records), self.claims)

    def agreement(
        self,
        candidate: str | Path,
        reference: str | Path,
        *,
        data: object,
        target: object = "cpu",
        samples: int | None = None,
        batch: int = 64,
    ) -> AgreementClaim:
        """Count the samples of ``data`` for which both predict the same class.

        Raises:
            UserError: the models do not score classes.
        """
        from deploypipe.core.errors import UserError
        from deploypipe.validate.drift import measure_drift

        records = _records(candidate, reference, data, target, samples, batch=batch, labelled=False)
        share = measure_drift(*records).top1_agreement
        if share is None:
            raise UserError("agreement takes models with outputs [N, classes], two classes or more")
        return AgreementClaim(share, self.claims)


@dataclass(frozen=True)
class AccuracyClaim:
    """A measured pair; each method is a claim about it."""

    comparison: AccuracyComparison
    claims: _Claims

    def within(self, limit: str | float) -> None:
        """The candidate loses at most ``"1.0 points"``, or so many of the metric's units."""
        from deploypipe.validate.judge import accuracy_check

        unit = self.comparison.unit
        self.claims.settle(accuracy_check(self.comparison, _quantity(limit, unit)))


@dataclass(frozen=True)
class AgreementClaim:
    """The share, in 0..1, of the given samples with equal predictions: counted, not estimated."""

    share: float
    claims: _Claims

    def at_least(self, limit: str | float) -> None:
        """Both predict the same class for at least ``"99%"`` of these samples."""
        from deploypipe.validate.judge import least_check

        check = least_check("agreement", self.share * 100, _quantity(limit, "%"), "%")
        self.claims.settle(check)


@dataclass(frozen=True)
class _Claims:
    """Where claims end: the running test and its report."""

    request: pytest.FixtureRequest

    def settle(self, check: Check) -> None:
        """Note a check; fail the test or warn as its outcome says."""
        node = self.request.node
        node.user_properties.append((PROPERTY, json.dumps(check.to_json())))
        text = f"{check.name}: {_measured(check.to_json())}: {check.why}"
        strict = self.request.config.getoption("--deploypipe-strict")
        if check.outcome == "FAIL" or (check.outcome == "UNDECIDED" and strict):
            pytest.fail(f"{check.outcome}: {text}", pytrace=False)
        if check.outcome == "UNDECIDED":
            warnings.warn(UndecidedWarning(text), stacklevel=3)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """A line for every claim of the run."""
    rows = list(_rows(terminalreporter.stats))
    if not rows:
        return
    terminalreporter.section("deploypipe")
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for row in sorted(rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        terminalreporter.write_line("  ".join([*cells, row[3]]).rstrip())


_KINDS = ("passed", "failed", "xfailed", "xpassed")


def _rows(stats: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, str, str, str]]:
    reports = (r for kind in _KINDS for r in stats.get(kind, ()))
    for report in reports:
        for name, value in getattr(report, "user_properties", ()):
            if name == PROPERTY and report.when == "call":
                check = json.loads(value)
                yield report.nodeid, check["outcome"], check["name"], _measured(check)


def _measured(check: Mapping[str, Any]) -> str:
    """``1.62x (1.55 to 1.70), limit 1.5x``."""
    unit = check["unit"] if check["unit"] in ("x", "%", "") else f" {check['unit']}"
    if check["measured"] is None:
        return f"not measured, limit {check['limit']:.3g}{unit}"
    text = f"{check['measured']:.3g}{unit}"
    if check["low"] is not None and check["high"] is not None:
        text += f" ({check['low']:.3g} to {check['high']:.3g})"
    return f"{text}, limit {check['limit']:.3g}{unit}"


def _quantity(limit: str | float, unit: str) -> float:
    """``"5%"`` or ``"1.0 points"`` as a number; a bare number is in the same unit."""
    number = r"\d+(?:\.\d+)?(?:e[+-]?\d+)?"
    match = re.fullmatch(rf"\s*({number})\s*(?:{re.escape(unit)})?\s*", str(limit))
    if match is None:
        example = f"1{unit}" if unit in ("%", "") else f"1 {unit}"
        raise ValueError(f"expected a limit such as '{example}', got {limit!r}")
    return float(match.group(1))


def _target(spec: object) -> Target:
    from deploypipe.runtime import TARGETS

    return TARGETS.build(spec, "target")


def _samples(spec: object, count: int | None) -> Samples:
    from deploypipe.data import open_samples

    return open_samples(spec, samples=count, where="data").split("validation")


def _records(
    candidate: str | Path,
    reference: str | Path,
    data: object,
    target: object,
    samples: int | None,
    **how: Any,
) -> tuple[Records, Records]:
    from deploypipe.validate.files import record_files

    files = Path(reference), Path(candidate)
    return record_files(*files, _target(target), _samples(data, samples), **how)
