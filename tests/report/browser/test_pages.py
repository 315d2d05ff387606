"""The pages in a real browser: silent, offline, both schemes, on a phone, by keyboard and by ear."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from deploypipe.report import compare_runs, read_report, render_html
from deploypipe.report.two_runs_page import render_two_runs_html

PHONES = (320, 360, 412)


@pytest.fixture(params=["one report", "two reports", "older report", "hostile report"])
def html(request: pytest.FixtureRequest, report: dict[str, Any], older: dict[str, Any]) -> str:
    if request.param == "two reports":
        return render_two_runs_html(compare_runs(read_report(older), read_report(report)))
    if request.param == "hostile report":
        return render_html(request.getfixturevalue("hostile"))
    return render_html(report if request.param == "one report" else older)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_says_nothing_on_the_console_and_asks_nothing_of_the_network(
    html: str, scheme: str, shown: Callable[..., Any]
) -> None:
    page = shown(html, scheme=scheme)
    for opened in page.value("[...document.querySelectorAll('details')].map(d => d.open = true)"):
        assert opened
    assert page.complaints == []
    assert page.requests == []
    assert page.value(
        "document.images.length == [...document.images].filter(i => i.naturalWidth).length"
    )


def test_a_phone_scrolls_down_only(html: str, shown: Callable[..., Any]) -> None:
    for width in PHONES:
        page = shown(html, width)
        page.value("[...document.querySelectorAll('details')].map(d => d.open = true)")
        assert page.value("document.documentElement.scrollWidth") <= width, width
        assert page.value("document.body.scrollWidth") <= width, width


def test_the_schemes_swap_light_and_dark(report: dict[str, Any], shown: Callable[..., Any]) -> None:
    colours = [
        shown(render_html(report), scheme=scheme).value(
            "getComputedStyle(document.body).backgroundColor"
        )
        for scheme in ("light", "dark")
    ]
    light, dark = (
        sum(map(int, one.removeprefix("rgb(").rstrip(")").split(", "))) for one in colours
    )
    assert light > 700 > 100 > dark


def test_the_first_tab_reaches_a_visible_link_past_the_head(
    report: dict[str, Any], shown: Callable[..., Any]
) -> None:
    page = shown(render_html(report))
    page.press("Tab")
    assert page.value("document.activeElement.getAttribute('href')") == "#main"
    assert page.value("document.activeElement.getBoundingClientRect().top") >= 0
    page.press("Tab")
    assert page.value("document.activeElement.closest('nav') != null")
    assert page.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_all_that_opens_is_reached_and_opened_by_key(
    report: dict[str, Any], shown: Callable[..., Any]
) -> None:
    page = shown(render_html(report))
    page.value("document.querySelector('details > summary').focus()")
    page.press("Enter")
    assert page.value("document.querySelector('details').open")


def test_every_anchor_of_the_navigation_leads_to_its_section(
    html: str, shown: Callable[..., Any]
) -> None:
    page = shown(html)
    missing = "[...document.links].filter(a => !document.querySelector(a.getAttribute('href')))"
    assert page.value(f"{missing}.length") == 0


def test_a_screen_reader_finds_landmarks_headings_in_order_and_named_pictures(
    html: str, shown: Callable[..., Any]
) -> None:
    page = shown(html)
    nodes = page.tree()
    roles = [node["role"] for node in nodes]
    assert [roles.count(role) for role in ("banner", "navigation", "main", "contentinfo")] == [
        1
    ] * 4
    levels = [node["level"] for node in nodes if node["role"] == "heading"]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    named = [node for node in nodes if node["role"] in ("image", "img", "table", "region", "link")]
    assert named and all(node["name"].strip() for node in named if node["role"] != "region")


def test_a_strangers_markup_runs_nothing(
    hostile: dict[str, Any], shown: Callable[..., Any]
) -> None:
    page = shown(render_html(hostile))
    assert page.value("document.scripts.length") == 0
    assert page.of("Page.javascriptDialogOpening") == []
    assert page.value("document.body.innerText.includes(\"<script>alert('x')</script>\")")
