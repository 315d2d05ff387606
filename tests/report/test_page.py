"""report.html: one page, safe, small and readable by machines that read it aloud."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from deploypipe.report import read_report, render_html
from deploypipe.report.comparison import comparison
from deploypipe.report.scores import Score

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Collects tags, texts and attributes, and notes what is not balanced."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_every_tag_is_closed_in_order(any_report: dict[str, Any]) -> None:
    assert Page(render_html(any_report)).open == []


def test_nothing_is_loaded_from_anywhere(any_report: dict[str, Any]) -> None:
    html = render_html(any_report)
    page = Page(html)
    assert not re.search(r"https?://|@import|url\(", html)
    assert not {tag for tag, _ in page.tags} & {
        "script",
        "link",
        "iframe",
        "object",
        "base",
        "form",
    }
    assert all((a["href"] or "").startswith("#") for _, a in page.tags if "href" in a)
    sources = [a["src"] or "" for _, a in page.tags if "src" in a]
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not [a for _, a in page.tags if {"srcset", "action", "xlink:href"} & set(a)]


def test_the_browser_is_told_to_load_and_run_nothing(report: dict[str, Any]) -> None:
    policies = [a for a in Page(render_html(report)).all("meta") if "http-equiv" in a]
    assert policies[0]["content"] == (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    )


def test_a_strangers_markup_is_shown_as_text(hostile: dict[str, Any]) -> None:
    page = Page(render_html(hostile))
    assert "<script>alert('x')</script>" in page.text
    assert not page.all("script")
    assert not [a for _, a in page.tags for name in a if name.startswith("on")]
    assert not re.search("[\x1b\u202e]", page.text)


def test_a_large_run_stays_small_and_says_what_it_left_out(report: dict[str, Any]) -> None:
    for stage in report["stages"]:
        stage["changes"] = [f"<fused> '{i}' & \"{'y' * 300}\"" for i in range(5_000)]
        stage["notes"] = {str(i): "<" * 100 for i in range(5_000)}
    report["latency"]["reference_ms"] *= 200
    report["environment"] = {f"variable {i}": "<" * 500 for i in range(40)}
    html = render_html(report)
    assert len(html.encode()) < 300_000
    assert "more in report.json" in html


@pytest.mark.parametrize("kind", ["report", "failed", "undecided"])
def test_the_verdict_comes_first_in_words(kind: str, request: pytest.FixtureRequest) -> None:
    report = request.getfixturevalue(kind)
    text = Page(render_html(report)).text
    outcome = report["verdict"]["outcome"]
    after_title = text.partition("UTC")[2]
    assert after_title.split()[1] == outcome


def test_a_failed_run_says_why_before_anything_else(failed: dict[str, Any]) -> None:
    text = Page(render_html(failed)).text
    assert text.index("at least 4.0x was asked for") < text.index("Original and candidate")


def test_a_run_without_a_verdict_says_so(bare: dict[str, Any]) -> None:
    assert "NO VERDICT the run ended before anything was judged" in Page(render_html(bare)).text


def test_all_checks_and_refusals_appear(report: dict[str, Any]) -> None:
    text = Page(render_html(report)).text
    for check in report["verdict"]["checks"]:
        assert check["name"].replace("_", " ") in text
        assert check["why"] in text
    refusals = [refusal for stage in report["stages"] for refusal in stage["refusals"]]
    assert refusals and all(refusal in text for refusal in refusals)


def test_the_data_tell_their_source_splits_and_seed(report: dict[str, Any]) -> None:
    text = Page(render_html(report)).text
    for told in ("validation 5,000 c3c3c3c3c3c3", "source.images.folder cifar10", "seed 7",
                 "classes airplane, automobile", "2 images occur twice within train"):  # fmt: skip
        assert told in text


def test_notes_of_the_data_that_do_not_fit_are_counted(report: dict[str, Any]) -> None:
    report["data"]["notes"] = ["y" * 300] * 100
    page = Page(render_html(report)).text
    left = 100 - page.count("y" * 300)
    assert 0 < left < 100 and f"{left} more in report.json" in page


@pytest.mark.parametrize(("unit", "told"), [("%", "91.72 %"), ("points", "91.72 %")])
@pytest.mark.parametrize(("scale", "share"), [(100.0, 0.9172), (1.0, 91.72), (10.0, 9.172)])
def test_a_metric_times_its_scale_is_in_its_unit(
    report: dict[str, Any], unit: str, told: str, scale: float, share: float
) -> None:
    report["accuracy"] |= {"unit": unit, "scale": scale, "reference": share, "candidate": share}
    assert comparison(read_report(report))[-1].reference == told
    assert Score.of(read_report(report)).after(share, 1.0) == pytest.approx(share - 1.0 / scale)


def test_the_confidence_of_the_accuracy_is_one_sided_and_that_of_the_speed_is_not(
    report: dict[str, Any],
) -> None:
    text = Page(render_html(report)).text
    assert "Its interval holds at each end at 95 % one-sided confidence." in text
    assert "interval of the paired difference at 95 % one-sided confidence." in text
    assert "interval of the paired comparison at 99 % confidence." in text
    assert "95 % confidence" not in text


def test_one_of_a_thing_is_not_many(report: dict[str, Any]) -> None:
    report["accuracy"] |= {"samples": 1, "flips_to_wrong": 1, "flips_to_right": 0}
    report["latency"] |= {"rounds": 1, "threads": 1, "candidate_ms": [0.5]}
    report["verdict"]["checks"][0] |= {"measured": 1, "limit": 1}
    text = Page(render_html(report)).text
    for told in ("on 1 sample,", "1 answer flipped to wrong, 0 to right", "at most 1 sample",
                 "1 thread, batch 1, 1 interleaved round.", "candidate: 1 call,"):  # fmt: skip
        assert told in text


def test_no_refusals_leave_no_empty_list(without_refusals: dict[str, Any]) -> None:
    html = render_html(without_refusals)
    assert "Refused" not in html and "<ul>\n</ul>" not in html


def test_a_long_list_is_folded_and_a_short_one_is_open(report: dict[str, Any]) -> None:
    page = Page(render_html(report))
    assert "20 changed" in page.text
    assert len([a for a in page.all("details") if a.get("class") == "changed"]) == 1


def test_both_colour_schemes_and_phones_are_served(report: dict[str, Any]) -> None:
    html = render_html(report)
    assert "@media (prefers-color-scheme: dark)" in html
    assert 'content="width=device-width, initial-scale=1"' in html


def test_every_colour_that_is_used_is_defined_in_both_schemes(report: dict[str, Any]) -> None:
    html = render_html(report)
    light, dark = html.split("@media (prefers-color-scheme: dark)")
    dark = dark.split("* {")[0]
    used = set(re.findall(r"var\(--([a-z-]+)", html)) - {"tone", "tone-soft"}
    for scheme in (light, dark):
        assert used <= set(re.findall(r"--([a-z-]+):", scheme))


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1])
def test_text_and_series_stand_out_from_the_page(report: dict[str, Any], scheme: int) -> None:
    part = render_html(report).split("@media (prefers-color-scheme: dark)")[scheme]
    colours = dict(re.findall(r"--([a-z-]+): #([0-9a-f]{6});", part.split("* {")[0]))

    def contrast(one: str, other: str) -> float:
        bright, dim = sorted((_luminance(colours[one]), _luminance(colours[other])), reverse=True)
        return (bright + 0.05) / (dim + 0.05)

    for text in ("ink", "muted", "good", "bad", "open"):
        assert contrast(text, "page") >= 4.5, text
    for tone in ("good", "bad", "open"):
        assert contrast(tone, f"{tone}-soft") >= 4.5, tone
    for series in ("reference", "candidate", "between"):
        assert contrast(series, "page") >= 3.0, series


def test_tables_have_captions_and_headed_rows(report: dict[str, Any]) -> None:
    page = Page(render_html(report))
    assert len(page.all("table")) == len(page.all("caption")) == 9
    assert all(a.get("scope") in ("row", "col") for a in page.all("th"))


def test_pictures_are_named_and_ids_are_unique(report: dict[str, Any]) -> None:
    page = Page(render_html(report))
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert len(page.all("svg")) == 9
    for svg in page.all("svg"):
        assert svg["role"] == "img"
        assert set((svg["aria-labelledby"] or "").split()) <= set(ids)
    for _, attributes in page.tags:
        assert set((attributes.get("aria-labelledby") or "").split()) <= set(ids)


def test_sections_that_were_not_measured_are_left_out(report: dict[str, Any]) -> None:
    for key in (
        "latency",
        "accuracy",
        "placement",
        "kernels",
        "data",
        "drift",
        "ledger",
        "history",
    ):
        del report[key]
    text = Page(render_html(report)).text
    assert "Checks" in text and "Spread of the calls" not in text and "Kernels that ran" not in text


def test_an_error_metric_is_told_in_its_own_unit(report: dict[str, Any]) -> None:
    report["accuracy"] |= {
        "metric": "mean-squared-error", "unit": "squared error", "higher_is_better": False,
        "reference": 1.25, "candidate": 1.5, "drop_points": 0.25, "low": 0.125, "high": 0.375,
    }  # fmt: skip
    text = Page(render_html(report)).text
    assert "1.500 squared error" in text and "+0.2500 squared error" in text
    assert "+0.1250 to +0.3750 squared error" in text and "150.00 %" not in text


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, -1.0, None])
def test_broken_measurements_never_break_the_page(report: dict[str, Any], value: float) -> None:
    report["latency"] |= {
        "ratio": value,
        "low": value,
        "high": value,
        "reference_ms": [value or 0.0],
    }
    report["accuracy"] |= {"reference": value, "drop_points": value, "low": value, "high": value}
    for row in report["ledger"]:
        row["accuracy"] = value
        row["ratio"] = {"value": value or 0.0, "low": value, "high": value}
    for check in report["verdict"]["checks"]:
        check |= {"measured": value, "limit": value, "low": value, "high": value}
    html = render_html(report)
    assert Page(html).open == []
    assert not re.search(r'="(nan|inf|-inf)', html)
