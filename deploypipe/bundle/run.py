"""Run this bundle; needs numpy and onnxruntime.

python run.py                     check every file and replay the golden answers; prints OK
python run.py image.npy --top 5   classify a uint8 [H, W, C] image or a ready float32 [C, H, W]
"""

import contextlib
import hashlib
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import numpy as np
import onnxruntime as ort

HERE = Path(__file__).resolve().parent


def session(manifest: Any) -> Any:
    missing = set(manifest["providers"]) - set(ort.get_available_providers())
    if missing:
        sys.exit(f"this onnxruntime lacks {', '.join(sorted(missing))}")
    load_libraries(manifest["providers"][0])
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads(manifest["target"])
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    runner = ort.InferenceSession(HERE / manifest["model"], options, manifest["providers"])
    if runner.get_providers()[0] != manifest["providers"][0]:
        sys.exit(f"{manifest['providers'][0]} could not start; its libraries do not load here")
    return runner


def load_libraries(provider: str) -> None:
    """CUDA and TensorRT as pip installs them; what is not found is printed to stderr."""
    if provider != "CPUExecutionProvider":
        with contextlib.redirect_stdout(sys.stderr), contextlib.suppress(ImportError):
            ort.preload_dlls()
            importlib.import_module("tensorrt_libs")


def threads(target: Any) -> int:
    """As many as were judged; 0, which is onnxruntime's own choice, if the manifest has none."""
    given = next(iter(target.values()), None) if isinstance(target, dict) else None
    return given.get("threads", 0) if isinstance(given, dict) else 0


def check(manifest: Any) -> str:
    for entry in manifest["files"]:
        if not (HERE / entry["path"]).is_file():
            sys.exit(f"{entry['path']}: missing")
        if hashlib.sha256((HERE / entry["path"]).read_bytes()).hexdigest() != entry["sha256"]:
            sys.exit(f"{entry['path']}: damaged")
    golden = manifest["golden"]
    if golden is None:
        return "OK: all files are as packed; no golden answers are recorded"
    arrays, runner = np.load(HERE / golden["file"], allow_pickle=False), session(manifest)
    names, batch = [one["name"] for one in manifest["inputs"]], manifest["inputs"][0]["shape"][0]
    step = batch if isinstance(batch, int) else golden["samples"]
    outputs = [one["name"] for one in manifest["outputs"]]
    for rows in (slice(i, i + step) for i in range(0, golden["samples"], step)):
        answers = runner.run(outputs, {name: arrays[f"input.{name}"][rows] for name in names})
        for name, given in zip(outputs, answers, strict=True):
            whole = arrays[f"output.{name}"].astype(np.float64)
            want, span = whole[rows], float(np.ptp(whole)) or float(abs(whole).max()) or 1.0
            moved = name in golden["top1"] and (want.argmax(-1) != given.argmax(-1)).any()
            near = abs(want - given) <= golden["tolerance"] * span
            if given.dtype.kind != "f":  # whole numbers may be ids: few of them may differ at all
                near = (want != given).mean() <= golden["tolerance"]
            if moved or not near.all():
                sys.exit(f"output '{name}' differs from its golden answer")
    return f"OK: {len(manifest['files'])} files, {golden['samples']} golden samples"


def tensor(image: Any, manifest: Any) -> Any:
    shape, recipe = manifest["inputs"][0]["shape"], manifest["preprocess"]
    if image.dtype == np.uint8 and recipe:
        image = image if image.ndim == 3 else image[..., None]
        image = image.astype(np.float32) * np.float32(recipe["scale"])
        image = (image - np.float32(recipe["mean"])) / np.float32(recipe["std"])
        image = image.transpose(2, 0, 1)
    image = image if image.ndim == len(shape) else image[None]
    fits = all(isinstance(w, str) or h == w for h, w in zip(image.shape, shape, strict=False))
    if image.dtype != np.float32 or image.ndim != len(shape) or not fits or len(image) != 1:
        sys.exit(f"the model takes float32 {shape}, the image gives {image.dtype} {image.shape}")
    return np.ascontiguousarray(image)


def read(path: str) -> Any:
    with contextlib.suppress(ValueError):
        image = np.load(path, allow_pickle=False)
        if isinstance(image, np.ndarray):
            return image
    sys.exit(f"{path}: holds no array; write one image with numpy.save")


def classify(image: Any, top: int, manifest: Any) -> str:
    feeds = {manifest["inputs"][0]["name"]: tensor(image, manifest)}
    scores = session(manifest).run(None, feeds)[0][0].astype(np.float64)
    if scores.min() < 0 or abs(scores.sum() - 1) > 1e-3:  # no probabilities yet
        scores = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    names = manifest["classes"] or range(len(scores))
    return "\n".join(f"{scores[i]:.4f}  {names[i]}" for i in np.argsort(-scores)[:top])


def main(words: list[str]) -> str:
    manifest = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
    if "--help" in words:
        return str(__doc__).strip()
    number = words.pop(words.index("--top") + 1) if "--top" in words[:-1] else "5"
    paths = [word for word in words if word != "--top"]
    if not paths:
        return check(manifest)
    what = "" if number.isdecimal() else f"--top {number}: no number"
    what = what or ("" if Path(paths[0]).is_file() else f"{paths[0]}: no such file")
    if what:
        sys.exit(f"{what}; python run.py image.npy --top 5")
    return classify(read(paths[0]), int(number), manifest)


if __name__ == "__main__":
    print(main(sys.argv[1:]))
