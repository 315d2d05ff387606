"""The demo as a user runs it, with few epochs on small images, to a verified bundle."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("torch")
datasets = pytest.importorskip("sklearn.datasets")

RECIPE = Path(__file__).parents[2] / "models" / "digits_resnet20.yaml"
CHANGES = {
    "data.preprocess.size": 16,
    "data.split.train": 256,
    "data.split.validation": 300,
    "steps.train.epochs": 1,
    "steps.distill.epochs": 1,
    "steps.validate.rounds": 7,
    "steps.validate.seconds": 3,
    "budget.accuracy_drop": 90,
    "budget.speedup": 1.02,
    "budget.shrink": 3,
}
STEPS = ["source", "train", "reference", "prune", "distill", "export", "optimize", "quantize"]


def test_the_demo_ends_with_a_bundle_that_verifies_and_a_second_run_tells_the_same(
    command, tmp_path
):
    out = tmp_path / "out"
    words = ["run", RECIPE, "-o", out, "--json"]
    words += [word for name, value in CHANGES.items() for word in ("--set", f"{name}={value}")]
    first = command(*words)
    report = first.json  # one JSON document and nothing else
    assert first.code == {"PASS": 0, "FAIL": 1, "UNDECIDED": 3}[report["verdict"]["outcome"]]
    assert [stage["step"] for stage in report["stages"]][:9] == [*STEPS, "validate"], first.err
    check_report(report, out)
    if report["verdict"]["outcome"] == "UNDECIDED":  # a second run would measure again
        pytest.skip(f"this host is too noisy for a verdict: {report['verdict']['checks']}")

    second = command(*words)
    assert "done in" not in second.err
    assert second.json == report
    assert second.code == first.code
    assert json.loads((out / "report.json").read_text()) == report
    assert first.code == 0, report["verdict"]
    check_bundle(command, out / "bundle", tmp_path)


def check_report(report, out: Path) -> None:
    page, summary = (out / "report.html").read_text(), (out / "summary.md").read_text()
    assert report["verdict"]["outcome"] in page
    assert report["verdict"]["outcome"] in summary
    assert [row["label"] for row in report["ledger"]] == [
        "reference", "export", "optimize", "quantize"
    ]  # fmt: skip
    before, after = report["reference"], report["candidate"]
    assert after["macs"] < before["macs"]
    assert after["bytes"] * 3 < before["bytes"]
    assert report["data"]["splits"]["validation"]["samples"] == 300
    assert report["accuracy"]["samples"] == 300
    checks = {check["name"] for check in report["verdict"]["checks"]}
    assert checks == {"finite outputs", "accuracy drop", "not slower", "speedup", "shrink"}


def check_bundle(command, bundle: Path, folder: Path) -> None:
    verified = command("verify", bundle, "--json")
    assert verified.code == 0, verified.err
    assert "golden samples" in " ".join(verified.json["checked"])

    def python(*words: object) -> str:
        return subprocess.check_output([sys.executable, *map(str, words)], text=True, cwd=folder)

    assert python(bundle / "run.py").startswith("OK")
    digit = datasets.load_digits().images[0] * 255 / 16
    image = np.kron(digit, np.ones((2, 2))).astype(np.uint8)[..., None].repeat(3, -1)
    np.save(folder / "image.npy", image)
    told = python(bundle / "run.py", folder / "image.npy", "--top", "3").splitlines()
    shares = [float(line.split()[0]) for line in told]
    assert len(told) == 3
    assert sorted(shares, reverse=True) == shares
    assert {line.split()[1] for line in told} < {str(number) for number in range(10)}
