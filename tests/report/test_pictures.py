"""The pictures: positions that follow the values."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any
from xml.etree import ElementTree

import pytest

from deploypipe.report.layer_bars import layers_figure, worst_layers
from deploypipe.report.marks import Figure
from deploypipe.report.pictures import ledger_figures, pareto_figures, sureness_figures
from deploypipe.report.schema import read_report
from deploypipe.report.spread import spread_figure
from deploypipe.report.svg import Scale, tag


def _drawn(found: list[Figure], key: str) -> ElementTree.Element:
    trees = [ElementTree.fromstring(str(figure.svg)) for figure in found]
    return next(t for t in trees if t.get("aria-labelledby", "").startswith(f"{key}-"))


def _floats(element: ElementTree.Element, *names: str) -> tuple[float, ...]:
    return tuple(float(element.get(name, "nan")) for name in names)


def test_every_picture_is_well_formed_and_stays_in_its_box(any_report: dict[str, Any]) -> None:
    read = read_report(any_report)
    layers = layers_figure(read)
    found = [*ledger_figures(read), *sureness_figures(read), *pareto_figures(read)]
    for figure in [*found, *([layers] if layers else [])]:
        tree = ElementTree.fromstring(str(figure.svg))
        _, _, width, height = map(float, tree.get("viewBox", "").split())
        for element in tree.iter():
            for name, limit in (("x", width), ("x1", width), ("x2", width), ("cx", width),
                                ("y", height), ("y1", height), ("y2", height)):  # fmt: skip
                assert 0 <= float(element.get(name, 0)) <= limit, ElementTree.tostring(element)


def test_bars_are_as_long_as_their_bytes(report: dict[str, Any]) -> None:
    tree = _drawn(ledger_figures(read_report(report)), "size")
    widths = [_floats(bar, "width")[0] for bar in tree.iter("rect")]
    sizes = [row["bytes"] for row in report["ledger"]]
    assert [w / widths[0] for w in widths] == pytest.approx(
        [s / sizes[0] for s in sizes], abs=0.002
    )


def test_panels_of_the_ledger_share_their_rows(report: dict[str, Any]) -> None:
    panels = ledger_figures(read_report(report))
    rows = [
        [
            (t.text, t.get("y"))
            for t in ElementTree.fromstring(str(p.svg)).iter("text")
            if t.get("x") == "0"
        ]
        for p in panels
    ]
    assert len(panels) == 3 and rows[0] == rows[1] == rows[2]
    assert [label for label, _ in rows[0]] == ["reference", "export", "optimize", "quantize"]


def _axis(tree: ElementTree.Element) -> list[str | None]:
    return [t.text for t in tree.iter("text") if t.get("class") == "tick"]


def test_the_axis_of_a_share_stays_between_none_and_all(report: dict[str, Any]) -> None:
    for row, value in zip(report["ledger"], (0.996, 0.095, 0.99, 0.99), strict=True):
        row["accuracy"] = value
    del report["accuracy"]
    assert _axis(_drawn(ledger_figures(read_report(report)), "accuracy")) == ["2.29 %", "100.00 %"]
    report["ledger"][1]["accuracy"] = 0.01
    (figure,) = [f for f in ledger_figures(read_report(report)) if f.title == "Accuracy"]
    assert _axis(_drawn([figure], "accuracy")) == ["0.00 %", "100.00 %"]
    assert figure.caption == "The axis starts at zero."


def test_the_axis_of_an_error_may_go_beyond_one(report: dict[str, Any]) -> None:
    report["accuracy"] |= {"unit": "squared error", "higher_is_better": False, "low": None}
    del report["verdict"]
    for row, value in zip(report["ledger"], (2.0, 3.0, 2.0, 2.0), strict=True):
        row["accuracy"] = value
    ends = _axis(_drawn(ledger_figures(read_report(report)), "accuracy"))
    assert ends == ["1.920 squared error", "3.080 squared error"]


def test_a_shorter_pipeline_gives_fewer_rows(unquantized: dict[str, Any]) -> None:
    tree = _drawn(ledger_figures(read_report(unquantized)), "time")
    assert "quantize" not in "".join(tree.itertext())
    assert [bar.get("class") for bar in tree.iter("rect")] == ["reference", "between", "candidate"]


def test_the_whisker_of_a_latency_spans_its_interval(report: dict[str, Any]) -> None:
    report["ledger"][3]["ratio"] = {"value": 0.5, "low": 0.25, "high": 0.75}
    tree = _drawn(ledger_figures(read_report(report)), "time")
    spans = [_floats(e, "x1", "x2") for e in tree.iter("line") if e.get("class") == "whisker"]
    low, high = spans[-3]
    assert high - low == pytest.approx((222 - 78) / 2 / 1.006, abs=0.3)


def test_the_speed_up_lies_between_the_ends_of_its_interval(report: dict[str, Any]) -> None:
    tree = _drawn(sureness_figures(read_report(report)), "speedup")
    low, high = next(
        _floats(e, "x1", "x2") for e in tree.iter("line") if e.get("class") == "whisker"
    )
    (dot,) = (_floats(e, "cx")[0] for e in tree.iter("circle") if e.get("class") == "candidate")
    limit = next(_floats(e, "x1")[0] for e in tree.iter("line") if e.get("class") == "limit")
    assert limit < low < dot < high
    assert "limit: at least 2.00x" in "".join(tree.itertext())


@pytest.mark.parametrize("key", ["speedup", "drop"])
def test_the_shaded_side_is_the_accepted_one(report: dict[str, Any], key: str) -> None:
    tree = _drawn(sureness_figures(read_report(report)), key)
    (shade,) = (_floats(e, "x", "width") for e in tree.iter("rect"))
    (dot,) = (_floats(e, "cx")[0] for e in tree.iter("circle") if e.get("class") == "candidate")
    assert shade[0] < dot < shade[0] + shade[1]


def test_a_failing_speed_up_lies_outside_the_shade(failed: dict[str, Any]) -> None:
    tree = _drawn(sureness_figures(read_report(failed)), "speedup")
    (shade,) = (_floats(e, "x", "width") for e in tree.iter("rect"))
    (dot,) = (_floats(e, "cx")[0] for e in tree.iter("circle") if e.get("class") == "candidate")
    assert not shade[0] <= dot <= shade[0] + shade[1]


def test_without_a_limit_the_speed_up_is_shown_against_one(report: dict[str, Any]) -> None:
    report["verdict"]["checks"] = []
    tree = _drawn(sureness_figures(read_report(report)), "speedup")
    assert "1x" in [t.text for t in tree.iter("text")]
    assert not [e for e in tree.iter() if e.get("class") in ("limit", "accepted")]


def test_a_distribution_climbs_from_none_to_all_calls(report: dict[str, Any]) -> None:
    report["latency"]["reference_ms"] = [1.0, 2.0, 3.0, 4.0]
    report["latency"]["candidate_ms"] = []
    tree = _drawn(sureness_figures(read_report(report)), "spread")
    (path,) = tree.iter("path")
    heights = [float(y) for y in re.findall(r"V([\d.]+)", path.get("d", ""))]
    assert heights == sorted(heights, reverse=True) and len(heights) == 4
    assert heights[-1] == 44.0


def test_a_far_tail_is_cut_off_and_counted(report: dict[str, Any]) -> None:
    report["latency"]["candidate_ms"][0] = 900.0
    (spread,) = [
        f for f in sureness_figures(read_report(report)) if f.title == "Spread of the calls"
    ]
    assert re.search(r"Beyond the axis: \d+ slower call", spread.caption)


def test_the_spread_says_how_many_of_the_calls_it_has(report: dict[str, Any]) -> None:
    sides = report["latency"]
    for side in ("reference", "candidate"):
        report[side]["latency_ms"]["n"] = len(sides[f"{side}_ms"])
    figure = spread_figure(read_report(report))
    assert figure is not None
    assert figure.caption.startswith("Every timed call: ")
    report["reference"]["latency_ms"]["n"] = 40_000
    figure = spread_figure(read_report(report))
    assert figure is not None
    count = len(sides["reference_ms"])
    assert figure.caption.startswith(
        f"Timed calls, evenly picked ({count} of 40000 of the reference, "
    )


def test_the_reference_is_told_apart_by_shape(report: dict[str, Any]) -> None:
    tree = _drawn(sureness_figures(read_report(report)), "spread")
    assert {e.get("class") for e in tree.iter("rect")} == {"reference"}
    assert {e.get("class") for e in tree.iter("circle")} == {"candidate"}


def test_ticks_are_round_and_inside() -> None:
    assert Scale(0.0, 2.6, 0, 1).ticks(6) == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert Scale(-0.23, 0.5, 0, 1).ticks(5) == [-0.2, 0.0, 0.2, 0.4]
    assert Scale(3.0, 3.0, 0, 1).ticks() == [3.0]


def test_text_and_attributes_are_escaped() -> None:
    assert tag("text", '<b a="1">', class_='"><script>') == (
        '<text class="&#34;&gt;&lt;script&gt;">&lt;b a=&#34;1&#34;&gt;</text>'
    )


def test_every_round_is_a_dot_beside_the_reference_over_itself(report: dict[str, Any]) -> None:
    tree = _drawn(sureness_figures(read_report(report)), "speedup")
    dots = {
        role: [_floats(e, "cx")[0] for e in tree.iter("circle") if e.get("class") == f"{role} dot"]
        for role in ("reference", "candidate")
    }
    assert [len(one) for one in dots.values()] == [20, 20]
    assert max(dots["reference"]) < min(dots["candidate"])
    assert "Each of 20 dots: one fresh process." in sureness_figures(read_report(report))[0].caption


def test_an_older_report_without_rounds_still_shows_its_interval(older: dict[str, Any]) -> None:
    tree = _drawn(sureness_figures(read_report(older)), "speedup")
    assert len([e for e in tree.iter("circle") if (e.get("class") or "").endswith("dot")]) == 0
    assert len([e for e in tree.iter("line") if e.get("class") == "whisker"]) == 3


def test_cheaper_is_left_and_better_is_up(report: dict[str, Any]) -> None:
    tree = _drawn(pareto_figures(read_report(report)), "trade-size")
    (before,) = [e for e in tree.iter("rect") if e.get("class") == "reference"]
    (after,) = [e for e in tree.iter("circle") if e.get("class") == "candidate"]
    assert _floats(after, "cx")[0] < _floats(before, "x")[0]
    assert _floats(after, "cy")[0] > _floats(before, "y")[0]


def test_points_that_fall_together_share_a_label(report: dict[str, Any]) -> None:
    tree = _drawn(pareto_figures(read_report(report)), "trade-size")
    labels = [t.text for t in tree.iter("text") if t.get("class") == "label"]
    assert "reference, export" in labels and len(labels) == 3


def test_labels_of_the_trade_never_lie_on_each_other(report: dict[str, Any]) -> None:
    for row in report["ledger"][1:]:
        row["accuracy"] = 0.9172
    for figure in pareto_figures(read_report(report)):
        tree = ElementTree.fromstring(str(figure.svg))
        labels = [t for t in tree.iter("text") if t.get("class") == "label"]
        spots = [(*_floats(t, "x", "y"), 6.5 * len(t.text or "")) for t in labels]
        for (x, y, wide), (left, top, more) in combinations(spots, 2):
            assert abs(y - top) >= 12 or x + wide < left or left + more < x, spots


def test_the_frontier_leaves_out_what_another_beats(report: dict[str, Any]) -> None:
    report["ledger"][1] |= {"bytes": 2_000_000, "accuracy": 0.5}
    tree = _drawn(pareto_figures(read_report(report)), "trade-size")
    (path,) = [e.get("d", "") for e in tree.iter("path")]
    assert len(re.findall("V", path)) == 3


def test_a_single_artifact_is_no_trade(report: dict[str, Any]) -> None:
    report["ledger"] = report["ledger"][:1]
    assert pareto_figures(read_report(report)) == []


def test_a_metric_that_counts_errors_has_its_frontier_below(report: dict[str, Any]) -> None:
    report["accuracy"] |= {"higher_is_better": False}
    (size, _) = pareto_figures(read_report(report))
    assert "better is lower" in size.caption


def test_layers_are_in_the_order_of_computing_and_the_cliff_stands_out(
    report: dict[str, Any],
) -> None:
    figure = layers_figure(read_report(report))
    assert figure is not None
    tree = ElementTree.fromstring(str(figure.svg))
    bars = [e for e in tree.iter("rect") if e.get("class") in ("layer", "cliff")]
    assert [bar.get("class") for bar in bars].index("cliff") == 17
    assert [_floats(bar, "x")[0] for bar in bars] == sorted(_floats(bar, "x")[0] for bar in bars)
    assert "First cliff: layer3.1 (Conv) loses 9.1 dB." in figure.caption


def test_of_very_many_layers_none_of_the_worst_is_lost(report: dict[str, Any]) -> None:
    rows = [{"name": f"l{i}", "sqnr_db": 40.0, "place": i} for i in range(3_000)]
    rows[1234]["sqnr_db"] = 1.0
    report["layers"] = {"rows": rows, "samples": 8}
    read = read_report(report)
    figure = layers_figure(read)
    assert figure is not None and len(figure.svg) < 60_000
    tree = ElementTree.fromstring(str(figure.svg))
    heights = [_floats(e, "height")[0] for e in tree.iter("rect")]
    assert len(heights) <= 120 and min(heights) < max(heights) / 10
    assert worst_layers(read)[0].name == "l1234"


def test_layers_that_are_equal_or_not_comparable_have_no_bar(report: dict[str, Any]) -> None:
    rows = [{"name": "a", "sqnr_db": None, "equal": True}, {"name": "b", "sqnr_db": None}]
    report["layers"] = {"rows": rows}
    assert layers_figure(read_report(report)) is None
    assert worst_layers(read_report(report)) == []
