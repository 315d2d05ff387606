"""What a person waits for before anything happens."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

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


@pytest.fixture(scope="module")
def cost():
    """Processor time of a fresh Python with these words, the least of three: in units of one that
    imports typer, because seconds say as much of the machine."""

    def spent():
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        return now.ru_utime + now.ru_stime

    def measure(*words):
        best = float("inf")
        for _ in range(3):
            before = spent()
            subprocess.run([sys.executable, *words], capture_output=True, check=True)
            best = min(best, spent() - before)
        return best

    unit = measure("-c", "import typer")
    return lambda *words: measure(*words) / unit


def test_help_costs_little_more_than_the_library_that_writes_it(cost):
    assert cost("-m", "deploypipe.cli", "--help") < 3


def test_the_package_itself_costs_less_than_that_library(cost):
    assert cost("-c", "import deploypipe") < 1


def test_telemetry_is_off_unless_the_user_says_otherwise():
    code = "import os, deploypipe; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert subprocess.check_output([sys.executable, "-c", code]).strip() == b"1"
