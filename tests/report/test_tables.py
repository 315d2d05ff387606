"""What single commands print."""

from __future__ import annotations

import io

from rich.console import Console

from deploypipe.report.tables import bench_table, catalogue_table, key_table, plan_table


def shown(renderable) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(renderable)
    return console.file.getvalue()


def test_facts_are_rows_and_brackets_stay():
    text = shown(key_table({"a_b": [1, 2], "c": {"d": 0.123456}, "e": [], "f": "[bold]x[/]"}))
    assert "a b" in text
    assert "d: 0.1235" in text
    assert "none" in text
    assert "[bold]x[/]" in text


def test_a_long_list_is_cut_and_says_so():
    text = shown(key_table({"a": list(range(20))}))
    assert "... and 8 more (--json shows all)" in text
    assert "11" in text
    assert "... and" not in shown(key_table({"a": list(range(12))}))


def test_a_strangers_escape_sequence_does_not_reach_the_terminal():
    found = {"inputs": ["\x1b[31mx\u202e: float32[1]"], "\x1b[2J": {"\x1b": "\x1b[0m"}}
    assert not set("\x1b\u202e") & set(shown(key_table(found)))


def test_a_plan_shows_steps_splits_and_the_sum():
    step = {"step": "train", "samples": {"train": 9}, "seconds": 300.0, "memory": 2_000_000}
    data = {"splits": {"train": {"samples": 9}}, "notes": ["1 left out"]}
    options = {"epochs": 3, "long": "x" * 99}
    found = {"steps": [{**step, "options": options}], "data": data, "seconds": 12, "memory": 1000}
    text = shown(plan_table(found))
    for part in ("train", "9 train", "5 min", "epochs=3", "...", "train: 9 samples", "1 left out"):
        assert part in text
    assert "about 12 s" in text


def test_a_catalogue_shows_names_and_options():
    found = {"pass": {"drop": {"does": "drops it", "options": {"round_to": "int = 1"}}}}
    text = shown(catalogue_table(found))
    assert "drop" in text
    assert "drops it" in text
    assert "round_to: int = 1" in text


def test_one_latency_and_a_comparison():
    one = {"files": ["m.onnx"], "latency_ms": {"p50": 1.23456, "n": 7}}
    assert "m.onnx: p50 1.235 ms over 7 calls" in shown(bench_table(one))
    two = {
        "files": ["a", "b"],
        "answer": "not slower",
        "why": "because",
        "ratio": 0.5,
        "low": 0.4,
        "high": None,
        "confidence": 0.99,
        "rounds": 5,
        "batch": 1,
        "threads": 2,
        "aa_half_width": 0.02,
    }
    text = shown(bench_table(two))
    assert "NOT SLOWER: because" in text
    assert "a takes 0.500 of the time of b (0.400 to unbounded at 99% confidence)" in text
    assert "up to 2.0%" in text
