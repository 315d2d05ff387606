"""The CIFAR ResNets in 8 bits: top-1, agreement with the float model, speed; ORT's beside it.

Needs DEPLOYPIPE_DATA with cifar10/*.parquet and models/*.safetensors.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from deploypipe import Settings, export_model
from deploypipe.core.errors import UserError
from deploypipe.data import Data, DataRecipe, open_data
from deploypipe.graph.files import load, save
from deploypipe.graph.passes.drop_dead_channels import DropDeadChannels
from deploypipe.quantize import CALIBRATORS, METHODS, PROFILES, Job
from deploypipe.runtime import Target
from deploypipe.runtime.targets.cpu import Cpu
from deploypipe.stages.optimize import Optimize
from deploypipe.stages.quantize import race
from deploypipe.validate.alone import alone
from deploypipe.validate.files import opener
from deploypipe.validate.interleave import Pace
from deploypipe.validate.latency import time_many

Facts = dict[str, Any]
ROOT = Path(__file__).resolve().parent.parent
NAMES = ("cifar10_resnet20", "cifar10_resnet56", "cifar10_resnet56_tuned")
FLOAT, OURS, ALL, PEER = "float", "deploypipe", "deploypipe --everything", "onnxruntime, U8S8"
WITHIN, AGREE = 0.2, 99.0
"""Points of top-1 that 8 bits may cost, and percent of the answers that are to stay."""
KEPT = f"deploypipe, least_agreement: {AGREE:.0f}"
CALIBRATION = 512


def bench(name: str, folder: Path, quick: bool = False) -> dict[str, Facts]:
    """method -> metric -> value; the models are kept in ``folder``."""
    data, target = _data(quick), Cpu(2)
    files = made(name, folder, data, target)
    labels = np.concatenate([b.labels for b in data.split("validation").batches(100)])
    facts, answers = dict[str, Facts](), dict[str, np.ndarray]()
    for method, path in files.items():
        answers[method] = _answers(path, data, target)
        right = answers[method] == labels
        same = answers[method] == answers[FLOAT]
        facts[method] = {
            "bytes": path.stat().st_size,
            "top1": 100 * float(right.mean()),
            "agreement": 100 * float(same.mean()),
            "lost": int((~right & (answers[FLOAT] == labels)).sum()),
            "won": int((right & (answers[FLOAT] != labels)).sum()),
        }
    feeds = [batch.inputs for batch in data.split("validation").batches(1, 4)]
    with alone():
        openers = {method: opener(target, path) for method, path in files.items()}
        seconds = 5.0 if quick else 30.0
        pace = Pace(5, blocks=24, budget_seconds=seconds, slot_seconds=0.002)
        timings = time_many(openers, feeds, pace)
    for method, timing in timings.items():
        facts[method]["p50_ms"] = timing.measurement.p50
        facts[method]["speedup"] = 1 / timing.ratio.value if timing.ratio else 1.0
    return facts


def made(name: str, folder: Path, data: Data, target: Target) -> dict[str, Path]:
    """The float model, ours as it ships, with a floor, with all in 8 bits, and ORT's static int8."""
    source = folder / f"{name}.onnx"
    weights = _folder() / "models" / f"{name}.safetensors"
    build = f"{ROOT / 'models' / 'resnet_cifar.py'}:{name.split('_')[1]}"
    export_model(build, source, Settings(), weights=weights, shapes={"image": (3, 32, 32)})
    model = load(source)
    for one in Optimize().passes:
        if not isinstance(one, DropDeadChannels):  # there are none, and the proof takes its time
            model = one.call(model).model
    kinds = (FLOAT, OURS, KEPT, ALL, PEER)
    files = {kind: folder / f"{name}.{i}.onnx" for i, kind in enumerate(kinds)}
    save(model, files[FLOAT])
    for kind in (OURS, KEPT, ALL):
        least = AGREE if kind == KEPT else None
        save(_quantized(model, data, target, kind != ALL, least), files[kind])
    _peer(source, files[PEER], data)
    return files


def _quantized(
    model: ir.Model, data: Data, target: Target, decide: bool, least: float | None
) -> ir.Model:
    feeds = (batch.inputs for batch in data.split("calibration").batches(16))
    job = Job(target, CALIBRATORS.build("auto"), PROFILES.build("cpu"), feeds=feeds)
    job = replace(
        job, samples=CALIBRATION, race=race(target) if decide else None, least_agreement=least
    )
    return METHODS.build("static").quantize(model, job).model


def _peer(source: Path, result: Path, data: Data) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds: Iterator[dict[str, np.ndarray]] = (
                batch.inputs for batch in data.split("calibration").batches(1)
            )

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.feeds, None)

    ready = result.with_suffix(".ready.onnx")
    quant_pre_process(str(source), str(ready))
    quantize_static(
        str(ready),
        str(result),
        Reader(),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def _answers(path: Path, data: Data, target: Target) -> np.ndarray:
    """int64 [samples]: the class that the model gives each validation image."""
    with target.open(path) as session:
        found = [
            next(iter(session(batch.inputs).values())).argmax(1)
            for batch in data.split("validation").batches(100)
        ]
    return np.concatenate(found)


def _data(quick: bool) -> Data:
    source = {part: f"parquet:{_folder() / 'cifar10' / part}.parquet" for part in PARTS}
    recipe = DataRecipe.model_validate(
        {
            "source": source["train"],
            "validation": source["validation"],
            "split": {"calibration": CALIBRATION},
            "preprocess": {
                "size": 32,
                "channels": 3,
                "mean": [0.485, 0.456, 0.406],
                "std": [0.229, 0.224, 0.225],
            },
        }
    )
    data = open_data(recipe)
    if not quick:
        return data
    few = data.split("validation").first(500)
    return replace(data, splits={**data.splits, "validation": few})


PARTS = ("train", "validation")


def _folder() -> Path:
    folder = os.environ.get("DEPLOYPIPE_DATA")
    if folder is None:
        raise UserError("DEPLOYPIPE_DATA names no folder", then="It is to hold cifar10 and models")
    return Path(folder)


def missed(name: str, found: dict[str, Facts]) -> list[str]:
    """A sentence for every bar that a model of ours misses."""
    lines, plain = [], found[FLOAT]["top1"]
    for kind in (OURS, KEPT, ALL):
        one = found[kind]
        if plain - one["top1"] > WITHIN:
            lines.append(f"{name}: {kind}: top-1 {one['top1']:.2f} %, {plain:.2f} % in float")
        if one["agreement"] < AGREE:
            lines.append(f"{name}: {kind}: {one['agreement']:.2f} % of the answers stay")
    return [f"bar missed: {line}" for line in lines]


def table(found: dict[str, dict[str, Facts]]) -> str:
    """Markdown: a line for each model and method."""
    lines = [
        "| CIFAR-10, 5,000 images | kB | top-1 | same answer | faster than float |",
        "|---" * 5 + "|",
    ]
    for name, methods in found.items():
        for method, one in methods.items():
            lines.append(
                f"| {name.removeprefix('cifar10_')}: {method} | {one['bytes'] / 1e3:.0f} | "
                f"{one['top1']:.2f} % | {one['agreement']:.2f} % | {one['speedup']:.2f}x |"
            )
    return "\n".join(lines)
