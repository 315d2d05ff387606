from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from deploypipe.bundle.pack import pack
from deploypipe.bundle.verify import verify

WATCHED = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    heavy = {"torch", "onnx", "onnx_ir", "onnxscript", "deploypipe", "pydantic", "PIL", "scipy"}
    print("loaded:", sorted(heavy & set(sys.modules)))
"""


def run(bundle, *words: object, code: str | None = None) -> subprocess.CompletedProcess[str]:
    start = [sys.executable, "-I"] + (["-c", code] if code else [])
    command = [*start, str(bundle / "run.py"), *map(str, words)]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=bundle.parent, timeout=60
    )


def test_it_checks_the_bundle_with_numpy_and_onnxruntime_alone(bundle):
    done = run(bundle, code=WATCHED)
    assert done.stdout.splitlines() == ["OK: 4 files, 6 golden samples", "loaded: []"]
    assert done.returncode == 0, done.stderr
    verify(bundle)  # running left nothing behind


def test_it_prints_the_classes_of_an_image_and_of_a_ready_tensor(bundle, content, tmp_path):
    ready = content.golden_inputs["image"][0]
    image = np.rint(ready.transpose(1, 2, 0) * 255).astype(np.uint8)
    logits = content.golden_outputs["logits"][0].astype(np.float64)
    share = np.exp(logits) / np.exp(logits).sum()
    best = np.argsort(-share)
    expected = [f"{share[i]:.4f}  {content.classes[i]}" for i in best]
    for name, array in {"u8": image, "f32": ready, "one": ready[None]}.items():
        np.save(tmp_path / f"{name}.npy", array)
        assert run(bundle, tmp_path / f"{name}.npy").stdout.splitlines() == expected
    told = run(bundle, tmp_path / "u8.npy", "--top", 2).stdout.splitlines()
    assert told == expected[:2]


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((5, 4, 3), np.uint8),
        np.zeros((4, 4, 1), np.float32),
        np.zeros((2, 3, 4, 4), np.float32),
        np.zeros((3, 4, 4), np.float64),
    ],
)
def test_an_image_of_another_size_is_refused(bundle, tmp_path, array):
    np.save(tmp_path / "x.npy", array)
    done = run(bundle, tmp_path / "x.npy")
    assert done.returncode == 1 and "the model takes float32" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [(["none.npy"], "none.npy: no such file"), (["x.npy", "--top", "two"], "--top two: no number")],
)
def test_what_cannot_be_read_is_told(bundle, words, told):
    done = run(bundle, *words)
    assert done.returncode == 1 and done.stderr.startswith(f"{told}; ")


def test_what_is_no_array_is_told(bundle, tmp_path):
    np.savez(tmp_path / "x.npz", image=np.zeros(3))
    (tmp_path / "x.png").write_bytes(b"\x89PNG")
    for name in ("x.npz", "x.png"):
        done = run(bundle, tmp_path / name)
        assert done.returncode == 1 and "holds no array" in done.stderr
        assert "Traceback" not in done.stderr
    assert "replay the golden answers" in run(bundle, "--help").stdout


def test_a_damaged_file_is_named(bundle):
    (bundle / "report.html").write_text("<p>better</p>")
    done = run(bundle)
    assert done.returncode == 1 and "report.html: damaged" in done.stderr


def test_a_missing_file_is_named(bundle):
    (bundle / "report.html").unlink()
    done = run(bundle)
    assert done.returncode == 1 and done.stderr == "report.html: missing\n"


def test_answers_that_differ_are_told(model, content, tmp_path):
    moved = {"logits": content.golden_outputs["logits"] + np.float32(1)}
    bundle = pack(model, tmp_path / "b", dataclasses.replace(content, golden_outputs=moved))
    done = run(bundle)
    assert done.returncode == 1 and "output 'logits' differs" in done.stderr


def test_a_provider_that_is_missing_is_named_and_not_replaced(model, content, tmp_path):
    other = dataclasses.replace(content, providers=["OtherExecutionProvider"])
    done = run(pack(model, tmp_path / "b", other))
    assert done.returncode == 1 and "lacks OtherExecutionProvider" in done.stderr


FALLS_BACK = """
import runpy, sys
import onnxruntime
onnxruntime.get_available_providers = lambda: ["OtherExecutionProvider"]
onnxruntime.preload_dlls = lambda: print("looked for its libraries")
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_provider_that_does_not_start_is_named_and_not_replaced(model, content, tmp_path):
    other = dataclasses.replace(content, providers=["OtherExecutionProvider"])
    done = run(pack(model, tmp_path / "b", other), code=FALLS_BACK)
    assert done.returncode == 1 and "OtherExecutionProvider could not start" in done.stderr
    assert "looked for its libraries" in done.stderr
    assert "OK" not in done.stdout


THREADS = """
import runpy, sys
space = runpy.run_path(sys.argv[1])
manifest = space["json"].loads((space["HERE"] / "manifest.json").read_text())
print(space["session"](manifest).get_session_options().intra_op_num_threads)
"""


@pytest.mark.parametrize(
    ("target", "threads"), [({"cpu": {"threads": 2}}, 2), ({"mine": {}}, 0), ("mine", 0), (None, 0)]
)
def test_it_runs_with_the_threads_that_were_judged(model, content, tmp_path, target, threads):
    bundle = pack(model, tmp_path / "b", dataclasses.replace(content, target=target))
    assert run(bundle, code=THREADS).stdout == f"{threads}\n"


def test_a_bundle_without_goldens_is_still_ok(model, content, tmp_path):
    bare = dataclasses.replace(content, golden_inputs={}, golden_outputs={})
    done = run(pack(model, tmp_path / "b", bare))
    assert done.returncode == 0 and done.stdout.startswith("OK: all files")
