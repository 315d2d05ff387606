"""The pipeline's verbs one at a time, on files: what the command line and scripts call.

Every function writes its output whole or not at all, touches none of its inputs, and returns plain
JSON that says what it did.
"""

from __future__ import annotations

import importlib
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from deploypipe.bundle.pack import pack
from deploypipe.bundle.verify import verify
from deploypipe.core import shelf
from deploypipe.core.artifact import Artifact, Kind
from deploypipe.core.errors import UserError
from deploypipe.core.files import Json, writing
from deploypipe.core.options import check
from deploypipe.core.progress import Progress, Silent
from deploypipe.data import Data, Preprocess, Split, open_data, open_samples
from deploypipe.graph.evidence import summary, write_evidence
from deploypipe.graph.files import data_files, load, save
from deploypipe.graph.output import check_output
from deploypipe.graph.passes.drop_dead_channels import DropDeadChannels
from deploypipe.graph.stats import stats
from deploypipe.pipeline import plan
from deploypipe.recipe import read_recipe
from deploypipe.runtime import TARGETS, Target
from deploypipe.stages import STAGES, Desk, Stage
from deploypipe.stages._batch import batch_of
from deploypipe.stages.bundle import Bundle
from deploypipe.stages.validate import RECORDS
from deploypipe.validate.alone import alone
from deploypipe.validate.experiment import Plan
from deploypipe.validate.feeds import random_feeds
from deploypipe.validate.file_experiment import time_one
from deploypipe.validate.files import compare_file_latency
from deploypipe.validate.interleave import Pace
from deploypipe.validate.judge_latency import decision_of, speedup_check
from deploypipe.validate.looks import Looks
from deploypipe.validate.same_samples import data_digest, judged_against
from deploypipe.validate.subject import is_code
from deploypipe.validate.verdict import Budget, Outcome
from deploypipe.validate.workers import Crash
from deploypipe.witness.check import check_channels


@dataclass(frozen=True)
class Settings:
    """What most verbs need: samples, a target and where progress goes.

    ``data`` is a recipe (``.yaml``), whose ``data`` and ``plugins`` are taken, or
    ``source:argument``, all of which then serves both to calibrate and to validate; with
    ``calibration``, so many of its samples are only for calibration and never validated on.
    ``samples`` limits the split that a verb uses: calibration to quantize, else validation.
    """

    data: object = None
    samples: int | None = None
    target: object = "cpu"
    progress: Progress | None = None
    calibration: int | None = None

    def open_data(self, use: str = "validation") -> Data | None:
        """The samples, or None where none were given; ``use`` is the split that is limited.

        Raises:
            UserError: there are not so many samples, or the data are wrong.
        """
        if self.data is None:
            return None
        if isinstance(self.data, str) and self.data.endswith((".yaml", ".yml")):
            return self._of_recipe(Path(self.data), use)
        apart = self.calibration or 0
        how: dict[str, Any] = {"calibration": apart, "progress": self.progress}
        return open_samples(self.data, samples=self.samples, **how)

    def need_data(self, use: str = "validation") -> Data:
        """The samples, as :meth:`open_data` gives them.

        Raises:
            UserError: none were given.
        """
        data = self.open_data(use)
        if data is None:
            raise UserError("samples are needed", where="--data", then="Give source:argument")
        return data

    def _of_recipe(self, file: Path, use: str) -> Data:
        data = open_data(read_recipe(file).data, "data", file.absolute().parent, self.progress)
        own = self.calibration if use == "calibration" else None
        limit = self.samples if own is None else own
        if limit is None:
            return data
        return replace(data, splits={**data.splits, use: data.split(use).first(limit)})

    def open_target(self) -> Target:
        """The target, from its spec."""
        return TARGETS.build(self.target, "--target")

    def desk(self, data: Data) -> Desk:
        """What a stage leans on; it has nowhere to write yet, and no reference."""
        return Desk(Path(), data, None, self.open_target(), 0, self.progress or Silent())


def optimize_model(
    file: Path,
    out: Path,
    settings: Settings,
    passes: Sequence[object] | None = None,
    plugins: Sequence[Path] = (),
    certificate: Path | None = None,
) -> Json:
    """Run graph passes; the outputs are compared on the samples, or on random inputs.

    ``certificate`` is a folder for the certificates of removed channels, with the models on both
    sides of each removal.
    """
    for plugin in plugins:
        shelf.load_plugins(plugin, "--plugin")
    data = settings.open_data()  # with the plug-ins of its recipe
    given = {} if passes is None else {"passes": list(passes)}
    stage: Any = STAGES.build({"optimize": given}, "")
    before = _bytes(file)
    _apart(file, out)
    target = settings.open_target()
    feeds = _feeds(file, data.split("validation")) if data else None
    outcome = stage.apply(file, feeds, target)
    kept = [] if certificate is None else write_evidence(outcome.evidence, certificate)
    changes = [*outcome.changes, *summary(outcome.evidence)]
    outcome.evidence.clear()
    save(outcome.model, out)
    return {
        "output": str(out),
        **({"certificates": [str(place) for place in kept]} if kept else {}),
        "bytes": {"before": before, "after": _bytes(out)},
        "changes": changes,
        "refusals": outcome.refusals,
    }


def quantize_model(
    file: Path, out: Path, settings: Settings, options: Mapping[str, Json] | None = None
) -> Json:
    """Quantize to int8 with the samples as calibration data, or by a method that needs none.

    ``data`` of the answer holds notes on them, such as that validation has the same ones.
    """
    stage: Any = STAGES.build({"quantize": dict(options or {})}, "")
    needed = stage.method.needs_samples
    data = settings.need_data("calibration") if needed else Data({}, {}, Preprocess(), None, [])
    stage.work(data)
    _apart(file, out)
    made = _one_stage(stage, onnx_artifact(file), out, data, settings)
    return {
        "output": str(out),
        "bytes": {"before": _bytes(file), "after": _bytes(out)},
        "changes": made["changes"],
        "refusals": made["refusals"],
        "data": list(data.notes),
        "notes": {key: value for key, value in made.items() if key not in ("changes", "refusals")},
    }


def validate_models(
    reference: Path,
    candidate: Path,
    settings: Settings,
    budget: Mapping[str, float] | None = None,
    options: Mapping[str, Json] | None = None,
    records: Path | None = None,
    baseline: Path | None = None,
) -> Json:
    """Compare two files: accuracy, latency, drift, verdict; the sections of a report.

    ``data.notes`` say so, to the progress as well, where calibration has the same samples.
    ``records`` is where to keep what both answered, sample by sample.  ``baseline`` is a report or
    records of an earlier comparison: with other samples than then the verdict is undecided.
    """
    limits = check(Budget, dict(budget or {}), "--budget")
    before = None if baseline is None else data_digest(baseline)
    data = settings.need_data()
    stage = STAGES.build({"validate": dict(options or {})}, "")
    stage.work(data)
    desk = settings.desk(data)
    with tempfile.TemporaryDirectory() as folder:
        desk = replace(
            desk,
            out=Path(folder),
            reference=onnx_artifact(reference, "reference"),
            budget=limits.model_dump(mode="json"),
        )
        made = stage.run(onnx_artifact(candidate, "candidate"), desk)
        kept = Path(folder) / RECORDS
        if records is not None and kept.is_file():  # a candidate that crashed has answered nothing
            with writing(records) as temporary:
                shutil.copyfile(kept, temporary)
    for note in data.notes:
        desk.progress.say(f"data: {note}")
    found = {"data": data.describe(), **made.notes}
    return found if before is None else judged_against(before, found)


def bench_models(
    files: Sequence[Path],
    settings: Settings,
    *,
    batch: int = 1,
    rounds: int = 5,
    seconds: float | None = None,
    margin: float = 0.05,
) -> Json:
    """Latency of one model; of two, whether the first is at most ``margin`` slower than the second.

    A model is an ONNX file, or ``FILE.py:FUNCTION``, which builds a torch module or another
    callable.  The answer is ``not slower``, ``slower``, ``undecided``, or ``crashed`` where the
    first one ends its process.  It is looked for after ``rounds`` fresh processes, twice and four
    times as many, for at most about ``seconds``: 10 for a model below 1 ms, more for slower ones.
    """
    if seconds is not None and not 0 < seconds < math.inf:
        raise UserError(f"a time must be positive and end, got {seconds:g}", where="--seconds")
    target, data = settings.open_target(), settings.open_data()
    samples = data.split("validation") if data else None
    found: dict[str, Json] = {"files": [_subject(file) for file in files]}
    if len(files) == 2:
        plan = Plan(Looks.after(rounds), seconds)
        return {
            **found,
            "margin": margin,
            **_bench_two(files, settings, plan, samples, batch, margin),
        }
    pace = Pace(rounds, budget_seconds=seconds or 30.0)
    how: dict[str, Any] = {"samples": samples, "batch": batch, "progress": settings.progress}
    with alone():
        timing = time_one(found["files"][0], target, pace=pace, **how)
    return {**found, **timing.to_json(), "start": dict(timing.start)}


def _bench_two(
    files: Sequence[Path],
    settings: Settings,
    plan: Plan,
    samples: Split | None,
    batch: int,
    margin: float,
) -> dict[str, Json]:
    (candidate, baseline), limit = files, 1 / (1 + margin)
    how: dict[str, Any] = {"samples": samples, "batch": batch, "progress": settings.progress}
    how |= {"plan": plan, "speedups": [limit]}
    try:
        latency = compare_file_latency(baseline, candidate, settings.open_target(), **how)
    except Crash as crash:
        check = speedup_check(crash, limit)
        answer = "crashed" if check.outcome is Outcome.FAIL else "undecided"
        return {"answer": answer, "why": check.why}
    check, decision = speedup_check(latency, limit), decision_of(latency, limit)
    answer = {Outcome.PASS: "not slower", Outcome.FAIL: "slower"}.get(check.outcome, "undecided")
    told = {"decision": decision.to_json()} if decision else {}
    return {"answer": answer, "why": check.why, **latency.to_json(), **told}


def _subject(file: Path) -> str:
    return str(file) if is_code(file) else str(onnx_artifact(file).path)


def export_model(
    source: str,
    out: Path,
    settings: Settings,
    *,
    weights: Path | None = None,
    args: Mapping[str, Json] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Json:
    """Export a torch model: a recipe's, or ``FILE.py:FUNCTION`` with samples or input shapes.

    A recipe's model is exported as it came, for the recipe's target; ``changes`` name the steps
    before the export that were not run.
    """
    if source.endswith((".yaml", ".yml")):
        return _export_recipe(Path(source), out, settings)
    torch_source = importlib.import_module("deploypipe.stages._torch_source").TorchSource
    place, _, function = source.rpartition(":")
    check_output(out, [Path(place), *([weights] if weights else [])])
    build = f"{Path(place).absolute()}:{function}" if place.endswith(".py") else source
    first = torch_source(build, dict(args or {}), str(weights) if weights else None)
    with tempfile.TemporaryDirectory() as folder:
        data = settings.open_data() or _random_data(shapes, Path(folder))
        first.try_out(data, settings.open_target())
        return _export(first, STAGES.build("export"), out, data, settings)


def _export_recipe(file: Path, out: Path, settings: Settings) -> dict[str, Json]:
    check_output(out, [file])
    planned = plan(file)
    if planned.source.kind is not Kind.TORCH:
        raise UserError("the recipe's model is an ONNX file already", where=str(file))
    found = next((step.stage for step in planned.steps if step.name == "export"), None)
    stage = found or STAGES.build("export")
    settings = replace(settings, target=planned.target)
    made = _export(planned.source, stage, out, planned.data, settings)
    skipped = [step.name for step in planned.steps if step.stage.gives is Kind.TORCH]
    if not skipped:
        return made
    told = f"not run: the recipe's {', '.join(skipped)}; this is the model as it came"
    return {**made, "changes": [*made["changes"], told]}


def _export(
    source: Stage, stage: Stage, out: Path, data: Data, settings: Settings
) -> dict[str, Json]:
    with tempfile.TemporaryDirectory() as folder:
        desk = replace(settings.desk(data), out=Path(folder))
        made = source.run(Artifact(Kind.TORCH, Path(), "nothing"), desk)
        notes = _one_stage(stage, made, out, data, settings)
    return {"output": str(out), "bytes": _bytes(out), **notes}


def inspect_model(file: Path, settings: Settings) -> Json:
    """What is in a file: interface, sizes, MACs, dead channels, share of int8, where nodes run."""
    model, counted = load(file), stats(load(file))
    block = settings.open_target().channel_block
    dead = DropDeadChannels(block, prove=False).call(load(file))
    opsets = {domain or "ai.onnx": version for domain, version in model.graph.opset_imports.items()}
    with settings.open_target().open(file, profile=True) as session:
        inputs, outputs = session.inputs, session.outputs
        ones = {s.name: [d if isinstance(d, int) else 1 for d in s.shape] for s in inputs}
        session(random_feeds(inputs, count=1, shapes=ones)[0])
        placed = session.placement()
    return {
        "file": str(file),
        "bytes": _bytes(file),
        "inputs": [str(spec) for spec in inputs],
        "outputs": [str(spec) for spec in outputs],
        "opsets": opsets,
        "parameters": counted.parameters,
        "macs": counted.macs,
        "macs_unknown": counted.why,
        "nodes": counted.nodes,
        "ops": dict(counted.ops),
        "int8_share_of_macs": counted.quantized,
        "dead_channels": {"removable": dead.changes, "stay": dead.refusals},
        "placement": dict(Counter(place.provider for place in placed)),
        "kernels": dict(sorted(Counter(place.op for place in placed).items())),
    }


def pack_model(file: Path, out: Path, settings: Settings, name: str | None = None) -> Json:
    """Bundle a model with golden answers on the samples; it carries no verdict."""
    desk = replace(settings.desk(settings.need_data()), name=name or file.stem)
    pack(file, out, Bundle().content(onnx_artifact(file), desk))
    return {"output": str(out)}


def verify_bundle(bundle: Path, settings: Settings) -> Json:
    """Re-check every hash and golden answer of a bundle."""
    return {"bundle": str(bundle), "checked": verify(bundle, settings.open_target().open)}


def verify_channels(
    before: Path, after: Path, certificate: Path, sizes: Mapping[str, int] | None = None
) -> Json:
    """Re-derive every claim of a channel certificate; ``sizes`` binds names of dynamic sizes."""
    checked = check_channels(before, after, certificate, sizes)
    return {"before": str(before), "after": str(after), **asdict(checked)}


def _one_stage(
    stage: Stage, source: Artifact, out: Path, data: Data, settings: Settings
) -> dict[str, Json]:
    """Run a stage beside the output and move what it made into place."""
    with tempfile.TemporaryDirectory() as folder:
        made = stage.run(source, replace(settings.desk(data), out=Path(folder)))
        extra = [file for file in made.path.parent.iterdir() if file != made.path]
        if extra:  # external data are named after the model's file
            save(load(made.path), out)
        else:
            with writing(out) as temporary:
                shutil.copyfile(made.path, temporary)
    return dict(made.notes)


def onnx_artifact(file: Path, made_by: str = "file") -> Artifact:
    """A model's file as an artifact.

    Raises:
        UserError: there is no such file, or it is a torch model, which has to be exported first.
    """
    if not Path(file).is_file():
        then = f"Export it first: deploypipe export {file} -o {made_by}.onnx --data SPEC"
        raise UserError("no such model file", where=str(file), then=then if is_code(file) else None)
    return Artifact.of(Kind.ONNX, Path(file), made_by, data=data_files(Path(file)).values())


def _bytes(file: Path) -> int:
    """Bytes on disk of a model, external data included."""
    return sum(path.stat().st_size for path in (file, *data_files(file).values()))


def _feeds(file: Path, split: Split) -> dict[str, np.ndarray]:
    """A few samples, or as many as the model was exported for."""
    return split.batch(range(batch_of(file, split) or min(8, len(split)))).inputs


def _apart(file: Path, out: Path) -> None:
    check_output(out, [file, *data_files(file).values()])


def _random_data(shapes: Mapping[str, Sequence[int]] | None, folder: Path) -> Data:
    """Ten random samples per input, from shapes without the batch, which lie in ``folder``."""
    if not shapes:
        raise UserError(
            "the shape of the input is not known",
            where="export",
            then="Give --data source:argument, or --input image=3,32,32",
        )
    generator = np.random.default_rng(0)
    sizes = {name: (10, *shape) for name, shape in shapes.items()}
    arrays: dict[str, Any] = {
        name: generator.standard_normal(size).astype("float32") for name, size in sizes.items()
    }
    np.savez(folder / "random.npz", **arrays)
    return open_samples(f"npz:{folder / 'random.npz'}")
