"""Optimize, quantize, check and pack one ONNX file for a device that has numpy and onnxruntime.

With a recipe as --data, calibration and validation are its splits; of a source, 100 samples calibrate
and the others judge.  Exit code 0 packed, 1 the verdict is FAIL, 3 it is UNDECIDED; 2, 4 and 5 are those
of the command line.

python scripts/package_for_edge.py model.onnx bundle.tar --data recipe.yaml
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from deploypipe import (
    Settings,
    optimize_model,
    pack_model,
    quantize_model,
    validate_models,
    verify_bundle,
)
from deploypipe.core.errors import one_paragraph

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("model", type=Path)
parser.add_argument("output", type=Path, help="a directory, or a name that ends in .tar")
parser.add_argument("--data", required=True, help="source:argument, or a recipe.yaml")
parser.add_argument("--drop", type=float, default=1.0, help="largest loss of accuracy, in points")
parser.add_argument("--seconds", type=float, default=40, help="about how long to measure latency")
given = parser.parse_args()

recipe = given.data.endswith((".yaml", ".yml"))
settings = Settings(data=given.data, calibration=None if recipe else 100)
with one_paragraph(), tempfile.TemporaryDirectory() as folder:
    small, int8 = Path(folder, "small.onnx"), Path(folder, "int8.onnx")
    optimize_model(given.model, small, settings)
    quantize_model(small, int8, settings)
    budget, how = {"accuracy_drop": given.drop}, {"seconds": given.seconds}
    verdict = validate_models(given.model, int8, settings, budget, how)["verdict"]
    for check in verdict["checks"]:
        print(f"{check['outcome']:<10} {check['name']}: {check['why']}")
    if verdict["outcome"] != "PASS":
        print(f"not packed: the verdict is {verdict['outcome']}", file=sys.stderr)
        sys.exit(1 if verdict["outcome"] == "FAIL" else 3)
    pack_model(int8, given.output, settings, given.model.stem)
    print(*verify_bundle(given.output, settings)["checked"], sep="\n")
