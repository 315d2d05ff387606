"""What a person waits for before anything happens."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

HEAVY = {"torch", "onnx", "onnxruntime", "onnx_ir", "onnxscript", "numpy", "rich", "yaml", "PIL"}
"""``import deploypipe`` and ``--help`` need none of these."""

HELP = """
import sys
sys.argv = ["deploypipe", *sys.argv[1:]]
from deploypipe.cli import main
try:
    main()
finally:
    import json
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""
IMPORT = "import sys, json, deploypipe; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"


def loaded(code: str, *words: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    ("code", "words"),
    [(IMPORT, []), (HELP, ["--help"]), (HELP, ["run", "--help"]), (HELP, ["bench", "--help"])],
)
def test_no_heavy_package_is_loaded(code, words):
    assert not loaded(code, *words) & HEAVY


@pytest.mark.parametrize("package", ["core", "data", "runtime", "validate", "report"])
def test_a_room_loads_neither_torch_nor_a_runtime(package):
    code = IMPORT.replace("deploypipe;", f"deploypipe.{package};")
    assert not loaded(code) & {"torch", "onnxruntime"}


def test_the_command_line_in_a_process_of_its_own_helps_in_half_a_second():
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        words = [sys.executable, "-m", "deploypipe.cli", "--help"]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        best = min(best, time.perf_counter() - start)
    assert "Exit codes" in done.stdout
    assert best < 0.5


def test_the_package_itself_is_loaded_in_half_a_second():
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import deploypipe"], check=True)
        best = min(best, time.perf_counter() - start)
    assert best < 0.5


def test_telemetry_is_off_unless_the_user_says_otherwise():
    code = "import os, deploypipe; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert subprocess.check_output([sys.executable, "-c", code]).strip() == b"1"
