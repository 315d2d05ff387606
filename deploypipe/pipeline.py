"""plan(recipe), run(plan): the story from top to bottom.

    recipe.yaml -> Recipe -> Plan -> [Stage]* over Artifacts -> Verdict -> bundle + report

Nothing flows back.  The reference is the model as it came (after the recipe's own training, if it
trains): exported and otherwise untouched, and every comparison is against it.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploypipe.bundle.tar import holds_bundle
from deploypipe.cache import Cache, Entry, key_of
from deploypipe.core.artifact import Artifact, Kind
from deploypipe.core.errors import EnvironmentLacks, UserError, needs_extra
from deploypipe.core.files import Json, writing
from deploypipe.core.progress import Progress, Silent
from deploypipe.core.shelf import EXTRA_OF
from deploypipe.data import Data, open_data
from deploypipe.data.spec import locate
from deploypipe.recipe import Recipe, Step, build_steps, read_recipe, shelves
from deploypipe.report import write_report
from deploypipe.report.collect import Told, collect
from deploypipe.report.schema import load_report
from deploypipe.runtime import TARGETS, Target
from deploypipe.stages import STAGES, Desk, Stage
from deploypipe.stages._onnx_source import OnnxSource
from deploypipe.stages._source import Source


@dataclass(frozen=True)
class Plan:
    """A recipe that was found good: everything is built, nothing has been done."""

    recipe: Recipe
    file: Path
    steps: tuple[Step, ...]
    target: Target
    data: Data
    source: Source

    @property
    def reference_at(self) -> int:
        """How many leading steps belong to the original: its own training."""
        names = [step.name for step in self.steps]
        return next((i for i, name in enumerate(names) if name != "train"), len(names))

    @property
    def all_steps(self) -> tuple[Step, ...]:
        """The recipe's steps with the two that every run has: source and reference."""
        head, tail = self.steps[: self.reference_at], self.steps[self.reference_at :]
        source = Step("source", "model", self.source)
        if self.source.kind is Kind.ONNX:
            return (source, *head, *tail)
        return (source, *head, Step("reference", "model", _exporter(self.steps)), *tail)


def plan(file: Path, changes: Sequence[str] = (), progress: Progress | None = None) -> Plan:
    """Check a recipe to its last option; changes nothing.

    Raises:
        UserError: the first mistake, with its path.
        EnvironmentLacks: a package or the target is missing.
    """
    recipe = read_recipe(file, changes)
    folder = file.absolute().parent
    shelves()
    steps = build_steps(recipe, folder)
    _check_packages(steps)
    target = TARGETS.build(recipe.target, "target")
    if (missing := target.missing()) is not None:
        raise EnvironmentLacks(missing, where="target")
    source = _source(recipe, folder)
    _check_chain(steps, source.kind)
    data = open_data(recipe.data, "data", folder, progress)
    for step in steps:
        step.stage.work(data)
    scored = {step.stage.scores_labels() for step in steps}
    source.try_out(data, target, labelled=True in scored or False not in scored)
    return Plan(recipe, file, tuple(steps), target, data, source)


@dataclass
class Result:
    """What a run gave: its report, the outcome of the verdict and where everything lies."""

    report: Json
    out: Path
    entries: list[Entry] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 pass or nothing to judge, 1 a gate failed, 3 undecided."""
        outcome = (self.report.get("verdict") or {}).get("outcome")
        return {"FAIL": 1, "UNDECIDED": 3}.get(str(outcome), 0)


def run(planned: Plan, out: Path, progress: Progress | None = None, command: str = "") -> Result:
    """Do what was planned, or what is left of it; write the bundle and the report below ``out``.

    Finished stages are taken from ``out``; a run that was stopped goes on where it was.
    """
    progress = progress or Silent()
    desk = Desk(
        out=out,
        data=planned.data,
        reference=None,
        target=planned.target,
        seed=planned.recipe.seed,
        progress=progress,
        name=planned.recipe.name,
        kept=out / "observed",
        budget=planned.recipe.budget.model_dump(mode="json"),
    )
    _check_place(out)
    with Cache(out) as cache:
        _sweep(out)
        entries = _run_steps(planned, cache, desk)
        files = _publish(entries, out)
        model = planned.recipe.model.model_dump(mode="json")
        report = collect(
            [
                Told(
                    step.name,
                    entry.artifact,
                    entry.seconds,
                    entry.made,
                    # The source's own options hold absolute paths of this machine.
                    {"model": model} if step.name == "source" else entry.options,
                )
                for step, entry in zip(planned.all_steps, entries, strict=False)
            ],
            name=planned.recipe.name,
            recipe=planned.recipe.model_dump(mode="json"),
            data=planned.data.describe(),
            target=TARGETS.spec(planned.target),
            command=command,
            files=files,
            folder=out,
        )
        write_report(report, out)
    return Result(report, out, entries)


def _run_steps(planned: Plan, cache: Cache, desk: Desk) -> list[Entry]:
    """Every step over the artifact before it; stops before the bundle if the verdict says so."""
    entries: list[Entry] = []
    source: Artifact | None = None
    for number, step in enumerate(planned.all_steps):
        if step.name == "bundle" and not _may_ship(entries):
            desk.progress.say("bundle: not made, because the verdict is not PASS")
            break
        place = f"{number + 1}/{len(planned.all_steps)}"
        entry = _step(cache, desk, f"{number:02d}-{step.name}", place, step.stage, source)
        entries.append(entry)
        if step.name == "reference" or (number == 0 and planned.source.kind is Kind.ONNX):
            # The reference stands beside the road: the next stage reads what it was made from.
            desk = dataclasses.replace(desk, reference=entry.artifact)
            source = entry.artifact if number == 0 else entry.artifact.parent
        else:
            source = entry.artifact
    return entries


def _step(
    cache: Cache, desk: Desk, name: str, place: str, stage: Stage, source: Artifact | None
) -> Entry:
    source = source or Artifact(Kind.TORCH, Path(), "nothing", digest="")
    key = key_of(stage, source, desk)
    entry = cache.find(name, key, source if source.digest else None)
    if entry is not None:
        desk.progress.say(f"[{place}] {name[3:]}: already done ({entry.seconds:.1f} s then)")
        return entry
    desk.progress.say(f"[{place}] {name[3:]} ...")
    entry = cache.make(name, key, stage, source, desk)
    desk.progress.say(f"{name[3:]}: done in {entry.seconds:.1f} s")
    return entry


def _may_ship(entries: Sequence[Entry]) -> bool:
    """A failing or undecided verdict stops the bundle; the last one counts."""
    verdicts = [v for entry in entries if (v := entry.artifact.notes.get("verdict"))]
    return not verdicts or verdicts[-1]["outcome"] == "PASS"


_REPORTS = ("report.json", "report.html", "summary.md")


def _check_place(out: Path) -> None:
    """What is the user's own and called as one of our files is not ours to replace."""
    then = "Move it away, or give another -o"
    for name in () if _has_run(out) else _REPORTS:
        if (out / name).exists():
            raise UserError("is there already and of no run", where=str(out / name), then=then)
    folder, tar = out / "bundle", out / "bundle.tar"
    ours = {folder: (folder / "manifest.json").is_file(), tar: tar.is_file() and holds_bundle(tar)}
    for there, known in ours.items():
        if there.is_symlink() or (there.exists() and not known):
            raise UserError("is there already and no bundle", where=str(there), then=then)


def _has_run(out: Path) -> bool:
    """Whether a run has reported there."""
    try:
        load_report(out / "report.json")
    except UserError:
        return False
    return True


def _sweep(out: Path) -> None:
    """Take away what a run that was killed while it wrote its results left beside them."""
    for name in ("bundle", "bundle.tar", *_REPORTS):
        for left in out.glob(f".{name}.*"):
            shutil.rmtree(left, ignore_errors=True)


def _publish(entries: Sequence[Entry], out: Path) -> dict[str, str]:
    """Copy the bundle to where a person looks for it; an older one does not stay behind."""
    files = {
        "report": "report.html",
        "summary": "summary.md",
        "data": "report.json",
        "stages": "stages",
    }
    for old in (out / "bundle", out / "bundle.tar"):
        if old.is_dir():
            shutil.rmtree(old)
        old.unlink(missing_ok=True)
    last = entries[-1].artifact
    if last.kind is Kind.BUNDLE:
        name = "bundle" if last.path.is_dir() else "bundle.tar"
        with writing(out / name) as temporary:
            copy = shutil.copytree if last.path.is_dir() else shutil.copyfile
            copy(last.path, temporary)
        files["bundle"] = name
    return files


def _source(recipe: Recipe, folder: Path) -> Source:
    """The model as it came, its paths found; torch is imported only where the model is torch's."""
    model = recipe.model
    if model.onnx is not None:
        return OnnxSource(str(locate(model.onnx, "model.onnx", folder)))
    if importlib.util.find_spec("torch") is None:
        raise needs_extra("a model with 'build'", "torch", "torch")
    place, _, function = str(model.build).rpartition(":")
    if not place:
        what = f"expected FILE.py:FUNCTION or MODULE:FUNCTION, got '{model.build}'"
        raise UserError(what, where="model.build")
    if place.endswith(".py"):
        place = str(locate(place, "model.build", folder))
    weights = str(locate(model.weights, "model.weights", folder)) if model.weights else None
    made = importlib.import_module("deploypipe.stages._torch_source").TorchSource(
        build=f"{place}:{function}", args=dict(model.args), weights=weights, seed=recipe.seed
    )
    assert isinstance(made, Source)
    return made


def _exporter(steps: Sequence[Step]) -> Stage:
    """The reference is exported as the recipe exports, or by default."""
    found = next((step.stage for step in steps if step.name == "export"), None)
    return found or STAGES.build("export", "reference")


def _check_packages(steps: Sequence[Step]) -> None:
    for step in steps:
        for module in step.stage.needs:
            if importlib.util.find_spec(module) is None:
                raise needs_extra(f"step '{step.name}'", module, EXTRA_OF.get(module, module))


_NEXT = {
    Kind.TORCH: "An export step goes from torch to onnx",
    Kind.ONNX: "Move it before the export step",
    Kind.BUNDLE: "Move it before the bundle step",
}
"""What to do with a step that cannot take what there is."""


def _check_chain(steps: Sequence[Step], kind: Kind) -> None:
    """Every step takes what the one before gives; what only the end can do stands at the end."""
    judged = False
    for step in steps:
        if step.stage.takes is not kind:
            raise UserError(
                f"'{step.name}' takes a {step.stage.takes} model, but gets {kind}",
                where=step.where,
                then=_NEXT[kind],
            )
        if step.name == "bundle" and not judged:
            raise UserError(
                "a bundle carries its verdict",
                where=step.where,
                then="Put a validate step right before it",
            )
        judged = step.name == "validate"  # a step after it would ship what nobody judged
        kind = step.stage.gives
