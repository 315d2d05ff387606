"""``report.json`` version 1: what a run found, as data.

Only ``version`` and ``name`` are required: a run may stop early, have no quantize step, or measure
no latency.  Keys that are not known here are kept.  JSON has no NaN and no infinity, so they are
written as the strings ``"NaN"`` and ``"Infinity"`` and read back as numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from deploypipe.core.errors import UserError
from deploypipe.core.files import Json

VERSION = 1


class Section(BaseModel):
    """A part of the report; unknown keys are kept, and null is an empty list or mapping."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        fields = {name for name, field in cls.model_fields.items() if field.default_factory}
        return {k: v for k, v in given.items() if v is not None or k not in fields}


class LatencySummary(Section):
    """Milliseconds per call, over ``n`` calls."""

    p50: float
    p90: float | None = None
    n: int | None = None


class Interval(Section):
    """A value and the ends of its confidence interval."""

    value: float
    low: float | None = None
    high: float | None = None


class Side(Section):
    """A model on disk: sizes, and what was measured of it.  ``accuracy`` is a share in 0..1,
    or the value of another metric.
    """

    label: str = ""
    bytes: int | None = None
    parameters: int | None = None
    macs: int | None = None
    nodes: int | None = None
    digest: str | None = None
    accuracy: float | None = None
    latency_ms: LatencySummary | None = None


class LedgerRow(Side):
    """One ONNX artifact; ``ratio`` is its time over the reference's, from one interleaved run.

    ``step`` is its time over that of the row before; ``drop`` and ``step_drop`` are the metric's
    drop against the reference and against the row before, in the metric's unit.
    """

    ratio: Interval | None = None
    step: Interval | None = None
    drop: Interval | None = None
    step_drop: Interval | None = None


class Moment(Section):
    """Accuracy after a torch stage."""

    label: str
    accuracy: float | None = None


class StageEntry(Section):
    """What one stage changed and refused; ``made`` is when, in ISO form, ``file`` what it made,
    relative to the report.
    """

    step: str | int
    made: str | None = None
    kind: str | None = None
    seconds: float | None = None
    digest: str | None = None
    bytes: int | None = None
    file: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    changes: list[str] = Field(default_factory=list)
    refusals: list[str] = Field(default_factory=list)
    notes: dict[str, Any] = Field(default_factory=dict)


class SplitEntry(Section):
    """A named set of samples."""

    samples: int
    digest: str | None = None


class DataEntry(Section):
    """Where the samples came from."""

    source: Any = None
    splits: dict[str, SplitEntry] = Field(default_factory=dict)
    preprocess: Any = None
    notes: list[str] = Field(default_factory=list)


class Accuracy(Section):
    """Paired comparison on the same samples; ``low`` and ``high`` bound ``drop_points``.

    A positive drop is a loss, in ``unit``: percentage points, or the metric's own unit.
    ``reference`` and ``candidate`` times ``scale`` are in it as well.
    ``one_sided`` says that ``confidence`` holds for either end of the interval by itself.
    ``samples_digest`` is that of the ``samples`` that were asked, which may be a part of the split.
    ``proven_margin_points`` is the smallest limit that would pass, ``provable_margin_points`` what
    could be proven of equal models; ``method`` is ``tango``, ``wilson`` or ``bca``.
    ``of_reference`` says that right is what the original answers.
    """

    metric: str = "accuracy"
    unit: str = "points"
    scale: float | None = None
    higher_is_better: bool = True
    confidence: float | None = None
    one_sided: bool = True
    samples: int | None = None
    samples_digest: str | None = None
    reference: float | None = None
    candidate: float | None = None
    drop_points: float | None = None
    low: float | None = None
    high: float | None = None
    flips_to_wrong: int | None = None
    flips_to_right: int | None = None
    mcnemar_p: float | None = None
    provable_margin_points: float | None = None
    proven_margin_points: float | None = None
    standard_error: float | None = None
    method: str | None = None
    of_reference: bool = False


class LayerRow(Section):
    """A tensor of both models; ``sqnr_db`` is null where it is ``equal``, or cannot be compared."""

    name: str
    candidate: str | None = None
    op: str = ""
    node: str = ""
    sqnr_db: float | None = None
    max_abs_error: float | None = None
    cosine: float | None = None
    drop_db: float | None = None
    fits: bool = True
    equal: bool = False
    place: int | None = None


class Layers(Section):
    """The candidate's layers against those of the step ``against``, by SQNR, the worst first.

    ``cliff`` is the first layer, in the order of computing, that loses ``cliff_db`` or more.  The
    step has ``of`` tensors; those whose names the candidate lacks are not compared.
    """

    against: str | None = None
    samples: int | None = None
    of: int | None = None
    rows: list[LayerRow] = Field(default_factory=list)
    cliff: LayerRow | None = None
    cliff_db: float | None = None


class Start(Section):
    """Opening a model, its first answer and its peak memory: medians over ``n`` fresh starts."""

    open_ms: float | None = None
    first_ms: float | None = None
    peak_bytes: int | None = None
    n: int | None = None


class LogRatio(Section):
    """One round: log of candidate over reference, and of the reference over itself (``twin``)."""

    ratio: float
    twin: float | None = None


class LatencyComparison(Section):
    """Paired comparison of time; ``ratio`` is candidate over reference, with ``low`` and ``high``.

    Every round was measured in a fresh process or session, as ``fresh`` says.
    """

    threads: int | None = None
    batch: int | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    speedup: float | None = None
    confidence: float | None = None
    rounds: int | None = None
    reference_ms: list[float] = Field(default_factory=list)
    candidate_ms: list[float] = Field(default_factory=list)
    reference_cold_ms: list[float] = Field(default_factory=list)
    candidate_cold_ms: list[float] = Field(default_factory=list)
    aa_half_width: float | None = None
    fresh: str | None = None
    log_ratios: list[LogRatio] = Field(default_factory=list)
    reference_start: Start | None = None
    candidate_start: Start | None = None


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


Outcome = Annotated[Literal["PASS", "FAIL", "UNDECIDED"], BeforeValidator(_upper)]


class CheckEntry(Section):
    """One measured value against one limit: the least or the most that passes."""

    name: str
    measured: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    side: Literal["least", "most"] | None = None
    unit: str = ""
    outcome: Outcome
    why: str = ""
    samples_needed: int | None = None


class VerdictEntry(Section):
    """The outcome over all checks."""

    outcome: Outcome
    checks: list[CheckEntry] = Field(default_factory=list)


class Report(Section):
    """The whole of ``report.json``."""

    version: Literal[1]
    name: str
    created: str = ""
    command: str | list[str] | None = None
    recipe: dict[str, Any] = Field(default_factory=dict)
    target: Any = None
    environment: dict[str, Any] = Field(default_factory=dict)
    data: DataEntry | None = None
    stages: list[StageEntry] = Field(default_factory=list)
    ledger: list[LedgerRow] = Field(default_factory=list)
    history: list[Moment] = Field(default_factory=list)
    reference: Side | None = None
    candidate: Side | None = None
    accuracy: Accuracy | None = None
    latency: LatencyComparison | None = None
    drift: dict[str, Any] = Field(default_factory=dict)
    layers: Layers = Field(default_factory=Layers)
    pictures: dict[str, str] = Field(default_factory=dict)
    placement: dict[str, int] = Field(default_factory=dict)
    kernels: dict[str, int] = Field(default_factory=dict)
    verdict: VerdictEntry | None = None
    files: dict[str, str] = Field(default_factory=dict)


def read_report(report: Mapping[str, Json] | Report, where: str = "report") -> Report:
    """Check plain data against version 1.

    Raises:
        UserError: another version, or a value of the wrong shape; says where.
    """
    if isinstance(report, Report):
        return report
    if report.get("version") != VERSION:
        raise UserError(
            f"report version {report.get('version')!r}, and this deploypipe reads version {VERSION}",
            where=where,
            then="Render it with the deploypipe that wrote it, or run the recipe again",
        )
    try:
        return Report.model_validate(dict(report))
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"{first['msg']}, got {first['input']!r:.200}", where=f"{where}: {path}"
        ) from None


def load_report(path: Path) -> Report:
    """Read ``report.json``.

    Raises:
        UserError: no such file, not JSON, not a report, or a report of another version.
    """
    try:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read: {error.strerror}", where=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"not JSON ({error})", where=str(path), then="Give the report.json of a run"
        ) from error
    if not isinstance(report, dict):
        raise UserError(
            f"expected a JSON object, got {type(report).__name__}",
            where=str(path),
            then="Give the report.json of a run",
        )
    return read_report(report, str(path))
