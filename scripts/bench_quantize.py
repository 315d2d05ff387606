"""Static int8 by deploypipe and by onnxruntime.quantization, on torchvision's models.

Each gets the exported model and prepares it in its own way (ours: `deploypipe optimize`; theirs:
quant_pre_process), and the same calibration images.  Then in one run:

    speed   all of them and the float model, optimized by us and then by the runtime, take turns
            (batch 1, two threads)
    SQNR    of the outputs against the float model's, on images that nobody was calibrated on, in dB

The weights are random, so the images need no meaning; where DEPLOYPIPE_DATA is set they are CIFAR-10's.

    python scripts/bench_quantize.py [--quick] [--models NAME ...]

Models with real weights and real samples have a table of their own (`--real`): all-MiniLM-L6-v2 on
STS-B and the CIFAR ResNets on CIFAR-10, by accuracy.  `--big` takes a model of 3 GB, for its memory.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np
import quantize_big
import quantize_cifar
import quantize_minilm
from bench_channels import CLASSIFIERS, call, exported
from quantize_jobs import METHODS, THREADS, single
from quantize_table import missed, table
from result_rows import Facts, Row, by_experiment, keep, kept, one_row

from deploypipe.core.errors import one_paragraph
from deploypipe.graph.files import load, save
from deploypipe.graph.passes.drop_dead_channels import DropDeadChannels
from deploypipe.runtime.targets.cpu import Cpu
from deploypipe.stages.optimize import Optimize
from deploypipe.validate.alone import alone
from deploypipe.validate.files import opener
from deploypipe.validate.interleave import Pace
from deploypipe.validate.latency import time_many

ROOT = Path(__file__).resolve().parent.parent
FLOAT = "float"
CALIBRATION, JUDGED = 32, 24
REAL = (quantize_minilm.NAME, *quantize_cifar.NAMES)
QUICK = ("squeezenet1_1", "mobilenet_v3_small")
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def images(count: int, size: int, seed: int) -> np.ndarray:
    """float32 [count, 3, size, size], normalised: CIFAR-10 if it is here, else random shapes."""
    folder = os.environ.get("DEPLOYPIPE_DATA")
    small = _cifar(Path(folder), count, seed) if folder else _shapes(count, seed)
    place = np.arange(size) * small.shape[1] // size
    large = small[:, place][:, :, place].astype(np.float32) / 255
    return np.ascontiguousarray(((large - MEAN) / STD).transpose(0, 3, 1, 2))


def _cifar(folder: Path, count: int, seed: int) -> np.ndarray:
    import io

    import pyarrow.parquet
    from PIL import Image

    table = pyarrow.parquet.read_table(folder / "cifar10" / "train.parquet", columns=["image"])
    chosen = np.random.default_rng(seed).choice(table.num_rows, count, replace=False)
    found = [table["image"][int(i)].as_py() for i in chosen]
    encoded = [one["bytes"] if isinstance(one, dict) else one for one in found]
    return np.stack([np.asarray(Image.open(io.BytesIO(one)).convert("RGB")) for one in encoded])


def _shapes(count: int, seed: int) -> np.ndarray:
    """Coarse random fields: neighbours are alike, as in photographs."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 8, 8, 3))
    fine = coarse.repeat(4, 1).repeat(4, 2) + rng.normal(0, 12, (count, 32, 32, 3))
    return np.clip(fine, 0, 255).astype(np.uint8)


def optimized(source: Path, result: Path) -> None:
    """The float model as `deploypipe optimize` makes it, without its search for dead channels."""
    model = load(source)
    for one in Optimize().passes:
        if not isinstance(one, DropDeadChannels):
            model = one.call(model).model
    save(model, result)


def bench_model(name: str, given: argparse.Namespace) -> list[Row]:
    """Both quantizers on one model."""
    source = given.cache / f"{name}.onnx"
    if reason := exported(name, source, given.limit):
        return [one_row(name, FLOAT, "reason", reason, 0.0)]
    with tempfile.TemporaryDirectory(dir=given.cache) as text:
        folder = Path(text)
        files = {FLOAT: folder / "float.onnx"}
        optimized(source, files[FLOAT])
        with Cpu(THREADS).open(files[FLOAT]) as session:
            spec = session.inputs[0]
        size = spec.shape[-1] if isinstance(spec.shape[-1], int) else 224
        np.savez(folder / "samples.npz", **{spec.name: images(CALIBRATION, size, 0)})
        np.savez(folder / "judged.npz", **{spec.name: images(JUDGED, size, 1)})
        facts: dict[str, Facts] = {}
        for method in METHODS:
            files[method] = folder / f"{len(files)}.onnx"
            given_file = files[FLOAT] if method == "deploypipe" else source
            job = [sys.executable, ROOT / "scripts" / "quantize_jobs.py", method, given_file]
            facts[method] = call([*job, files[method], folder / "samples.npz"], given.limit)
            if "reason" in facts[method]:
                del files[method]
        measured = measure(files, list(single(folder / "judged.npz")), given)
        for method, found in measured.items():
            facts.setdefault(method, {}).update(found)
    for method, found in facts.items():
        print(name, method, told(found), file=sys.stderr, flush=True)
    return [
        one_row(name, method, key, value, found.get("seconds", 0.0))
        for method, found in facts.items()
        for key, value in found.items()
    ]


def bench_real(name: str, given: argparse.Namespace) -> list[Row]:
    """A model with real weights, on real samples."""
    began = time.perf_counter()
    if name == quantize_minilm.NAME:
        found = quantize_minilm.bench(given.cache, given.quick)
    else:
        found = quantize_cifar.bench(name, given.cache, given.quick)
    seconds = time.perf_counter() - began
    for method, facts in found.items():
        print(name, method, facts, file=sys.stderr, flush=True)
    return [
        one_row(name, method, metric, value, seconds)
        for method, facts in found.items()
        for metric, value in facts.items()
    ]


def real(given: argparse.Namespace) -> list[str]:
    """The models with real weights: their table, and the bars that are missed."""
    rows: list[Row] = []
    for name in [name for name in given.models or REAL if name in REAL]:
        rows += bench_real(name, given)
    if not given.quick:
        named = {row["experiment"] for row in rows}
        others = [row for row in kept("quantize_real") if row["experiment"] not in named]
        rows = sorted([*others, *rows], key=lambda row: REAL.index(row["experiment"]))
        keep("quantize_real", "python scripts/bench_quantize.py --real", rows)
    print(real_table(rows))
    found = by_experiment(rows)
    return [
        line
        for name, one in found.items()
        for line in (
            quantize_minilm.missed(one)
            if name == quantize_minilm.NAME
            else quantize_cifar.missed(name, one)
        )
    ]


def real_table(rows: list[Row]) -> str:
    """Markdown: MiniLM, then the CIFAR ResNets."""
    found = by_experiment(rows)
    sentences = found.pop(quantize_minilm.NAME, None)
    tables = [] if sentences is None else [quantize_minilm.table(sentences)]
    return "\n\n".join([*tables, *([quantize_cifar.table(found)] if found else [])])


def measure(
    files: dict[str, Path], judged: list[dict[str, np.ndarray]], given: argparse.Namespace
) -> dict[str, Facts]:
    """Latency of all in turns, and the SQNR of each against the float model."""
    target, found = Cpu(THREADS), dict[str, Facts]()
    answers = {}
    for method, path in files.items():
        with target.open(path) as session:
            answers[method] = [
                np.concatenate([a.ravel() for a in session(f).values()]) for f in judged
            ]
        found[method] = {"bytes": path.stat().st_size}
    rounds, seconds = (3, 6.0) if given.quick else (5, 20.0)
    with alone():
        openers = {method: opener(target, path) for method, path in files.items()}
        pace = Pace(rounds, blocks=12, budget_seconds=seconds, slot_seconds=0.003)
        timings = time_many(openers, judged[:4], pace)
    for method, timing in timings.items():
        ratio = timing.ratio
        found[method]["p50_ms"] = timing.measurement.p50
        found[method]["speedup"] = 1 / ratio.value if ratio else 1.0
        if method != FLOAT:
            found[method]["sqnr_db"] = sqnr(answers[FLOAT], answers[method])
    return found


def sqnr(expected: list[np.ndarray], given: list[np.ndarray]) -> float:
    """10 log10 of the signal's power over that of the difference."""
    power = sum(float(np.sum(np.float64(a) ** 2)) for a in expected)
    pairs = zip(expected, given, strict=True)
    noise = sum(float(np.sum((np.float64(a) - b) ** 2)) for a, b in pairs)
    return 10 * math.log10(power / noise) if noise else math.inf


def big(given: argparse.Namespace) -> bool:
    """A model of 3 GB; whether it misses its bar."""
    rows = quantize_big.bench(given.cache)
    keep("quantize_big", "python scripts/bench_quantize.py --big", rows)
    short = quantize_big.missed(rows)
    print("\n".join([quantize_big.sentence(rows), *short]))
    return bool(short)


def told(facts: Facts) -> str:
    """A line of the log."""
    keys = ("p50_ms", "speedup", "sqnr_db", "winner", "seconds", "reason", "times")
    return ", ".join(
        f"{key} {facts[key]:.3g}" if isinstance(facts[key], float) else f"{key} {facts[key]}"
        for key in keys
        if key in facts
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", metavar="NAME")
    parser.add_argument("--real", action="store_true", help=", ".join(REAL))
    parser.add_argument("--big", action="store_true", help="a model of 3 GB")
    parser.add_argument("--quick", action="store_true", help=f"{', '.join(QUICK)}; kept nowhere")
    parser.add_argument("--cache", type=Path, default=ROOT / "out" / "bench_channels")
    parser.add_argument("--limit", type=float, default=900, help="seconds for a method on a model")
    given = parser.parse_args()
    given.cache.mkdir(parents=True, exist_ok=True)
    if given.big:
        sys.exit(big(given))
    rows: list[Row] = []
    given.real |= bool(given.models) and set(given.models) <= set(REAL)
    for name in () if given.real else given.models or (QUICK if given.quick else CLASSIFIERS):
        try:
            rows += bench_model(name, given)
        except Exception:  # one model must not cost the others
            traceback.print_exc()
        if not (given.quick or given.models):
            keep("quantize", "python scripts/bench_quantize.py", rows)
    if rows:
        print(table(rows))
    short = [*missed(rows), *(real(given) if given.real else [])]
    print("\n".join(short or ["Every bar is met."]))
    sys.exit(bool(short))


if __name__ == "__main__":
    with one_paragraph():
        main()
