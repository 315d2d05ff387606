"""A report as a run of a small residual network would write it; all numbers are invented."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploypipe.report.png import data_uri

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
HOSTILE = "<script>alert('x')</script> & \"q\" | `t` [bold red]m[/] \x1b[31m \u202e @all"


def _latencies(middle: float, seed: int) -> list[float]:
    source = random.Random(seed)
    calls = [middle * source.lognormvariate(0.0, 0.035) for _ in range(120)]
    return [round(c * (1.6 if source.random() < 0.02 else 1.0), 5) for c in calls]


def _stage(step: str, kind: str, size: int, seconds: float, **more: Any) -> dict[str, Any]:
    entry = {
        "step": step,
        "made": "2026-03-14T15:09:26+00:00",
        "kind": kind,
        "seconds": seconds,
        "bytes": size,
    }
    entry |= {"digest": hashlib.sha256(step.encode()).hexdigest(), "options": {}, "changes": []}
    return {**entry, "refusals": [], "notes": {}, **more}


def _stages() -> list[dict[str, Any]]:
    fused = [
        f"folded the batch norm 'layer{i // 6 + 1}.{i % 3}.bn{i % 2 + 1}' into its conv"
        for i in range(19)
    ]
    return [
        _stage("train", "torch", 1_102_410, 412.6, options={"epochs": 60, "lr": 0.1, "batch": 128}),
        _stage(
            "prune", "torch", 1_102_410, 8.4,
            options={"criterion": {"norm-scale": {"power": 1}}, "ratio": 0.5, "align": 8},
            changes=["layer1: masked 6 of 16 channels", "layer2: masked 17 of 32 channels",
                     "layer3: masked 38 of 64 channels"],
            refusals=["fc: its outputs are the model's answer, so no channel of it may go"],
            notes={"groups": 12, "macs_left": 0.31},
        ),
        _stage("distill", "torch", 1_102_410, 655.0, options={"epochs": 40, "temperature": 4.0}),
        _stage("export", "onnx", 1_148_523, 6.1, options={"opset": 21},
               changes=["checked 256 samples: largest difference 3.1e-06"]),
        _stage("optimize", "onnx", 349_812, 1.3, options={"passes": ["fuse-batchnorm", "drop-dead-channels"]},
               changes=[*fused, "removed 187 dead channels in 12 groups"],
               refusals=["layer1.0.conv1: kept 2 dead channels, 10 is not a multiple of 4"],
               notes={"channels": [_channels()]}),
        _stage("quantize", "onnx", 101_000, 14.9,
               options={"target": "cpu", "calibrator": {"percentile": {"share": 99.9}}, "samples": 512},
               changes=["20 convolutions and 1 matrix product to int8"],
               refusals=["fc: kept in float, int8 loses 0.4 points here",
                         "GlobalAveragePool: the cpu target has no int8 kernel for it"],
               notes=_planned()),
    ]  # fmt: skip


def _channels() -> dict[str, Any]:
    """A certificate in short."""
    chain = [
        "relu[4] is zero: Relu 'relu' of constants",
        "conv[4] is zero: Conv 'conv' of no live weight",
    ]
    tensors = [
        ("layer3.0.relu", 64, {"zero": 30, "constant": 8}),
        ("layer2.1.relu", 32, {"unread": 17}),
    ]
    return {
        "removed": [{"tensor": name, "axis": 1, "size": size, "is": kinds, "chains": [chain]}
                    for name, size, kinds in tensors],
        "left": 3, "weights": 21, "merged": 2, "folded": 6,
        "proof": [{"test": "whole numbers", "result": "bit for bit the same", "error": 0.0}],
    }  # fmt: skip


def _planned() -> dict[str, Any]:
    """What the quantize stage notes."""
    units = [{"op": "Conv", "name": f"conv{i}"} for i in range(20)] + [{"op": "Gemm", "name": "fc"}]
    return {
        "profile": {"cpu": {"weight_bits": 8}}, "calibrator": {"percentile": {"share": 99.9}},
        "samples": 512, "planned": 23, "fused": 21, "method": "static",
        "corrections": [{"correction": "bias", "before_db": 22.1, "after_db": 22.9, "accepted": True,
                         "seconds": 0.4, "reason": ""}],
        "diagnosis": {
            "output_db": 22.9, "causes": ["conv3: its weights have one scale", "conv5: clipped"],
            "units": {f"conv{i}": {"op": "Conv", "alone_db": 30.0 + i, "carried_db": 21.0,
                                   "int8_us": 12.0, "float_us": 31.0} for i in range(20)},
        },
        "decision": {"winner": "all", "time_relative_to_float": {"float": 1.0, "all": 0.41}},
        "plan": {"units": units, "kept_float": {"pool": "the target has no int8 kernel for it",
                                                "head": "float is faster"}},
    }  # fmt: skip


def _layers() -> dict[str, Any]:
    """Signal over noise that falls along the network, with a cliff."""
    source = random.Random(5)
    rows = [
        {"name": f"layer{i // 8 + 1}.{i % 8}", "candidate": f"layer{i}", "op": "Conv", "node": f"n{i}",
         "sqnr_db": round(42 - 0.5 * i - (9 if i >= 17 else 0) + source.uniform(-1.5, 1.5), 2),
         "max_abs_error": 0.1, "cosine": 0.99, "drop_db": 9.1 if i == 17 else 0.5,
         "equal": False, "place": i}
        for i in range(24)
    ]  # fmt: skip
    cliff = {key: value for key, value in rows[17].items() if key != "place"}
    rows.sort(key=lambda row: row["sqnr_db"])
    return {"against": "optimize", "samples": 8, "rows": rows, "cliff": cliff, "cliff_db": 6.0}


def _worst() -> list[dict[str, Any]]:
    kinds = [(3, 5, 3.0), (5, 5, 5.0), (1, 3, 3.0), (2, 8, None)]
    return [
        {"id": f"cifar10/{417 + 91 * i:04d}", "error": round(6.1 - 0.2 * i, 2), "sqnr_db": 12.5 + i,
         "kl": 0.8, "label": kinds[i % 4][2], "reference": kinds[i % 4][0],
         "candidate": kinds[i % 4][1]}
        for i in range(20)
    ]  # fmt: skip


def _pictures() -> dict[str, str]:
    """A coloured gradient for every worst sample, except for the last."""
    ramp = np.linspace(0, 255, 32)
    plane = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], 128.0), axis=2)
    return {
        one["id"]: data_uri(np.roll(plane, 3 * i, axis=i % 2).astype(np.uint8))
        for i, one in enumerate(_worst()[:-1])
    }


def _log_ratios(middle: float) -> list[dict[str, float]]:
    source = random.Random(7)
    return [
        {"ratio": math.log(middle) + source.gauss(0, 0.012), "twin": source.gauss(0, 0.006)}
        for _ in range(20)
    ]


def _ledger() -> list[dict[str, Any]]:
    rows = [
        ("reference", 1_148_523, 272_474, 40_813_184, 0.9172, 2.314, 2.46, None),
        ("export", 1_148_523, 272_474, 40_813_184, 0.9172, 2.309, 2.45, (0.998, 0.991, 1.006)),
        ("optimize", 349_812, 84_210, 12_690_432, 0.9163, 1.104, 1.18, (0.477, 0.470, 0.484)),
        ("quantize", 101_000, 84_210, 12_690_432, 0.9160, 0.742, 0.80, (0.321, 0.311, 0.331)),
    ]
    drops = {"optimize": (0.09, -0.2, 0.4), "quantize": (0.12, -0.21, 0.45)}
    steps = {
        "export": (0.998, 0.991, 1.006),
        "optimize": (0.478, 0.470, 0.486),
        "quantize": (0.672, 0.65, 0.695),
    }
    return [
        {"label": label, "bytes": size, "parameters": parameters, "macs": macs, "accuracy": accuracy,
         "latency_ms": {"p50": p50, "p90": p90, "n": 120},
         "ratio": _interval(ratio), "step": _interval(steps.get(label)),
         "drop": _interval(drops.get(label)), "step_drop": _interval(drops.get(label))}
        for label, size, parameters, macs, accuracy, p50, p90, ratio in rows
    ]  # fmt: skip


def _interval(ends: tuple[float, float, float] | None) -> dict[str, float] | None:
    return dict(zip(("value", "low", "high"), ends, strict=True)) if ends else None


def _sample() -> dict[str, Any]:
    ledger = _ledger()
    return {
        "version": 1,
        "name": "resnet20",
        "created": "2026-03-14T15:09:26+00:00",
        "command": ["deploypipe", "run", "models/resnet20.yaml", "--set", "seed=7"],
        "recipe": {"model": "models/resnet20.py:resnet20", "steps": [{"train": {"epochs": 60}}, "export"]},
        "environment": {
            "os": "Linux 6.1", "machine": "x86_64", "cpu": "Example 3.1 GHz", "cores": 4,
            "flags": ["avx2", "avx512f", "avx512_vnni"], "python": "3.11.9", "target": "cpu", "threads": 2,
            "packages": {"onnxruntime": "1.31.1", "onnx": "1.23.0", "torch": "2.13.0", "numpy": "2.3.1"},
        },
        "data": {
            "source": {"images": {"folder": "cifar10"}},
            "splits": {"train": {"samples": 40_000, "digest": "a1" * 32},
                       "calibration": {"samples": 512, "digest": "b2" * 32},
                       "validation": {"samples": 5_000, "digest": "c3" * 32}},
            "preprocess": {"size": [32, 32], "channels": 3, "scale": 1 / 255},
            "notes": ["2 images occur twice within train"],
            "seed": 7, "classes": CLASSES,
        },
        "stages": _stages(),
        "ledger": ledger,
        "history": [{"label": "train", "accuracy": 0.9172}, {"label": "prune", "accuracy": 0.6120},
                    {"label": "distill", "accuracy": 0.9165}],
        "reference": {**ledger[0], "nodes": 73, "digest": "d4" * 32},
        "candidate": {**ledger[3], "label": "candidate", "nodes": 108, "digest": "e5" * 32},
        "accuracy": {"metric": "accuracy", "samples": 5_000, "reference": 0.9172, "candidate": 0.9160,
                     "drop_points": 0.12, "low": -0.21, "high": 0.45, "flips_to_wrong": 41,
                     "flips_to_right": 35, "provable_margin_points": 0.42,
                     "unit": "points", "higher_is_better": True, "confidence": 0.95,
                     "one_sided": True, "mcnemar_p": 0.57},
        "latency": {"threads": 2, "batch": 1, "ratio": 0.321, "low": 0.311, "high": 0.331,
                    "speedup": 1 / 0.321, "rounds": 20, "reference_ms": _latencies(2.314, 1),
                    "candidate_ms": _latencies(0.742, 2), "aa_half_width": 0.008,
                    "confidence": 0.99, "blocks": 80, "seed": 7,
                    "fresh": "process", "log_ratios": _log_ratios(0.321),
                    "reference_start": {"open_ms": 15.0, "first_ms": 3.1, "peak_bytes": 91_000_000, "n": 5},
                    "candidate_start": {"open_ms": 8.0, "first_ms": 1.1, "peak_bytes": 62_000_000, "n": 5},
                    "reference_cold_ms": [18.1, 17.2, 19.4], "candidate_cold_ms": [9.7, 9.1, 10.2]},
        "drift": {"top1_agreement": 0.9712, "sqnr_db": 23.41, "max_abs_error": 1.87, "mean_kl": 0.0143,
                  "p99_kl": 0.21, "samples": 5_000, "reference_nonfinite": 0, "candidate_nonfinite": 0,
                  "new_nonfinite": 0,
                  "worst": [one["id"] for one in _worst()], "worst_samples": _worst()},
        "layers": _layers(),
        "pictures": _pictures(),
        "placement": {"CPUExecutionProvider": 58},
        "kernels": {"QLinearConv": 20, "QLinearAdd": 9, "QuantizeLinear": 1, "DequantizeLinear": 1,
                    "Gemm": 1},
        "verdict": {"outcome": "PASS", "checks": _checks()},
        "files": {"bundle": "bundle.tar", "report": "report.html", "summary": "summary.md"},
    }  # fmt: skip


def _check(name: str, values: tuple[Any, ...], limit: float, unit: str, why: str) -> dict[str, Any]:
    measured, low, high = values
    entry = {"name": name, "measured": measured, "low": low, "high": high, "limit": limit}
    side = "most" if unit in ("samples", "points") else "least"
    return {**entry, "unit": unit, "outcome": "PASS", "why": why, "side": side}


def _checks() -> list[dict[str, Any]]:
    speed, told = (3.115, 3.021, 3.215), "3.02x to 3.22x at 99% confidence"
    drop = "5000 samples, 41 flip to wrong, 35 to right; they can prove 0.42 points; 95% one-sided confidence"
    return [
        _check("finite outputs", (0, None, None), 0, "samples", "all outputs are finite"),
        _check("accuracy drop", (0.12, -0.21, 0.45), 0.5, "points", drop),
        _check("not slower", speed, 0.98, "x", told),
        _check("speedup", speed, 2.0, "x", told),
        _check("shrink", (11.37, None, None), 4.0, "x", "1148523 -> 101000 bytes"),
    ]


@pytest.fixture
def report() -> dict[str, Any]:
    """A run that passed, with every section."""
    return _sample()


@pytest.fixture
def failed(report: dict[str, Any]) -> dict[str, Any]:
    """The speed-up misses its limit."""
    report["verdict"]["outcome"] = "FAIL"
    report["verdict"]["checks"][3] |= {
        "limit": 4.0, "outcome": "FAIL", "why": "3.12x, and at least 4.0x was asked for",
    }  # fmt: skip
    return report


@pytest.fixture
def undecided(report: dict[str, Any]) -> dict[str, Any]:
    """The accuracy's interval crosses its limit."""
    report["verdict"]["outcome"] = "UNDECIDED"
    report["verdict"]["checks"][1] |= {
        "limit": 0.3, "outcome": "UNDECIDED", "why": "the interval reaches across the limit",
    }  # fmt: skip
    return report


@pytest.fixture
def unquantized(report: dict[str, Any]) -> dict[str, Any]:
    """The recipe ends after optimize."""
    report["stages"] = report["stages"][:-1]
    report["ledger"] = report["ledger"][:-1]
    return report


@pytest.fixture
def without_refusals(report: dict[str, Any]) -> dict[str, Any]:
    """No stage said no."""
    for stage in report["stages"]:
        stage["refusals"] = []
    return report


@pytest.fixture
def older() -> dict[str, Any]:
    """A real run of the demo before pictures, layers and each step's own intervals were noted;
    the raw times are thinned, the machine has another name."""
    text = (Path(__file__).parent / "older" / "report-1.json").read_text(encoding="utf-8")
    return json.loads(text)  # type: ignore[no-any-return]


@pytest.fixture
def bare() -> dict[str, Any]:
    """The least that is a report: the run broke before anything was measured."""
    return {"version": 1, "name": "resnet20"}


@pytest.fixture
def hostile(report: dict[str, Any]) -> dict[str, Any]:
    """Every string that is not a fixed word of the format is a stranger's."""
    fixed = {"outcome", "unit", "side"}

    def poison(value: Any, key: str = "") -> Any:
        if isinstance(value, str):
            return value if key in fixed else HOSTILE
        if isinstance(value, list):
            return [poison(each) for each in value]
        if isinstance(value, dict):
            return {name: poison(each, name) for name, each in value.items()}
        return value

    poisoned = poison(copy.deepcopy(report))
    poisoned["kernels"] = {HOSTILE: 3}
    poisoned["environment"][HOSTILE] = {HOSTILE: [HOSTILE]}
    poisoned["drift"][HOSTILE] = 0.5
    return {**poisoned, "files": {HOSTILE: HOSTILE}}


@pytest.fixture(
    params=[
        *("report", "failed", "undecided", "unquantized", "without_refusals", "bare", "hostile"),
        "older",
    ]
)
def any_report(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Each variant in turn."""
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]
