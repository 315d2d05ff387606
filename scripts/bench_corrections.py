"""What every correction of static int8 gains, in dB of the outputs, and the seconds that it takes.

Observed once, quantized once; then each correction, and some in a row, start from there:

    SQNR      of the outputs against the float model's, on samples that nothing was fitted to or judged
              on; also where the correction was refused, to see whether that was right
    accepted  on the few samples that corrections are judged on
    seconds   beside those of the observation, which is what a default may cost

The CIFAR ResNets and MiniLM have trained weights, the models of torchvision random ones.

    python scripts/bench_corrections.py [--quick] [--models NAME ...]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
from bench_channels import call, exported
from bench_quantize import images, optimized
from channel_jobs import peak_bytes
from result_rows import Facts, Row, by_experiment, keep, one_row

from deploypipe.graph.files import load
from deploypipe.quantize import CALIBRATORS, CORRECTIONS, PROFILES
from deploypipe.quantize.correct import accepts, correct
from deploypipe.quantize.correction import Draft
from deploypipe.quantize.corrections.bias import Bias
from deploypipe.quantize.observe import observe
from deploypipe.quantize.placement import place
from deploypipe.quantize.signal import outputs_of, sqnr_db
from deploypipe.quantize.units import find_units
from deploypipe.quantize.workshop import Workshop
from deploypipe.runtime.targets.cpu import Cpu

ROOT = Path(__file__).resolve().parent.parent
CIFAR = ("cifar10_resnet20", "cifar10_resnet56")
TRAINED = (*CIFAR, "minilm")
MODELS = (
    *TRAINED,
    "mobilenet_v2",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "resnet18",
    "vit_b_16",
)
QUICK = ("cifar10_resnet20",)
ROWS = (
    "bias",
    "sequential",
    "clip",
    "clip, bias",
    "equalize",
    "equalize, bias",
    "smooth",
    "smooth, bias",
    "gptq",
    "adaround",
    "smooth, equalize, clip, bias, sequential",
)
"""Single corrections, and several that run in their own order."""
START = "none"
THREADS, BITS = 2, (8, 4)

Feeds = list[dict[str, np.ndarray]]


def measure(name: str, path: Path, bits: int, rows: Sequence[str]) -> dict[str, Facts]:
    """correction -> metric -> value, of one model with weights of so many bits."""
    model = load(path)
    calibration, judged = samples(name, model)
    target = Cpu(THREADS)
    began = time.perf_counter()
    draft = quantized(model, calibration, bits, target)
    seconds = time.perf_counter() - began
    (expected,) = outputs_of([model], judged, target)

    def db(model: ir.Model) -> float:
        return sqnr_db(expected, outputs_of([model], judged, target)[0])

    start = db(draft.made.model)
    found: dict[str, Facts] = {START: {"db": start, "seconds": seconds}}
    for row in rows:
        began = time.perf_counter()
        wanted = [CORRECTIONS.build(one.strip()) for one in row.split(",")]
        proposal = wanted[0].propose(draft) if len(wanted) == 1 else None
        if len(wanted) == 1 and proposal is None:
            continue
        steps = []
        if proposal is None:
            proposal, steps = correct(draft, wanted)
        seconds = time.perf_counter() - began
        accepted = [step.correction for step in steps if step.accepted]
        found[row] = {"db": db(proposal.made.model), "seconds": seconds}
        if len(wanted) == 1:
            alone = correct(draft, wanted)[1][0].accepted if wanted[0].companion else None
            found[row]["accepted"] = accepts(draft, proposal) if alone is None else alone
        else:
            found[row]["accepted"] = ", ".join(accepted) or "none"
        print(name, bits, row, found[row], file=sys.stderr, flush=True)
    return found


def quantized(model: ir.Model, calibration: Feeds, bits: int, target: Cpu) -> Draft:
    """All that fuses in 8 bits, by the default calibrator, not corrected."""
    profile = PROFILES.build({"cpu": {"weight_bits": bits}}).resolve()
    found = find_units(model, profile)
    placement = place(model, found)
    tensors = sorted(set(placement.roots.values()))
    floored = {unit.output for unit in placement.units if unit.low >= 0}
    means = [one for one in Bias().needs(model, placement.units) if one.tensor in tensors]
    seen = observe(model, tensors, calibration, target, means=means, floored=floored)
    calibrator = CALIBRATORS.build("percentile")
    shop = Workshop(model, found, seen, placement.roots, calibrator, profile, target)
    return Draft(shop, shop.make(placement, {}, follow=True))


def samples(name: str, model: ir.Model) -> tuple[Feeds, Feeds]:
    """To calibrate and correct with, and to judge: one by one."""
    if name == "minilm":
        from quantize_minilm import _pairs, tokenizer

        encode = tokenizer()
        texts = [
            [encode(text) for text, _, _ in _pairs(split, 100)] for split in ("train", "validation")
        ]
        return texts[0], texts[1]
    value = model.graph.inputs[0]
    size = 32 if name in CIFAR else 224
    counts = (128, 256) if name in CIFAR else (64, 48)
    arrays = (images(count, size, seed) for seed, count in enumerate(counts))
    first, second = ([{str(value.name): image[None]} for image in array] for array in arrays)
    return first, second


def prepared(name: str, given: argparse.Namespace) -> tuple[Path, str]:
    """The optimized float model, or why there is none."""
    path = given.cache / f"{name}.onnx"
    result = given.cache / f"{name}.float.onnx"
    if name in TRAINED and not os.environ.get("DEPLOYPIPE_DATA"):
        return path, "DEPLOYPIPE_DATA is not set"
    if name in CIFAR and not path.exists():
        from deploypipe import Settings, export_model

        weights = Path(os.environ["DEPLOYPIPE_DATA"]) / "models" / f"{name}.safetensors"
        source = f"{ROOT / 'models' / 'resnet_cifar.py'}:{name.removeprefix('cifar10_')}"
        export_model(source, path, Settings(), weights=weights, shapes={"image": (3, 32, 32)})
    elif name == "minilm" and not path.exists():
        from quantize_minilm import export

        export(path)
    elif reason := exported(name, path, given.limit):
        return path, reason
    if not result.exists():
        optimized(path, result)
    return result, ""


def bench(name: str, given: argparse.Namespace) -> list[Row]:
    """All corrections on one model, in a process of its own."""
    path, reason = prepared(name, given)
    if reason:
        return [one_row(name, START, "reason", reason, 0.0)]
    rows = []
    for bits in BITS if name in CIFAR else BITS[:1]:
        job = [sys.executable, __file__, "--job", path, "--models", name, "--bits", bits]
        facts = call([*job, *(["--quick"] if given.quick else [])], given.limit)
        label = f"{name}, {bits}-bit weights" if bits != BITS[0] else name
        if "reason" in facts:
            rows.append(one_row(label, START, "reason", facts["reason"], 0.0))
            continue
        for method, found in facts["found"].items():
            rows += [one_row(label, method, k, v, found["seconds"]) for k, v in found.items()]
    return rows


def table(rows: list[Row]) -> str:
    """Markdown: dB gained and seconds; in brackets what was refused."""
    models = by_experiment(rows)
    lines = [f"| | dB before | {' | '.join(ROWS)} |", "|---" * (len(ROWS) + 2) + "|"]
    for name, methods in models.items():
        start = methods[START]
        if "db" not in start:
            lines.append(f"| {name} | {start.get('reason', '-')} |" + " |" * len(ROWS))
            continue
        cells = [f"{start['db']:.1f} ({start['seconds']:.1f} s)"]
        for row in ROWS:
            facts = methods.get(row)
            if facts is None:
                cells.append("-")
                continue
            told = f"{facts['db'] - start['db']:+.2f} ({facts['seconds']:.1f} s)"
            cells.append(told if facts["accepted"] not in (False, "none") else f"[{told}]")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def missed(rows: list[Row]) -> list[str]:
    """A sentence for every default that costs more than the observation or makes outputs worse."""
    from deploypipe.quantize.job import CHEAP

    names = ", ".join(CORRECTIONS.name_of(one) for one in CHEAP)
    lines = []
    for model, methods in by_experiment(rows).items():
        start, facts = methods[START], methods.get(names)
        if "db" not in start:
            lines.append(f"bar missed: {model}: {start.get('reason')}")
        elif facts is not None and facts["seconds"] > start["seconds"]:
            lines.append(f"bar missed: {model}: {names} takes longer than the observation")
        elif facts is not None and facts["accepted"] and facts["db"] < start["db"] - 0.2:
            lines.append(f"bar missed: {model}: {names} was accepted and makes outputs worse")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", metavar="NAME", default=MODELS)
    parser.add_argument("--quick", action="store_true", help="cifar10_resnet20; kept nowhere")
    parser.add_argument("--cache", type=Path, default=ROOT / "out" / "bench_channels")
    parser.add_argument("--limit", type=float, default=3600, help="seconds for a model")
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--bits", type=int, default=8, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.job:
        rows = [row for row in ROWS if not (given.quick and row == "adaround")]
        found = measure(given.models[0], given.job, given.bits, rows)
        print(json.dumps({"found": found, "peak_bytes": peak_bytes()}))
        return
    if given.quick:
        given.models = QUICK
    given.cache.mkdir(parents=True, exist_ok=True)
    rows = [row for name in given.models for row in bench(name, given)]
    print(table(rows))
    print("\n".join(short := missed(rows)) or "Every bar is met.")
    if not given.quick:
        keep("corrections", "python scripts/bench_corrections.py", rows)
    sys.exit(bool(short))


if __name__ == "__main__":
    main()
