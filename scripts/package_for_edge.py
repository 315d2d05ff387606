"""Optimize, quantize, check and pack one ONNX file for a device that has numpy and onnxruntime.

python scripts/package_for_edge.py model.onnx bundle.tar --data images:photos
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

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("model", type=Path)
parser.add_argument("output", type=Path, help="a directory, or a name that ends in .tar")
parser.add_argument("--data", required=True, help="source:argument, or a recipe.yaml")
parser.add_argument("--drop", type=float, default=1.0, help="largest loss of accuracy, in points")
given = parser.parse_args()

settings = Settings(data=given.data)
with tempfile.TemporaryDirectory() as folder:
    small, int8 = Path(folder, "small.onnx"), Path(folder, "int8.onnx")
    optimize_model(given.model, small, settings)
    quantize_model(small, int8, settings)
    found = validate_models(given.model, int8, settings, {"accuracy_drop": given.drop})
    for check in found["verdict"]["checks"]:
        print(f"{check['outcome']:<10} {check['name']}: {check['why']}")
    if found["verdict"]["outcome"] != "PASS":
        sys.exit("not packed: the verdict is " + found["verdict"]["outcome"])
    pack_model(int8, given.output, settings, given.model.stem)
print(*verify_bundle(given.output, settings)["checked"], sep="\n")
