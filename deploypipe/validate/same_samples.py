"""An earlier comparison, and whether this one is of the same samples."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from deploypipe.core.errors import UserError
from deploypipe.core.files import Json
from deploypipe.validate.judge_accuracy import same_data_check
from deploypipe.validate.records_file import data_of_records
from deploypipe.validate.verdict import Outcome

_GIVE = "Give the report.json or the records of an earlier comparison"


def judged_against(baseline: str, found: Mapping[str, Json]) -> dict[str, Json]:
    """The sections ``found``, undecided if their samples are not those of the digest ``baseline``.

    Where nothing was asked, because a model crashed, there are none to differ.
    """
    check = same_data_check(baseline, _digest(found)) if "accuracy" in found else None
    if check is None:
        return dict(found)
    verdict = found["verdict"]
    outcome = verdict["outcome"] if verdict["outcome"] == "FAIL" else Outcome.UNDECIDED.value
    told = {**verdict, "outcome": outcome, "checks": [*verdict["checks"], check.to_json()]}
    return {**found, "verdict": told}


def data_digest(baseline: Path) -> str:
    """The digest of the samples that an earlier comparison asked: all of a split, or a part.

    Raises:
        UserError: no such file, or neither records (``.npz``) nor a report.
    """
    if baseline.suffix == ".npz":
        return data_of_records(baseline)
    try:
        return _digest(json.loads(baseline.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError("no such file", where=str(baseline), then=_GIVE) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError("no report with samples", where=str(baseline), then=_GIVE) from error


def _digest(sections: Mapping[str, Json]) -> str:
    return str(sections["accuracy"]["samples_digest"])
