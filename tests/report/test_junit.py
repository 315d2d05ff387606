"""The verdict as continuous integration reads it."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from deploypipe.report import render_junit


def suite(report: dict[str, Any]) -> ElementTree.Element:
    (one,) = ElementTree.fromstring(render_junit(report).encode()).iter("testsuite")
    return one


def test_every_check_is_a_test_case(report: dict[str, Any]) -> None:
    one = suite(report)
    assert [case.get("name") for case in one.iter("testcase")] == [
        check["name"] for check in report["verdict"]["checks"]
    ]
    assert (one.get("tests"), one.get("failures"), one.get("skipped")) == ("5", "0", "0")
    assert {case.get("classname") for case in one.iter("testcase")} == {"deploypipe.resnet20"}


def test_a_failed_check_is_a_failure_with_its_numbers(failed: dict[str, Any]) -> None:
    (failure,) = suite(failed).iter("failure")
    assert "measured 3.12x, limit at least 4.00x" in (failure.get("message") or "")
    assert suite(failed).get("failures") == "1"


@pytest.mark.parametrize("strange", ["\x00", "\ufffe", "\uffff", "\ud800"])
def test_what_xml_cannot_hold_is_replaced(report: dict[str, Any], strange: str) -> None:
    report["name"] = f"a{strange}b"
    assert suite(report).get("name") == "a\N{REPLACEMENT CHARACTER}b"


def test_an_undecided_check_is_skipped_with_its_reason(undecided: dict[str, Any]) -> None:
    (skipped,) = suite(undecided).iter("skipped")
    assert "undecided: " in (skipped.get("message") or "")
    assert suite(undecided).get("failures") == "0"


def test_a_run_that_judged_nothing_is_an_error(bare: dict[str, Any]) -> None:
    one = suite(bare)
    assert one.get("errors") == "1" and len(list(one.iter("error"))) == 1


def test_numbers_are_properties(report: dict[str, Any]) -> None:
    case = next(c for c in suite(report).iter("testcase") if c.get("name") == "speedup")
    told = {p.get("name"): p.get("value") for p in case.iter("property")}
    assert told == {
        "measured": "3.115",
        "low": "3.021",
        "high": "3.215",
        "limit": "2.0",
        "unit": "x",
    }


def test_strangers_text_is_well_formed_and_escaped(any_report: dict[str, Any]) -> None:
    text = render_junit(any_report)
    ElementTree.fromstring(text.encode())
    assert "<script>" not in text and "\x1b" not in text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_broken_measurements_never_break_it(report: dict[str, Any], value: float) -> None:
    for check in report["verdict"]["checks"]:
        check |= {"measured": value, "low": value, "high": value}
    assert suite(report).get("tests") == "5"
