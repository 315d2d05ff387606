"""The answer is the exit code, so an error must have one of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "compare_latency.py"


def test_a_missing_file_is_not_taken_for_a_slower_model(tmp_path):
    words = [sys.executable, str(SCRIPT), "none.onnx", "none.onnx"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "none.onnx: no such model file" in done.stderr
    assert "Traceback" not in done.stderr
