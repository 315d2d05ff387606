"""A report as a run of a small residual network would write it; all numbers are invented."""

from __future__ import annotations

import copy
import hashlib
import random
from typing import Any

import pytest

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
               refusals=["layer1.0.conv1: kept 2 dead channels, 10 is not a multiple of 4"]),
        _stage("quantize", "onnx", 101_000, 14.9,
               options={"target": "cpu", "calibrator": {"percentile": {"share": 99.9}}, "samples": 512},
               changes=["20 convolutions and 1 matrix product to int8"],
               refusals=["fc: kept in float, int8 loses 0.4 points here",
                         "GlobalAveragePool: the cpu target has no int8 kernel for it"]),
    ]  # fmt: skip


def _ledger() -> list[dict[str, Any]]:
    rows = [
        ("reference", 1_148_523, 272_474, 40_813_184, 0.9172, 2.314, 2.46, None),
        ("export", 1_148_523, 272_474, 40_813_184, 0.9172, 2.309, 2.45, (0.998, 0.991, 1.006)),
        ("optimize", 349_812, 84_210, 12_690_432, 0.9163, 1.104, 1.18, (0.477, 0.470, 0.484)),
        ("quantize", 101_000, 84_210, 12_690_432, 0.9160, 0.742, 0.80, (0.321, 0.311, 0.331)),
    ]
    return [
        {"label": label, "bytes": size, "parameters": parameters, "macs": macs, "accuracy": accuracy,
         "latency_ms": {"p50": p50, "p90": p90, "n": 120},
         "ratio": dict(zip(("value", "low", "high"), ratio, strict=True)) if ratio else None}
        for label, size, parameters, macs, accuracy, p50, p90, ratio in rows
    ]  # fmt: skip


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
            "seed": 7, "classes": ["airplane", "ship"],
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
                    "reference_cold_ms": [18.1, 17.2, 19.4], "candidate_cold_ms": [9.7, 9.1, 10.2]},
        "drift": {"top1_agreement": 0.9712, "sqnr_db": 23.41, "max_abs_error": 1.87, "mean_kl": 0.0143,
                  "p99_kl": 0.21, "samples": 5_000, "reference_nonfinite": 0, "candidate_nonfinite": 0,
                  "new_nonfinite": 0,
                  "worst": ["cifar10/0417", "cifar10/2210"]},
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
    params=["report", "failed", "undecided", "unquantized", "without_refusals", "bare", "hostile"]
)
def any_report(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Each variant in turn."""
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]
