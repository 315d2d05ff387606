"""What a plan will cost: counted work times a pace measured on one real batch.

    seconds = trained * s(train) + forwarded * s(forward) + answered * s(forward) + fixed

The pace is measured on this machine, in a few seconds, on the model and the samples of the recipe.
Memory is that of this process with the libraries of the recipe in it, and what training holds
(weights, gradients, momentum, teacher, activations of one batch), or for ONNX models three times the
file.
"""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploypipe.core.artifact import Kind
from deploypipe.core.files import Json
from deploypipe.core.options import values_of
from deploypipe.pipeline import Plan
from deploypipe.recipe import Step
from deploypipe.validate.memory import resident


@dataclass(frozen=True)
class Pace:
    """Seconds a sample with and without gradients; bytes of weights, of activations a sample."""

    train: float
    forward: float
    weights: int
    activations: int


def estimate(planned: Plan) -> Json:
    """Every step with its options, samples, seconds and bytes; nothing is written."""
    pace = _pace(planned)
    steps = [_row(step, planned, pace) for step in planned.all_steps]
    return {
        "recipe": str(planned.file),
        "name": planned.recipe.name,
        "data": planned.data.describe(),
        "steps": steps,
        "seconds": round(sum(step["seconds"] for step in steps), 1),
        "memory": max(step["memory"] for step in steps),
    }


def _row(step: Step, planned: Plan, pace: Pace) -> dict[str, Any]:
    work = step.stage.work(planned.data)
    seconds = work.seconds + work.trained * pace.train
    seconds += (work.forwarded + work.answered) * pace.forward
    batch = getattr(step.stage, "batch", 8)
    memory = 3 * pace.weights
    if work.trained:
        memory = 4 * pace.weights + 2 * batch * pace.activations + _samples_bytes(planned)
    memory += resident("VmRSS") or 0
    return {
        "step": step.name,
        "takes": str(step.stage.takes),
        "gives": str(step.stage.gives),
        "options": values_of(step.stage),
        "samples": dict(work.samples),
        "seconds": round(seconds, 1),
        "memory": int(memory),
    }


def _samples_bytes(planned: Plan) -> int:
    """Decoded training images are kept as bytes."""
    split = planned.data.split("train")
    one = next(iter(split.batch([0]).inputs.values()))
    return len(split) * int(one.size)


def _pace(planned: Plan) -> Pace:
    if planned.source.kind is Kind.ONNX:
        return _onnx_pace(planned)
    split = planned.data.split("validation")
    count = min(64, max(2, len(split)))  # one alone has no batch norm
    feeds = split.batch([i % len(split) for i in range(count)]).inputs
    measure = importlib.import_module("deploypipe.compress.pace").measure
    source: Any = planned.source
    bf16 = any(getattr(step.stage, "half", False) for step in planned.steps)
    return Pace(*measure(source.model().module, feeds, bf16))


def _onnx_pace(planned: Plan) -> Pace:
    source: Any = planned.source
    split = planned.data.split("validation")
    count = source.batch(split, planned.target)
    feeds = split.batch(range(count)).inputs
    with planned.target.open(Path(source.file)) as session:
        session(feeds)
        start = time.perf_counter()
        session(feeds)
        each = (time.perf_counter() - start) / count
    return Pace(0.0, each, Path(source.file).stat().st_size, 0)
