"""Calibration: seconds and memory of ours, of ONNX Runtime's, and of running the images at all.

Every method is a process of its own on the same images (224 px, one by one, two threads):

    inference     the float model runs them; nothing is looked at
    deploypipe    observed once, then ranges by each calibrator from what was counted
    onnxruntime   MinMax, Percentile and Entropy of onnxruntime.quantization (compute_data)

Memory is the most that the process held, beyond what plain inference of the same model holds.

    python scripts/bench_calibration.py [--quick] [--models NAME ...] [--images 256]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from bench_channels import call, exported
from channel_jobs import peak_bytes
from result_rows import Facts, Row, by_experiment, keep, one_row

from deploypipe.core.errors import one_paragraph

ROOT = Path(__file__).resolve().parent.parent
THREADS = 2
CALIBRATORS = ("mse", "percentile", "entropy")
MODELS, HUNGRY = ("mobilenet_v2", "resnet50", "vit_b_16"), ("resnet50", "vit_b_16")
"""Models, and those of which the peers' histograms would hold more than this machine has."""

INFERENCE, OURS = "inference", "deploypipe"
PEERS = ("onnxruntime MinMax", "onnxruntime Percentile", "onnxruntime Entropy")
FASTER, TIMES, MORE_BYTES = 10.0, 3.0, 300_000_000
"""Ours over Percentile and Entropy; ours in times of inference; memory beyond inference."""

Feeds = dict[str, np.ndarray]


def feeds(model: Path, count: int) -> Iterator[Feeds]:
    """Images one by one; made as they are needed, so that none are held."""
    import onnx
    from bench_quantize import images

    name = onnx.load(model, load_external_data=False).graph.input[0].name
    for start in range(0, count, 16):
        block = images(min(16, count - start), 224, start)
        for i in range(len(block)):
            yield {name: block[i : i + 1]}


def inference(model: Path, count: int) -> Facts:
    """The float model alone."""
    from deploypipe.runtime.targets.cpu import Cpu

    images = list(feeds(model, count))
    began = time.perf_counter()
    with Cpu(THREADS).open(model) as session:
        for one in images:
            session(one)
    return {"seconds": time.perf_counter() - began}


def ours(model: Path, count: int) -> Facts:
    """Observe once; then every calibrator from the same counts."""
    from deploypipe.graph.files import load
    from deploypipe.quantize import CALIBRATORS as SHELF
    from deploypipe.quantize import PROFILES
    from deploypipe.quantize.observe import observe
    from deploypipe.quantize.placement import place
    from deploypipe.quantize.units import find_units
    from deploypipe.runtime.targets.cpu import Cpu

    images = list(feeds(model, count))
    began = time.perf_counter()
    loaded, profile = load(model), PROFILES.build("cpu").resolve()
    placement = place(loaded, find_units(loaded, profile))
    tensors = sorted(set(placement.roots.values()))
    floored = {unit.output for unit in placement.units if unit.low >= 0}
    seen = observe(loaded, tensors, iter(images), Cpu(THREADS), floored=floored)
    facts = {"observe_seconds": time.perf_counter() - began}
    slowest = 0.0
    for name in CALIBRATORS:
        started = time.perf_counter()
        for histogram in seen.histograms.values():
            SHELF.build(name).range(histogram)
        facts[f"{name}_seconds"] = time.perf_counter() - started
        slowest = max(slowest, facts[f"{name}_seconds"])
    return {**facts, "seconds": facts["observe_seconds"] + slowest, "tensors": len(tensors)}


def theirs(model: Path, count: int, method: str) -> Facts:
    """onnxruntime's calibrator alone, as quantize_static sets it up."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.images = iter(list(feeds(model, count)))

        def get_next(self) -> Feeds | None:
            return next(self.images, None)

    reader = Reader()
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        calibrator = create_calibrator(
            model,
            None,
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=CalibrationMethod[method],
        )
        calibrator.collect_data(reader)
        calibrator.compute_data()
        return {"seconds": time.perf_counter() - began}


JOBS: dict[str, Callable[[Path, int], Facts]] = {
    INFERENCE: inference,
    OURS: ours,
    **{peer: lambda m, n, peer=peer: theirs(m, n, peer.split()[1]) for peer in PEERS},
}


def bench(name: str, given: argparse.Namespace) -> list[Row]:
    """All methods on one model."""
    path = given.cache / f"{name}.onnx"
    if reason := exported(name, path, given.limit):
        return [one_row(name, INFERENCE, "reason", reason, 0.0)]
    rows = []
    for method in JOBS:
        if method in PEERS[1:] and name in HUNGRY:
            continue
        job = [sys.executable, __file__, "--job", method, "--model", path]
        facts = call([*job, "--images", given.images], given.limit)
        print(name, method, facts, file=sys.stderr, flush=True)
        rows += [one_row(name, method, k, v, facts.get("seconds", 0.0)) for k, v in facts.items()]
    return rows


def table(rows: list[Row]) -> str:
    """Markdown."""
    lines = ["| calibration | seconds | of plain inference | more memory |", "|---|---|---|---|"]
    for model, methods in by_experiment(rows).items():
        plain = methods.get(INFERENCE, {})
        for method, facts in methods.items():
            if "seconds" not in facts or "seconds" not in plain:
                lines.append(f"| {model}: {method} | {facts.get('reason', '-')} | | |")
                continue
            more = (facts["peak_bytes"] - plain["peak_bytes"]) / 1e6
            times = facts["seconds"] / plain["seconds"]
            lines.append(
                f"| {model}: {method} | {facts['seconds']:.1f} | {times:.1f}x | {more:,.0f} MB |"
            )
    return "\n".join(lines)


def missed(rows: list[Row]) -> list[str]:
    """A sentence for every bar that deploypipe misses."""
    lines = []
    for model, methods in by_experiment(rows).items():
        plain, mine = methods.get(INFERENCE, {}), methods.get(OURS, {})
        if "seconds" not in plain or "seconds" not in mine:
            lines.append(f"bar missed: {model}: {mine.get('reason', plain.get('reason'))}")
            continue
        if mine["seconds"] > TIMES * plain["seconds"]:
            lines.append(
                f"bar missed: {model}: {mine['seconds'] / plain['seconds']:.1f}x plain inference"
            )
        if mine["peak_bytes"] - plain["peak_bytes"] > MORE_BYTES:
            more = (mine["peak_bytes"] - plain["peak_bytes"]) / 1e6
            lines.append(f"bar missed: {model}: {more:,.0f} MB more than inference")
        lines += [
            f"bar missed: {model}: {peer} {methods[peer]['seconds']:.1f} s, "
            f"ours {mine['seconds']:.1f} s"
            for peer in PEERS[1:]
            if methods.get(peer, {}).get("seconds", math.inf) < FASTER * mine["seconds"]
        ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", metavar="NAME", default=MODELS)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument(
        "--quick", action="store_true", help="mobilenet_v2, 32 images; kept nowhere"
    )
    parser.add_argument("--cache", type=Path, default=ROOT / "out" / "bench_channels")
    parser.add_argument("--limit", type=float, default=1200, help="seconds for a method on a model")
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.job:
        facts = JOBS[given.job](given.model, given.images)
        print(json.dumps({**facts, "peak_bytes": peak_bytes()}))
        return
    if given.quick:
        given.models, given.images = MODELS[:1], 32
    given.cache.mkdir(parents=True, exist_ok=True)
    rows = [row for name in given.models for row in bench(name, given)]
    print(table(rows))
    print("\n".join(short := missed(rows)) or "Every bar is met.")
    if not given.quick:
        keep("calibration", "python scripts/bench_calibration.py", rows)
    sys.exit(bool(short))


if __name__ == "__main__":
    with one_paragraph():
        main()
