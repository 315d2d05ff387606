"""Comparing answers in parts, on many machines or one after the other, without a clock.

``record_shard`` writes what both models answer to a part of the samples; ``merge_records`` proves
that the parts are all there, each sample once, and judges them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from deploypipe.core.artifact import Artifact
from deploypipe.core.errors import UserError
from deploypipe.core.files import Json
from deploypipe.core.options import check
from deploypipe.graph.files import load
from deploypipe.graph.stats import stats
from deploypipe.stages._answers import Question, ask
from deploypipe.validate import METRICS
from deploypipe.validate.accuracy import accuracy_of
from deploypipe.validate.drift import drift_of
from deploypipe.validate.judge import Comparison, Measured, judge
from deploypipe.validate.records_file import merge, read_records
from deploypipe.validate.same_samples import data_digest, judged_against
from deploypipe.validate.verdict import Budget
from deploypipe.verbs import Settings, onnx_artifact


def record_shard(
    reference: Path,
    candidate: Path,
    settings: Settings,
    out: Path,
    shard: tuple[int, int] = (1, 1),
    options: Mapping[str, Json] | None = None,
) -> Json:
    """Write what both models answer to the ``shard`` (number, of) of the samples; no verdict.

    ``options`` are those of the validate step that say how answers are scored: metric, samples,
    output.
    """
    question, data = Question.of(options), settings.need_data()
    whole = question.asked(data.split("validation"))
    part = whole.shard(*shard)
    first, second = onnx_artifact(reference, "reference"), onnx_artifact(candidate, "candidate")
    answers = ask(first, second, part, replace(question, samples=None), settings.desk(data))
    values = answers.values()
    rows = {one.made_by: _measured(one) for one in (first, second)}
    answers.write(out, whole, {name: row.to_json() for name, row in rows.items()})
    return {
        "records": str(out),
        "shard": list(shard),
        "samples": len(part),
        "of": len(whole),
        "metric": dict(zip(rows, values, strict=True)),
    }


def merge_records(
    files: Sequence[Path],
    budget: Mapping[str, float] | None = None,
    baseline: Path | None = None,
    metric: object = None,
) -> Json:
    """Put the parts together and judge: the sections of a report but for latency.

    With other samples than those of ``baseline``, a report or records, it is undecided.  The
    ``metric`` is needed only where it is a function of the user's.

    Raises:
        UserError: the parts are not of one evaluation; an id is missing or there twice.
    """
    limits = check(Budget, dict(budget or {}), "--budget")
    if not files or len(files) != len({file.resolve() for file in files}):
        raise UserError(
            "no file, or one that is given twice",
            where="--merge",
            then="Give the records of every part once",
        )
    scored = None if metric is None else METRICS.build(metric, "--metric")
    kept = merge({str(file): read_records(file, scored) for file in files})
    if scored is not None and kept.pairs.metric != scored:
        was = METRICS.name_of(kept.pairs.metric)
        then = f"Leave --metric out, or write the records again with --metric {metric}"
        raise UserError(f"these records were scored by {was}", where="--metric", then=then)
    accuracy, drift = accuracy_of(kept.pairs), drift_of(kept.pairs, kept.first_nonfinite)
    values = {"reference": accuracy.reference, "candidate": accuracy.candidate}
    before, after = (_row(kept.models[name], value) for name, value in values.items())
    verdict = judge(before, after, Comparison(accuracy=accuracy, drift=drift), limits)
    split = {"validation": {"samples": len(kept.pairs), "digest": kept.data}}
    found = {
        "data": {"splits": split},
        "reference": before.to_json(),
        "candidate": after.to_json(),
        "accuracy": {**accuracy.to_json(), "samples_digest": kept.data},
        "drift": drift.to_json(),
        "verdict": verdict.to_json(),
    }
    return found if baseline is None else judged_against(data_digest(baseline), found)


def _measured(artifact: Artifact) -> Measured:
    counted = stats(load(artifact.path))
    sizes = (artifact.bytes, counted.parameters, counted.macs, counted.nodes)
    return Measured(artifact.made_by, *sizes, artifact.digest)


def _row(told: Mapping[str, Json], accuracy: float) -> Measured:
    """A row as records keep it, with the accuracy over all parts."""
    known = {key: value for key, value in told.items() if key not in ("latency_ms", "accuracy")}
    return Measured(**known, accuracy=accuracy)
