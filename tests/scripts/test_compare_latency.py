"""What stands wrong in a user's words is one paragraph and an exit code of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.mark.parametrize(
    ("script", "words", "told"),
    [
        ("compare_latency", ["none.onnx", "none.onnx"], "none.onnx: no such model file"),
        ("export_model", ["none.py:net", "out.onnx"], "no such file"),
        (
            "package_for_edge",
            ["none.onnx", "out.tar", "--data", "digitz"],
            "unknown source 'digitz'",
        ),
    ],
)
def test_a_mistake_is_not_taken_for_a_verdict(tmp_path, script, words, told):
    words = [sys.executable, str(SCRIPTS / f"{script}.py"), *words]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
