"""The samples that moved most, in words."""

from __future__ import annotations

from typing import Any

from deploypipe.report.samples import ROOM, worst_samples
from deploypipe.report.schema import read_report


def test_twenty_samples_with_names_of_classes_and_what_became_of_them(
    report: dict[str, Any],
) -> None:
    told = worst_samples(read_report(report))
    assert len(told) == 20 and told[0].id == "cifar10/0417"
    assert told[0].answer == "cat → dog" and told[0].flip == "became wrong"
    assert told[1].answer == "dog, as before" and told[1].flip == ""
    assert told[2].flip == "became right" and told[3].flip == ""
    assert told[0].facts == "label cat, moved 6.10"
    assert told[0].picture.startswith("data:image/png;base64,") and told[-1].picture == ""


def test_an_older_report_has_only_ids(older: dict[str, Any]) -> None:
    told = worst_samples(read_report(older))
    assert len(told) == 20 and told[0].id and told[0].answer == told[0].picture == ""


def test_pictures_stop_where_there_is_no_more_room(report: dict[str, Any]) -> None:
    picture = "data:image/png;base64," + "A" * 30_000
    report["pictures"] = {one["id"]: picture for one in report["drift"]["worst_samples"]}
    told = worst_samples(read_report(report))
    assert sum(bool(one.picture) for one in told) == ROOM // len(picture)


def test_a_stranger_cannot_smuggle_an_address_into_a_picture(report: dict[str, Any]) -> None:
    report["pictures"] = {
        one["id"]: 'x" onerror="alert(1)' for one in report["drift"]["worst_samples"]
    }
    assert not any(one.picture for one in worst_samples(read_report(report)))


def test_classes_that_nobody_named_are_numbers(report: dict[str, Any]) -> None:
    report["data"]["classes"] = None
    report["drift"]["worst_samples"] = [{"id": "a", "reference": 3, "candidate": 11, "label": 2.5}]
    (told,) = worst_samples(read_report(report))
    assert told.answer == "3 → 11" and told.facts == "label 2.5"
    assert told.flip == "wrong as before"


def test_without_drift_there_are_none(bare: dict[str, Any]) -> None:
    assert worst_samples(read_report(bare)) == []
