"""Latency and accuracy claims in a user's own test suite.

    def test_deployable(latency, accuracy):
        latency.compare("candidate.onnx", "baseline.onnx").faster_than(1.5)
        accuracy.compare("candidate.onnx", "baseline.onnx", data="npz:val.npz").within("1.0 points")
        latency.compare("candidate.onnx").within("5%")      # against the baseline that was kept

A claim passes, fails, or is undecided: a warning, and a failure with ``--deploypipe-strict``.
Baselines are models, kept with ``--deploypipe-update`` in the folder ``.deploypipe`` beside a history
of all claims.  This file is imported by every run of pytest, so that all that is heavy is imported
when it is used.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from deploypipe.data import Split
    from deploypipe.runtime import Feeds, Target
    from deploypipe.validate.accuracy import AccuracyComparison
    from deploypipe.validate.baseline_store import Baselines
    from deploypipe.validate.experiment import Experiment
    from deploypipe.validate.latency import LatencyComparison
    from deploypipe.validate.pairs import Pairs
    from deploypipe.validate.verdict import Check, Side
    from deploypipe.validate.workers import Crash

PROPERTY = "deploypipe"
"""Name of the property of a test's report that carries a check; it reaches JUnit XML and xdist."""

_STORE: pytest.StashKey[Baselines] = pytest.StashKey()


class UndecidedWarning(UserWarning):
    """A claim that the measurement can neither prove nor refute."""


class DriftWarning(UserWarning):
    """A latency that has left the range of its last runs, whatever its test says."""


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
        metavar="S",
        help="longest time for one latency claim (default: 10 for a model below 1 ms, else more)",
    )
    group.addoption(
        "--deploypipe-update",
        action="store_true",
        help="keep the candidates of claims without a reference as their new baselines",
    )
    group.addoption(
        "--deploypipe-folder",
        metavar="DIR",
        help="where baselines and the history of claims are kept (default: ROOTDIR/.deploypipe)",
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
    seconds: float | None

    def compare(
        self,
        candidate: object,
        reference: object = None,
        *,
        baseline: str | None = None,
        target: object = "cpu",
        data: object = None,
        feeds: Sequence[Feeds] | None = None,
        batch: int = 1,
        shapes: Mapping[str, Sequence[int]] | None = None,
        rounds: int = 5,
        seed: int = 0,
    ) -> LatencyClaim:
        """Time both in turns, on random inputs unless ``data`` (a SPEC) or ``feeds`` are given.

        Both are ONNX files, or ``FILE.py:FUNCTION``, and run in fresh processes; or torch modules or
        other callables, which run in this one.  Without a ``reference`` it is the baseline that was
        kept for this file in this test, or under the name ``baseline``.  A claim is looked at after
        ``rounds`` processes, twice and four times as many.
        """
        from deploypipe.validate.alone import alone
        from deploypipe.validate.baseline_store import machine
        from deploypipe.validate.experiment import Plan
        from deploypipe.validate.file_experiment import experiment_on
        from deploypipe.validate.looks import Looks
        from deploypipe.validate.workers import Crash

        built = _target(target)
        if reference is None:
            here = machine(built)
            reference = self.claims.baseline("latency", baseline, candidate, environment=here)
        if isinstance(reference, _Pending):
            return LatencyClaim(reference, self.claims)
        how: dict[str, Any] = {"feeds": feeds, "batch": batch, "shapes": shapes, "seed": seed}
        how["samples"] = None if data is None else _samples(data, None)
        how["plan"] = Plan(Looks.after(rounds), self.seconds)
        with alone():
            try:
                experiment = experiment_on(reference, candidate, built, **how)
            except Crash as crash:
                return LatencyClaim(crash, self.claims)
        return LatencyClaim(experiment, self.claims)


@dataclass
class LatencyClaim:
    """A pair under measurement, which goes on for as long as a claim about it is open."""

    measured: Experiment | Crash | _Pending
    claims: _Claims

    @property
    def comparison(self) -> LatencyComparison:
        """What has been measured so far."""
        from deploypipe.validate.alone import alone

        if isinstance(self.measured, _Pending | Exception):
            raise ValueError(f"nothing was measured: {self.measured}")
        with alone():
            return self.measured.comparison()

    def within(self, limit: str | float) -> None:
        """The candidate is at most ``"5%"`` slower than the reference."""
        self._settle(1 / (1 + _quantity(limit, "%") / 100), "not slower")

    def faster_than(self, times: float) -> None:
        """The candidate is at least ``times`` as fast as the reference: all of the interval is."""
        self._settle(times, "speedup")

    def _settle(self, speedup: float, name: str) -> None:
        from deploypipe.validate.alone import alone
        from deploypipe.validate.judge_latency import speedup_check
        from deploypipe.validate.workers import Crash

        if isinstance(self.measured, _Pending):
            self.claims.settle(self.measured.check(name, speedup, "x", "least"))
            return
        if not isinstance(self.measured, Crash):
            with alone():
                try:
                    self.measured.decide(1 / speedup)
                except Crash as crash:
                    self.measured = crash
        known = self.measured if isinstance(self.measured, Crash) else self.measured.comparison()
        self.claims.settle(speedup_check(known, speedup, name), track=True)


@dataclass(frozen=True)
class Accuracy:
    """The fixture ``accuracy``."""

    claims: _Claims

    def compare(
        self,
        candidate: str | Path,
        reference: str | Path | None = None,
        *,
        baseline: str | None = None,
        data: object,
        target: object = "cpu",
        metric: object = "top1",
        samples: int | None = None,
        batch: int = 64,
    ) -> AccuracyClaim:
        """Score both on the same samples of ``data``, a SPEC such as ``npz:FILE``.

        Without a ``reference`` it is the baseline that was kept for this file in this test, or
        under the name ``baseline``, if that was kept with the same samples.
        """
        from deploypipe.validate import METRICS
        from deploypipe.validate.accuracy import accuracy_of

        scored, split = METRICS.build(metric, "metric"), _samples(data, samples)
        same = split.digest
        known = reference or self.claims.baseline("accuracy", baseline, candidate, data=same)
        if isinstance(known, _Pending):
            return AccuracyClaim(known, self.claims, scored.unit)
        pairs = _pairs(candidate, known, split, target, batch=batch, metric=scored)
        return AccuracyClaim(accuracy_of(pairs), self.claims, scored.unit)

    def agreement(
        self,
        candidate: str | Path,
        reference: str | Path | None = None,
        *,
        baseline: str | None = None,
        data: object,
        target: object = "cpu",
        samples: int | None = None,
        batch: int = 64,
    ) -> AgreementClaim:
        """Count the samples of ``data`` for which both predict the same class.

        Without a ``reference`` it is the kept baseline, as for :meth:`compare`.

        Raises:
            UserError: the models do not score classes.
        """
        from deploypipe.core.errors import UserError
        from deploypipe.validate.drift import drift_of

        split = _samples(data, samples)
        same = split.digest
        known = reference or self.claims.baseline("agreement", baseline, candidate, data=same)
        if isinstance(known, _Pending):
            return AgreementClaim(known, self.claims)
        pairs = _pairs(candidate, known, split, target, batch=batch, labelled=False)
        share = drift_of(pairs).top1_agreement
        if share is None:
            raise UserError(
                "agreement takes models with outputs [N, classes], two classes or more",
                where="accuracy.agreement",
                then="For other outputs claim a metric: accuracy.compare(..., metric='cosine')",
            )
        return AgreementClaim(share, self.claims)


@dataclass(frozen=True)
class AccuracyClaim:
    """A measured pair; each method is a claim about it."""

    measured: AccuracyComparison | _Pending
    claims: _Claims
    unit: str

    @property
    def comparison(self) -> AccuracyComparison:
        """What was measured."""
        if isinstance(self.measured, _Pending):
            raise ValueError(f"nothing was measured: {self.measured.why}")
        return self.measured

    def within(self, limit: str | float) -> None:
        """The candidate loses at most ``"1.0 points"``, or so many of the metric's units."""
        from deploypipe.validate.judge import accuracy_check

        most = _quantity(limit, self.unit)
        if isinstance(self.measured, _Pending):
            self.claims.settle(self.measured.check("accuracy drop", most, self.unit, "most"))
        else:
            self.claims.settle(accuracy_check(self.measured, most))


@dataclass(frozen=True)
class AgreementClaim:
    """The share, in 0..1, of the given samples with equal predictions: counted, not estimated."""

    share: float | _Pending
    claims: _Claims

    def at_least(self, limit: str | float) -> None:
        """Both predict the same class for at least ``"99%"`` of these samples."""
        from deploypipe.validate.judge import least_check

        least = _quantity(limit, "%")
        if not 1 < least <= 100:
            raise ValueError(f"at_least: expected a percentage such as '99%', got {limit!r}")
        if isinstance(self.share, _Pending):
            self.claims.settle(self.share.check("agreement", least, "%", "least"))
        else:
            self.claims.settle(least_check("agreement", self.share * 100, least, "%"))


@dataclass(frozen=True)
class _Pending:
    """Why there is nothing to compare with; ``kept`` where the candidate has become the baseline."""

    why: str
    kept: bool = False

    def check(self, name: str, limit: float, unit: str, side: Side) -> Check:
        from deploypipe.validate.verdict import Check, Outcome

        outcome = Outcome.PASS if self.kept else Outcome.UNDECIDED
        return Check(name, None, None, None, limit, unit, outcome, self.why, side)


@dataclass(frozen=True)
class _Claims:
    """Where claims end: the running test, its report, and the folder beside the tests."""

    request: pytest.FixtureRequest
    claimed: dict[str, Path] = field(default_factory=dict)

    def option(self, name: str) -> Any:
        return self.request.config.getoption(f"--deploypipe-{name}")

    @property
    def folder(self) -> Path:
        return Path(self.option("folder") or self.request.config.rootpath / ".deploypipe")

    @property
    def store(self) -> Baselines:
        """The baselines, which know what this run has kept."""
        from deploypipe.validate.baseline_store import Baselines

        return self.request.config.stash.setdefault(_STORE, Baselines(self.folder))

    def baseline(
        self,
        kind: str,
        name: str | None,
        candidate: object,
        *,
        environment: Mapping[str, Any] | None = None,
        data: str | None = None,
    ) -> Path | _Pending:
        """The kept model to compare with, if it is of this machine and these samples."""
        from deploypipe.core.errors import UserError
        from deploypipe.validate.baseline_store import changed, default_name

        test, root = self.request.node.nodeid, self.request.config.rootpath
        name = name or default_name(f"{test}: {kind}", candidate, root, self.claimed)
        store = self.store
        if self.option("update"):
            if not isinstance(candidate, str | Path):
                raise UserError(
                    f"{type(candidate).__name__} is no file, and baselines are files to run again",
                    where=f"the baseline '{name}'",
                    then="Give a reference beside it, or an ONNX file as the candidate",
                )
            store.keep(name, Path(str(candidate)), environment, data)
            return _Pending(f"{candidate} is now the baseline '{name}'", kept=True)
        found = store.find(name)
        if found is None:
            return _Pending(f"there is no baseline '{name}'; keep one with --deploypipe-update")
        told = changed(found, environment, data)
        return _Pending(f"{told}; keep a new one with --deploypipe-update") if told else found.model

    def settle(self, check: Check, track: bool = False) -> None:
        """Note a check, in the history too; fail the test or warn as its outcome says.

        ``track`` has an alarm look at the values of earlier runs.
        """
        from deploypipe.validate.history import remember

        node, told = self.request.node, check.to_json()
        alarm = remember(self.folder / "history.jsonl", node.nodeid, told, track)
        node.user_properties.append((PROPERTY, json.dumps({**told, "drift": alarm})))
        text = f"{_measured(told)}: {check.why}"
        node.user_properties.append((f"{PROPERTY}.{check.name}", f"{check.outcome} {text}"))
        if alarm:
            warnings.warn(DriftWarning(f"{check.name}: {alarm}"), stacklevel=3)
        if check.outcome == "FAIL" or (check.outcome == "UNDECIDED" and self.option("strict")):
            pytest.fail(f"{check.outcome}: {check.name}: {text}", pytrace=False)
        if check.outcome == "UNDECIDED":
            warnings.warn(UndecidedWarning(f"{check.name}: {text}"), stacklevel=3)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """A line for every claim of the run, and one for every alarm."""
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
                told = check["why"] if check["measured"] is None else _measured(check)
                told += f"; drift: {check['drift']}" if check["drift"] else ""
                yield report.nodeid, check["outcome"], check["name"], told


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


def _samples(spec: object, count: int | None) -> Split:
    from deploypipe.data import open_samples

    return open_samples(spec, samples=count, where="data").split("validation")


def _pairs(
    candidate: str | Path, reference: str | Path, samples: Split, target: object, **how: Any
) -> Pairs:
    from deploypipe.validate.files import pair_files

    return pair_files(Path(reference), Path(candidate), _target(target), samples, **how)
