"""Export a torch model to ONNX, with the proof that both answer alike.

python scripts/export_model.py models/resnet_cifar.py:resnet20 out.onnx --weights w.safetensors
"""

from __future__ import annotations

import argparse
from pathlib import Path

from deploypipe import Settings, export_model
from deploypipe.core.errors import one_paragraph

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("source", help="FILE.py:FUNCTION, MODULE:FUNCTION or a recipe.yaml")
parser.add_argument("output", type=Path)
parser.add_argument("--weights", type=Path)
parser.add_argument("--size", type=int, default=32, help="pixels a side of the 3-channel input")
given = parser.parse_args()

shapes = {"image": (3, given.size, given.size)}
with one_paragraph():
    made = export_model(
        given.source, given.output, Settings(), weights=given.weights, shapes=shapes
    )
print(f"{made['output']}: {made['bytes']} bytes; {made['changes'][0]}")
