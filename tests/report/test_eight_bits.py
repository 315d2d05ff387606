"""What runs in 8 bits, what stays float and why."""

from __future__ import annotations

from typing import Any

import pytest

from deploypipe.report.eight_bits import eight_bits
from deploypipe.report.schema import read_report


def test_units_profile_and_the_placement_that_won(report: dict[str, Any]) -> None:
    told = eight_bits(read_report(report))
    assert told is not None
    facts = dict(told.facts)
    assert facts["units in 8 bits"] == "21 of 23 planned"
    assert facts["calibrator"] == "percentile (share 99.9)"
    assert facts["fastest placement"] == "all, 0.410 of the float model's time, of 2 timed"
    assert told.operators == [("Conv", 20), ("Gemm", 1)]


def test_nodes_that_share_a_reason_are_told_together(report: dict[str, Any]) -> None:
    kept = report["stages"][5]["notes"]["plan"]["kept_float"]
    kept |= {f"add{i}": "float is faster" for i in range(20)}
    told = eight_bits(read_report(report))
    assert told is not None
    assert told.floats[0].why == "float is faster" and told.floats[0].nodes.total == 21


def test_a_reason_is_not_told_twice(report: dict[str, Any]) -> None:
    report["stages"][5]["refusals"] = ["MaxPool 'pool' stays float: no kernel", "only 3 samples"]
    told = eight_bits(read_report(report))
    assert told is not None and told.warnings.shown == ("only 3 samples",)


def test_causes_are_those_of_the_stage_or_else_the_worst_layers(report: dict[str, Any]) -> None:
    told = eight_bits(read_report(report))
    assert told is not None
    assert told.causes == ["conv3: its weights have one scale", "conv5: clipped"]
    del report["stages"][5]["notes"]["diagnosis"]
    told = eight_bits(read_report(report))
    assert told is not None and len(told.causes) == 3 and "dB of signal" in told.causes[0]


def test_units_are_told_the_worst_first(report: dict[str, Any]) -> None:
    told = eight_bits(read_report(report))
    assert told is not None
    assert [unit.name for unit in told.units] == [f"conv{i}" for i in range(12)]
    assert told.units[0].alone == "30.0 dB" and told.units[0].kernels == "12.0 against 31.0 µs"


def test_corrections_say_what_they_gave(report: dict[str, Any]) -> None:
    told = eight_bits(read_report(report))
    assert told is not None and told.corrections == ["bias, 22.1 dB to 22.9 dB, kept"]


def test_a_method_without_units_is_told_by_its_name(report: dict[str, Any]) -> None:
    report["stages"][5]["notes"] = {"method": {"half": {}}}
    told = eight_bits(read_report(report))
    assert told is not None and told.facts == [("method", "half")]


@pytest.mark.parametrize("plan", [None, "all", {"units": "x", "kept_float": []}, {"units": [3]}])
def test_notes_of_another_shape_break_nothing(report: dict[str, Any], plan: object) -> None:
    notes = {"fused": 0, "plan": plan, "decision": 3, "diagnosis": {"units": {"a": 3}, "causes": 5}}
    report["stages"][5]["notes"] = {**notes, "corrections": [3, {"before_db": "x"}]}
    told = eight_bits(read_report(report))
    assert told is not None and told.operators == [] and told.floats == []


def test_without_a_quantize_stage_there_is_no_section(unquantized: dict[str, Any]) -> None:
    assert eight_bits(read_report(unquantized)) is None
