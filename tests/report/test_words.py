"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest

from deploypipe.report import words


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (101_000, "101 kB"), (999_499, "999 kB"),
     (999_999, "1.00 MB"), (1_148_523, "1.15 MB"), (2_500_000_000, "2.50 GB"), (None, "–")],
)  # fmt: skip
def test_bytes_are_decimal_with_three_digits(count: int | None, text: str) -> None:
    assert words.size(count) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (42, "42"),
        (268_336, "268 k"),
        (999_999, "1.00 M"),
        (40_813_184, "40.8 M"),
        (None, "–"),
    ],
)
def test_counts_are_short(value: int | None, text: str) -> None:
    assert words.count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123, "0.0123 ms"), (2.314, "2.31 ms"), (9.999, "10.0 ms"), (123.4, "123 ms"),
     (1234.0, "1,234 ms"), (12_345.0, "12.3 s"), (None, "–")],
)  # fmt: skip
def test_milliseconds_have_at_least_three_digits(value: float | None, text: str) -> None:
    assert words.milliseconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.42, "0.420 s"), (12.34, "12.3 s"), (125.0, "2 min 5 s"), (4321.0, "1 h 12 min")],
)
def test_long_times_are_told_in_minutes_and_hours(value: float, text: str) -> None:
    assert words.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(1.048, "1.05x"), (3.115, "3.1x"), (11.37, "11.4x"), (113.6, "114x")]
)
def test_a_ratio_keeps_as_many_digits_as_a_glance_needs(value: float, text: str) -> None:
    assert words.ratio(value) == text


def test_a_ratio_beside_a_limit_keeps_two_decimals() -> None:
    assert words.quantity(3.115, "x") != words.quantity(3.13, "x")


def test_points_never_show_a_negative_zero() -> None:
    assert words.points(-0.001, signed=True) == "0.00 points"
    assert words.points(-0.12, signed=True) == "\u22120.12 points"
    assert words.points(0.12, signed=True) == "+0.12 points"


def test_whole_numbers_of_other_units_have_no_decimals() -> None:
    assert words.quantity(2.0, "samples") == "2 samples"
    assert words.quantity(5_000, "") == "5,000"
    assert words.quantity(23.414, "dB") == "23.41 dB"


def test_one_is_not_many() -> None:
    assert words.quantity(1.0, "samples") == "1 sample"
    assert words.quantity(0.0, "samples") == "0 samples"
    assert words.counted(1, "sample") == "1 sample"
    assert words.counted(5_000, "sample") == "5,000 samples"


def test_an_interval_names_its_unit_once() -> None:
    assert words.interval(-0.21, 0.45, "points") == "\u22120.21 to 0.45 points"
    assert words.interval(2.706, 3.081, "x") == "2.71x to 3.08x"
    assert words.interval(0.1, 0.2, "squared error") == "0.1000 to 0.2000 squared error"
    assert words.interval(900, 2_000, "bytes") == "900 B to 2.00 kB"
    assert words.interval(125, 185, "s") == "2 min 5 s to 3 min 5 s"


def test_an_interval_without_an_end_is_open() -> None:
    assert words.interval(None, 0.45, "points") == "0.45 points or less"
    assert words.interval(3.02, None, "x") == "3.02x or more"
    assert words.interval(None, None, "x") == words.NOTHING


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [(1_148_523, 101_000, "11.4x smaller"), (100, 148, "1.48x larger"), (7, 7, "the same"),
     (1000, 990, "1.0 % smaller"), (None, 3, "–"), (0, 3, "–")],
)  # fmt: skip
def test_a_change_says_its_direction_in_words(
    before: int | None, after: int | None, text: str
) -> None:
    assert words.change(before, after, "smaller", "larger") == text


@pytest.mark.parametrize("unit", ["x", "points", "ms", "s", "share", "dB", ""])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_said_and_never_raises(unit: str, value: float) -> None:
    told = words.quantity(value, unit)
    assert "not a number" in told or "infinite" in told


def test_control_and_direction_characters_are_made_visible() -> None:
    assert words.plain("a\x1b[31m\u202eb\nc") == "a\ufffd[31m\ufffdb c"


def test_ordinary_text_is_left_alone() -> None:
    assert words.plain("layer1.0.conv1: größer, 畳み込み") == "layer1.0.conv1: größer, 畳み込み"


def test_a_long_text_is_cut_to_its_limit() -> None:
    assert len(words.plain("x" * 1000, 50)) == 50


def test_a_moment_is_readable_and_other_text_is_left_alone() -> None:
    assert words.moment("2026-03-14T15:09:26+00:00") == "2026-03-14 15:09 UTC"
    assert words.moment("yesterday") == "yesterday"


def test_a_confidence_is_never_rounded_to_certainty() -> None:
    assert words.confidence(0.99667) == " at 99.7 % confidence"
    assert words.confidence(0.95, one_sided=True) == " at 95 % one-sided confidence"
    assert words.confidence(None) == ""
