"""Certificates in short, and how a page tells them."""

from __future__ import annotations

from typing import Any

from deploypipe.report.certificate import LINKS, TENSORS, shortened
from deploypipe.report.channels import removals
from deploypipe.report.schema import read_report


def cell(index: int, kind: str = "zero", origin: Any = (), value: float = 0.0) -> dict[str, Any]:
    told = {"index": index, "is": kind, "value": value, "because": f"reason {index}"}
    return {**told, "from": [list(one) for one in origin]}


def entry(tensor: str, *cells: dict[str, Any], kind: str = "activation") -> dict[str, Any]:
    return {"tensor": tensor, "axis": 1, "size": 8, "kind": kind, "cells": list(cells)}


def certificate(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"removed": list(entries), "compensations": [], "proof": []}


def test_a_chain_leads_from_the_cell_to_where_it_begins() -> None:
    given = certificate(
        entry("relu", cell(2, origin=[("conv", 1, 3)])),
        entry("conv", cell(3, "constant", value=0.5)),
    )
    told = shortened(given)["removed"]
    assert told[0]["chains"] == [["relu[2] is zero: reason 2", "conv[3] is constant 0.5: reason 3"]]
    assert told[0]["is"] == {"zero": 1} and told[0]["size"] == 8


def test_every_kind_of_cell_has_a_chain_of_its_own() -> None:
    told = shortened(certificate(entry("a", cell(1), cell(2), cell(5, "unread"))))["removed"]
    assert told[0]["is"] == {"unread": 1, "zero": 2}
    assert [chain[0].partition(":")[0] for chain in told[0]["chains"]] == [
        "a[1] is zero",
        "a[5] is unread",
    ]


def test_a_chain_that_bites_its_tail_ends() -> None:
    given = certificate(
        entry("a", cell(0, origin=[("b", 1, 0)])), entry("b", cell(0, origin=[("a", 1, 0)]))
    )
    assert len(shortened(given)["removed"][0]["chains"][0]) == 2


def test_a_long_chain_and_many_tensors_are_cut_and_counted() -> None:
    chain = [entry(f"t{i}", cell(0, origin=[(f"t{i + 1}", 1, 0)])) for i in range(TENSORS + 9)]
    told = shortened(certificate(*chain))
    assert len(told["removed"]) == TENSORS and told["left"] == 9
    assert len(told["removed"][0]["chains"][0]) == LINKS


def test_weights_are_counted_and_compensations_too() -> None:
    given = certificate(entry("w", cell(0, "cut"), kind="weight"), entry("a", cell(0)))
    given["compensations"] = [{"how": "bias"}, {"how": "merge"}, {"how": "bias"}]
    told = shortened(given)
    assert (told["weights"], told["merged"], told["folded"]) == (1, 1, 2)
    assert [one["tensor"] for one in told["removed"]] == ["a"]


def test_the_page_tells_totals_tensors_and_proof(report: dict[str, Any]) -> None:
    (told,) = removals(read_report(report))
    assert told.facts == (
        "55 channels of 5 computed tensors, 21 weights cut, 2 merged into one, 6 folded into a bias"
    )
    assert told.tensors[0].removed == "38 of 64: 30 zero, 8 constant"
    assert told.proof == (("whole numbers", "bit for bit the same"),)
    assert told.left == 3


def test_what_does_not_fit_is_only_in_the_certificate(report: dict[str, Any]) -> None:
    noted = report["stages"][4]["notes"]["channels"][0]
    noted["removed"] *= 2_000
    (told,) = removals(read_report(report))
    assert len(told.tensors) + told.left == 4_003 and len(told.tensors) < 500


def test_notes_of_another_shape_tell_nothing_and_break_nothing(report: dict[str, Any]) -> None:
    notes = report["stages"][4]["notes"]
    for given in ("many", [3], [{"removed": "all"}], [{"removed": [5, {"is": 3}]}], None):
        notes["channels"] = given
        assert len(removals(read_report(report))) <= 1
