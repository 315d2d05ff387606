"""The verdict in one line."""

from __future__ import annotations

from typing import Any

import pytest

from deploypipe.report.headline import checks, headline, limit
from deploypipe.report.schema import CheckEntry, read_report


def test_a_pass_says_what_was_gained(report: dict[str, Any]) -> None:
    assert headline(read_report(report)).reason == (
        "11.4x smaller, 3.1x faster, accuracy \u22120.12 points; all 5 checks hold"
    )


def test_a_pass_without_limits_admits_it(report: dict[str, Any]) -> None:
    report["verdict"]["checks"] = []
    assert headline(read_report(report)).reason.endswith("no limit was set")


def test_a_slower_candidate_is_called_slower(report: dict[str, Any]) -> None:
    report["latency"]["ratio"] = 1.25
    assert "1.25x slower" in headline(read_report(report)).reason


def test_a_fail_names_only_the_checks_that_failed(failed: dict[str, Any]) -> None:
    reason = headline(read_report(failed)).reason
    assert reason.startswith("speedup: ") and "accuracy" not in reason and "shrink" not in reason


def test_only_the_first_reason_is_told_in_full(failed: dict[str, Any]) -> None:
    failed["verdict"]["checks"] = [
        {"name": f"check {i}", "outcome": "FAIL", "why": "so"} for i in range(5)
    ]
    assert (
        headline(read_report(failed)).reason
        == "check 0: so; also: check 1, check 2, check 3, check 4"
    )


def test_a_check_without_a_why_tells_its_numbers(failed: dict[str, Any]) -> None:
    failed["verdict"]["checks"][3]["why"] = ""
    assert headline(read_report(failed)).reason == "speedup: 3.12x, limit at least 4.00x"


def test_every_outcome_has_a_mark_of_its_own(report: dict[str, Any]) -> None:
    for check, outcome in zip(
        report["verdict"]["checks"], ("PASS", "FAIL", "UNDECIDED"), strict=False
    ):
        check["outcome"] = outcome
    assert len({check.mark for check in checks(read_report(report))}) == 3


@pytest.mark.parametrize(
    ("side", "told"),
    [({"side": "least"}, "at least 2.00x"), ({"side": "most"}, "at most 2.00x"), ({}, "2.00x")],
)
@pytest.mark.parametrize("name", ["speedup", "accuracy drop", "novel"])
def test_the_side_of_a_limit_is_what_is_noted_whatever_the_name(
    name: str, side: dict[str, str], told: str
) -> None:
    given = {"name": name, "measured": 3.0, "limit": 2.0, "unit": "x", "outcome": "PASS", **side}
    assert limit(CheckEntry.model_validate(given)) == told


def test_a_pass_says_that_accuracy_was_not_judged(report: dict[str, Any]) -> None:
    assert "not judged" not in headline(read_report(report)).reason
    kept = [one for one in report["verdict"]["checks"] if "accuracy" not in one["name"]]
    report["verdict"]["checks"] = kept
    assert "accuracy was not judged" in headline(read_report(report)).reason
