"""Is A at most 5 % slower than B?  Interleaved, with an interval; exit code 0 yes, 1 no, 3 unclear.

Where a file is missing or does not fit, the code is that of the command line: 2, 4 or 5.

python scripts/compare_latency.py candidate.onnx baseline.onnx
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deploypipe import Settings, bench_models
from deploypipe.core.errors import one_paragraph

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("candidate", type=Path)
parser.add_argument("baseline", type=Path)
parser.add_argument("--seconds", type=float, help="default: 10 for a model below 1 ms, else more")
given = parser.parse_args()

with one_paragraph():
    found = bench_models([given.candidate, given.baseline], Settings(), seconds=given.seconds)
ratio = f"{found['ratio']:.3f} of the time; " if "ratio" in found else ""
print(f"{found['answer']}: {ratio}{found['why']}")
sys.exit({"not slower": 0, "slower": 1, "crashed": 1}.get(found["answer"], 3))
