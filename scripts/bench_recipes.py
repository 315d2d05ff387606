"""The recipes' figures, and beside them what ONNX Runtime's own quantizer makes of the original.

Runs a recipe (finished stages are taken from its folder), then times and scores these in one
interleaved run, on the same samples:

    original                      the exported fp32 model
    onnxruntime quantize_static   U8S8 and per channel, as its documents advise; the rest default
    without space-to-depth        ours without the passes slice-pad-to-conv and space-to-depth
    deploypipe                    what the recipe ships

    python scripts/bench_recipes.py [--quick] [digits] [cifar10]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

import deploypipe
from deploypipe.core.artifact import Kind
from deploypipe.core.errors import one_paragraph
from deploypipe.core.files import write_text
from deploypipe.core.progress import for_stderr
from deploypipe.data import Data
from deploypipe.graph import PASSES
from deploypipe.pipeline import Plan, Result
from deploypipe.runtime import host
from deploypipe.stages import Desk
from deploypipe.validate.accuracy import compare_accuracy, record
from deploypipe.validate.drift import measure_drift
from deploypipe.validate.feeds import sample_feeds
from deploypipe.validate.files import opener
from deploypipe.validate.interleave import Pace
from deploypipe.validate.latency import time_many

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "scripts" / "results"
RECIPES = {"digits": "models/digits_resnet20.yaml", "cifar10": "models/cifar10_resnet56.yaml"}
LAYOUT = ("slice-pad-to-conv", "space-to-depth")
QUICK = ["steps.train.epochs=3", "steps.distill.epochs=3", "steps.validate.seconds=6"]


class Reader(CalibrationDataReader):
    """The calibration split, one sample at a time."""

    def __init__(self, data: Data) -> None:
        self.feeds = (batch.inputs for batch in data.split("calibration").batches(1))

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.feeds, None)


def peer(result: Result, planned: Plan, folder: Path) -> Path:
    """onnxruntime.quantization's file of the original."""
    path = folder / "peer.onnx"
    reference = next(e.artifact for e in result.entries if e.artifact.made_by == "export")
    quantize_static(
        str(reference.path),
        str(path),
        Reader(planned.data),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return path


def without_packing(result: Result, planned: Plan, folder: Path) -> Path:
    """Ours from the same export and with the same options, but for the two layout passes."""
    artifact = [e.artifact for e in result.entries if e.artifact.made_by == "export"][-1]
    stages = {step.name: step.stage for step in planned.steps}
    plain = [one for one in stages["optimize"].also if PASSES.name_of(one) not in LAYOUT]
    stages["optimize"] = dataclasses.replace(stages["optimize"], also=tuple(plain))
    for name in ("optimize", "quantize"):
        out = folder / name / "artifact"
        out.mkdir(parents=True)
        desk = Desk(out, planned.data, None, planned.target, planned.recipe.seed, for_stderr())
        artifact = stages[name].run(artifact, desk)
    return artifact.path


def rows(name: str, planned: Plan, result: Result, seconds: float) -> list[dict[str, object]]:
    """One row per experiment, method and metric."""
    onnx = [e.artifact for e in result.entries if e.artifact.kind is Kind.ONNX]
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        files = {
            "original": onnx[0].path,
            "onnxruntime quantize_static": peer(result, planned, folder),
            "without space-to-depth": without_packing(result, planned, folder),
            "deploypipe": onnx[-1].path,
        }
        return [*measure(name, planned, files, seconds), *duration(name, planned, result)]


def duration(name: str, planned: Plan, result: Result) -> list[dict[str, object]]:
    """What the recipe's stages took, each in the run that did it, without opening the program."""
    total = round(sum(entry.seconds for entry in result.entries), 1)
    same = {"experiment": name, "method": "deploypipe", "metric": "stages_seconds"}
    return [{**same, "value": total, "seconds": total, "seed": planned.recipe.seed}]


def measure(
    name: str, planned: Plan, files: dict[str, Path], seconds: float
) -> list[dict[str, object]]:
    split = planned.data.split("validation")
    start = time.monotonic()
    openers = {method: opener(planned.target, path) for method, path in files.items()}
    timings = time_many(openers, sample_feeds(split), Pace(9, budget_seconds=seconds))
    found: list[dict[str, object]] = []
    records = {}
    spent = round(time.monotonic() - start, 1)  # all methods take turns in one measurement
    for method, path in files.items():
        with planned.target.open(path) as session:
            records[method] = record(session, split)
        accuracy = compare_accuracy(records["original"], records[method])
        ratio = timings[method].ratio
        values = {
            "bytes": path.stat().st_size,
            "accuracy_percent": 100 * records[method].value,
            "drop_points": accuracy.drop.value,
            "p50_ms": timings[method].measurement.p50,
            "speedup": 1 / ratio.value if ratio else 1.0,
            "speedup_low": 1 / ratio.high if ratio else 1.0,
            "speedup_high": 1 / ratio.low if ratio else 1.0,
            "sqnr_db": measure_drift(records["original"], records[method]).sqnr_db,
        }
        finite = {key: value for key, value in values.items() if np.isfinite(value)}
        found += [
            {
                "experiment": name,
                "method": method,
                "metric": metric,
                "value": float(value),
                "seconds": spent,
                "seed": planned.recipe.seed,
            }
            for metric, value in finite.items()
        ]
    return found


def table(found: list[dict[str, object]]) -> str:
    """Markdown."""
    cells = {(r["experiment"], r["method"], r["metric"]): r["value"] for r in found}
    lines = [
        "| | bytes | smaller | accuracy | p50 ms | faster (99 % interval) |",
        "|---|---|---|---|---|---|",
    ]
    for experiment, method in dict.fromkeys((r["experiment"], r["method"]) for r in found):
        one = {
            metric: value
            for (e, m, metric), value in cells.items()
            if (e, m) == (experiment, method)
        }
        first = cells[experiment, "original", "bytes"]
        lines.append(
            f"| {experiment}: {method} | {one['bytes']:,.0f} | {first / one['bytes']:.1f}x "
            f"| {one['accuracy_percent']:.2f} % | {one['p50_ms']:.3f} "
            f"| {one['speedup']:.2f}x ({one['speedup_low']:.2f} to {one['speedup_high']:.2f}) |"
        )
    took = [
        f"{experiment} {value:,.0f} s"
        for (experiment, _, metric), value in cells.items()
        if metric == "stages_seconds"
    ]
    return "\n".join([*lines, "", f"All stages of the recipe together: {', '.join(took)}."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", default=["digits"], help="digits, cifar10")
    parser.add_argument("--quick", action="store_true", help="digits with few epochs, kept nowhere")
    given = parser.parse_args()
    for name in ["digits"] if given.quick else given.names:
        recipe = Path(RECIPES[name])
        changes = QUICK if given.quick else ()
        planned = deploypipe.plan(ROOT / recipe, changes)
        out = ROOT / "out" / (f"{name}-quick" if given.quick else name)
        printed = run_as_a_user(recipe, out, changes)
        result = deploypipe.run(planned, out, for_stderr(), printed.partition("\n")[0][2:])
        found = rows(name, planned, result, 8 if given.quick else 60)
        print(table(found))
        if not given.quick:
            keep(name, printed, found)


def run_as_a_user(recipe: Path, out: Path, changes: Sequence[str]) -> str:
    """The command and what it prints; finished stages are taken from ``out``."""
    words = ["run", str(recipe), "-o", str(out.relative_to(ROOT))]
    words += [word for change in changes for word in ("--set", change)]
    done = subprocess.run(
        [sys.executable, "-m", "deploypipe.cli", *words],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1, 3):
        sys.exit(done.returncode)
    return f"$ {shlex.join(['deploypipe', *words])}\n{done.stdout}"


def keep(name: str, printed: str, found: list[dict[str, object]]) -> None:
    """Keep what the recipe printed, and the measurements with the machine that made them."""
    text = {
        "environment": host(),
        "command": f"python scripts/bench_recipes.py {name}",
        "rows": found,
    }
    write_text(RESULTS / f"recipes_{name}.json", json.dumps(text, indent=1) + "\n")
    write_text(RESULTS / f"recipes_{name}.txt", printed)


if __name__ == "__main__":
    with one_paragraph():
        main()
