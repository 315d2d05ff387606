"""The answer of bench for a step summary."""

from __future__ import annotations

from deploypipe.report.bench_markdown import bench_markdown

TWO = {"files": ["a|b.onnx", "b.onnx"], "answer": "not slower", "why": "0.9x to 1.0x"}


def test_one_model_is_a_line() -> None:
    told = bench_markdown({"files": ["m.onnx"], "latency_ms": {"p50": 1.25, "n": 7}})
    assert told == "**m.onnx**: p50 1.25 ms over 7 calls\n"


def test_two_models_are_an_answer_and_a_table() -> None:
    told = bench_markdown({**TWO, "ratio": 0.95, "low": 0.9, "high": None})
    assert told.startswith("**NOT SLOWER**: 0.9x to 1.0x")
    assert "| a\\|b.onnx | b.onnx | 0.95x | 0.90x or more |" in told


def test_a_crash_has_no_numbers() -> None:
    told = bench_markdown({**TWO, "answer": "crashed", "why": "ended by <signal> 11"})
    assert told == "**CRASHED**: ended by &lt;signal&gt; 11\n"
