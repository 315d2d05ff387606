"""The recipe's ``data:`` section, and how it becomes splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deploypipe.core.errors import UserError
from deploypipe.core.progress import Progress
from deploypipe.data import splits
from deploypipe.data.dataset import Data, Split
from deploypipe.data.preprocess import Preprocess
from deploypipe.data.source import SOURCES, Source
from deploypipe.data.spec import Spec, source_of

Count = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]

SHARED = (
    "these samples serve calibration and validation alike: on the very ones that it was calibrated "
    "on, a model looks better than it is; validate on others, or use a recipe, whose data.split "
    "keeps them apart"
)
"""The note of data that were opened without samples of their own for calibration."""


class SplitCounts(BaseModel):
    """Samples per split; None is all that are left.  With a source of its own, 0 is all of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    calibration: Count = 0
    validation: Count = 0
    train: Count | None = None


class DataRecipe(BaseModel):
    """What a recipe says about its data; a bare ``source:argument`` stands for ``{source: ...}``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Spec
    validation: Spec | None = None
    calibration: Spec | None = None
    split: SplitCounts = SplitCounts()
    preprocess: Preprocess = Preprocess()
    seed: Seed = 0
    input: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        return {"source": given} if isinstance(given, str) else given


def open_data(
    recipe: DataRecipe, where: str = "data", folder: Path = Path(), progress: Progress | None = None
) -> Data:
    """Open the sources and fix who is in which split; decodes one sample per split.

    Relative paths in ``recipe`` start at ``folder``.

    Raises:
        UserError: a source, a count or the preprocessing is wrong, or splits share samples.
        EnvironmentLacks: a source needs a package that is not installed.
    """
    specs = {"source": recipe.source}
    own = {"validation": recipe.validation, "calibration": recipe.calibration}
    specs |= {name: spec for name, spec in own.items() if spec is not None}
    sources = {name: _opened(spec, f"{where}.{name}", folder) for name, spec in specs.items()}
    classes = _shared_classes(sources, where)
    placed = _place(sources, recipe.split, recipe.seed, where)
    made = {
        name: Split(
            name,
            sources.get(name, sources["source"]),
            rows,
            recipe.preprocess,
            input=recipe.input or "image",
            progress=progress,
        )
        for name, rows in placed.rows.items()
        if rows
    }
    _try_out(made, where)
    notes = [note for source in sources.values() for note in source.notes()] + placed.notes
    return Data(specs, made, recipe.preprocess, classes, notes, recipe.seed, where)


def open_samples(
    spec: object,
    *,
    preprocess: Preprocess | None = None,
    samples: int | None = None,
    calibration: int = 0,
    folder: Path = Path(),
    input: str | None = None,
    seed: int = 0,
    where: str = "--data",
    progress: Progress | None = None,
) -> Data:
    """One source without a recipe: ``samples`` of it (default: all) as the split ``validation``.

    The split ``calibration`` is the same object, for a command that only calibrates, and ``notes``
    say so; with ``calibration`` above 0 it is so many samples that are not in ``validation``.

    Raises:
        UserError, EnvironmentLacks: as :func:`open_data`.
    """
    source = _opened(spec, where, folder)
    rows = _apart(source, samples, calibration, seed)
    preprocess = preprocess or Preprocess()
    how: dict[str, Any] = {"input": input or "image", "progress": progress}
    made = {name: Split(name, source, r, preprocess, **how) for name, r in rows.items()}
    _try_out(made, where)
    notes = source.notes() + ([] if calibration else [SHARED])
    told = SOURCES.spec(source) if isinstance(spec, Source) else spec
    named = {**made, "calibration": made.get("calibration", made["validation"])}
    return Data({"source": told}, named, preprocess, source.classes, notes, seed, where)


def _apart(
    source: Source, samples: int | None, calibration: int, seed: int
) -> dict[str, list[int]]:
    """Rows of validation and, where any are asked for, of calibration."""
    if calibration < 0:
        raise UserError(f"expected at least 0, got {calibration}", where="calibration")
    total = len(source)
    groups = splits.ordered(source.digests(), seed)
    others, groups = splits.take(groups, calibration, total, "calibration")
    wanted = sum(map(len, groups)) if samples is None else samples
    if wanted < 1:
        what = f"expected at least 1, got {wanted}"
        what += f", for {calibration} of {total} are for calibration" if calibration else ""
        raise UserError(what, where="--samples")
    rows = {"validation": splits.take(groups, wanted, total, "--samples")[0]}
    return rows | ({"calibration": others} if calibration else {})


def _opened(spec: object, where: str, folder: Path) -> Source:
    source = source_of(spec, where, folder)
    if len(source) == 0:
        raise UserError("there are no samples", where=where, then="Give a source that has some")
    return source


def _shared_classes(sources: Mapping[str, Source], where: str) -> tuple[str, ...] | None:
    """The class names, which all sources that have any must share, for labels to mean the same."""
    known = {name: source.classes for name, source in sources.items() if source.classes}
    if not known:
        return None
    first, names = next(iter(known.items()))
    for other, theirs in known.items():
        if theirs != names:
            odd = sorted(set(names or ()) ^ set(theirs or ()))
            what = f"only one has {', '.join(odd[:5])}" if odd else "their order differs"
            raise UserError(
                f"the classes are not those of {where}.{first}: {what}",
                where=f"{where}.{other}",
                then="Both need the same classes in the same order, empty ones included",
            )
    return names


@dataclass
class _Placed:
    """Rows per split, in order, and what to tell about them."""

    rows: dict[str, list[int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def _place(sources: Mapping[str, Source], counts: SplitCounts, seed: int, where: str) -> _Placed:
    """Validation first, so that no other count changes it; then calibration; training is the rest."""
    placed = _Placed()
    digests = {name: source.digests() for name, source in sources.items()}
    main, total = splits.ordered(digests["source"], seed), len(sources["source"])
    barred: set[str] = set()
    for name in ("validation", "calibration"):
        count, path = getattr(counts, name), f"{where}.split.{name}"
        if name in sources:
            groups, size = splits.ordered(digests[name], seed), len(sources[name])
            placed.rows[name], _ = splits.take(groups, count or size, size, path)
        else:
            placed.rows[name], main = splits.take(main, count, total, path)
        if name == "validation":
            barred = {digests.get(name, digests["source"])[row] for row in placed.rows[name]}
            main, left_out = splits.without(main, digests["source"], barred)
            placed.notes += _left_out(left_out)
    if "calibration" in sources:
        _refuse_shared(sources, placed.rows, where)
    wanted = sum(map(len, main)) if counts.train is None else counts.train
    placed.rows["train"], _ = splits.take(main, wanted, total, f"{where}.split.train")
    placed.notes += _also_calibration(sources, digests, placed.rows)
    return placed


def _left_out(count: int) -> list[str]:
    if not count:
        return []
    are = "1 training sample is" if count == 1 else f"{count} training samples are"
    return [f"{are} also in validation; left out"]


def _also_calibration(
    sources: Mapping[str, Source], digests: Mapping[str, Sequence[str]], rows: dict[str, list[int]]
) -> list[str]:
    if "calibration" not in sources:
        return []
    known = {digests["calibration"][row] for row in rows["calibration"]}
    count = sum(digests["source"][row] in known for row in rows["train"])
    are = "1 training sample is" if count == 1 else f"{count} training samples are"
    return [f"{are} also in calibration; kept, it only reads ranges"] if count else []


def _refuse_shared(
    sources: Mapping[str, Source], rows: Mapping[str, Sequence[int]], where: str
) -> None:
    """Raise where calibration, which has its own source, holds a sample of validation."""
    validation, calibration = sources.get("validation", sources["source"]), sources["calibration"]
    theirs, ours = validation.digests(), calibration.digests()
    by_content = {theirs[row]: row for row in rows["validation"]}
    shared = [row for row in rows["calibration"] if ours[row] in by_content]
    if not shared:
        return
    first = shared[0]
    raise UserError(
        f"sample {calibration.ids()[first]} is also in validation, as "
        f"{validation.ids()[by_content[ours[first]]]} ({len(shared)} such samples)",
        where=f"{where}.calibration",
        then=f"Take both out of one source with {where}.split, which keeps them apart",
    )


def _try_out(made: Mapping[str, Split], where: str) -> None:
    """Read one sample per split, so that what does not fit is told before any work."""
    for name, split in made.items():
        split.batch([0])
        if not split.gives_images and split.preprocess.model_fields_set:
            raise UserError(
                f"the samples of {name} are arrays, to which preprocess does not apply",
                where=f"{where}.preprocess",
                then="Take it out, and give the arrays as the model takes them",
            )
