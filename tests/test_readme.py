"""Every command and every file of the README does what it says; its tables are the last results."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
LONG = {"make demo", "make test"}  # the stories run the first in a reduced form; this is the second


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[list[str]]:
    lines = [line.partition("#")[0].split() for text in blocks("sh") for line in text.splitlines()]
    return [words for words in lines if words and " ".join(words) not in LONG]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A user's folder: model.onnx, a recipe, the README's plug-in, the package's models."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "models", folder / "models")
    (folder / "neg_neg.py").write_text(next(text for text in blocks("python") if "NegNeg" in text))
    recipe = yaml.safe_load((ROOT / "models" / "digits_resnet20.yaml").read_text())
    recipe["model"]["build"] = "models/resnet_cifar.py:resnet20"
    recipe["steps"] = ["export", {"validate": {"seconds": 2, "samples": 64}}]
    del recipe["budget"]
    (folder / "RECIPE.yaml").write_text(yaml.safe_dump(recipe))
    export = ["export", "RECIPE.yaml", "-o", "model.onnx"]
    assert call(export, folder).returncode == 0
    mask_channels(folder / "model.onnx", folder / "masked.onnx")
    return folder


def mask_channels(model: Path, masked: Path) -> None:
    """A quarter of the filters of every convolution become zeros."""
    import onnx
    from onnx import numpy_helper

    proto = onnx.load(model)
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Conv":
            array = numpy_helper.to_array(tensors[node.input[1]]).copy()
            array[: len(array) // 4] = 0
            tensors[node.input[1]].CopyFrom(numpy_helper.from_array(array, node.input[1]))
    onnx.save(proto, masked)


def call(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return python(folder, "-m", "deploypipe.cli", *words)


def python(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_commands_of_the_readme_run(workspace):
    # An untrained model is no faster or slower for certain, so a verdict may be anything but an error.
    for program, *words in commands():
        assert program == "deploypipe", program
        done = call(words, workspace)
        allowed = (0, 1, 3) if words[0] in ("run", "validate", "bench") else (0,)
        assert done.returncode in allowed, (words, done.stderr)


def test_the_recipe_in_the_readme_is_the_demo():
    shown = yaml.safe_load(next(text for text in blocks("yaml") if "steps:" in text))
    recipe = yaml.safe_load((ROOT / "models" / "digits_resnet20.yaml").read_text())
    assert shown == {key: recipe[key] for key in ("steps", "budget")}


def test_the_plug_in_of_the_readme_works(workspace):
    import onnx

    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) '
        "{ a = Neg(x) b = Neg(a) y = Relu(b) }"
    )
    onnx.save(model, workspace / "twice.onnx")
    words = ["optimize", "twice.onnx", "-o", "once.onnx", "--plugin", "neg_neg.py"]
    assert call([*words, "--passes", "neg-neg,drop-unused"], workspace).returncode == 0
    assert [node.op_type for node in onnx.load(workspace / "once.onnx").graph.node] == ["Relu"]


def test_the_tables_are_those_of_the_last_results():
    script = [sys.executable, str(ROOT / "scripts" / "update_readme.py"), "--check"]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_bundle_runs_as_the_readme_says(workspace):
    words = ["pack", "model.onnx", "-o", "bundle", "--data", "models/digits_resnet20.yaml"]
    assert call(words, workspace).returncode == 0
    image = np.zeros((32, 32, 3), np.uint8)
    np.save(workspace / "image.npy", image)
    assert python(workspace, "bundle/run.py").returncode == 0
    top = python(workspace, "bundle/run.py", "image.npy")
    assert top.returncode == 0, top.stderr
    assert len(top.stdout.splitlines()) >= 5


def test_the_pytest_example_runs(workspace):
    example = next(text for text in blocks("python") if "latency.compare" in text)
    (workspace / "test_example.py").write_text(example)
    for name in ("candidate.onnx", "baseline.onnx"):
        shutil.copy(workspace / "model.onnx", workspace / name)
    images = np.random.default_rng(0).random((20, 3, 32, 32), np.float32)
    np.savez(workspace / "samples.npz", image=images)
    words = ["-m", "pytest", "-q", "--deploypipe-seconds", "4", "test_example.py"]
    for more in (["--deploypipe-update"], []):
        done = python(workspace, *words, *more)
        assert done.returncode == 0, done.stdout  # a model against itself passes, or is undecided
        assert "3 passed" in done.stdout


SCRIPTS = {
    "export_model": ["models/resnet_cifar.py:resnet20", "again.onnx"],
    "compare_latency": ["model.onnx", "model.onnx", "--seconds", "3"],
    "package_for_edge": ["model.onnx", "edge.tar", "--data", "models/digits_resnet20.yaml"],
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_scripts_of_the_readme_run(workspace, script):
    more = ["--drop", "100", "--seconds", "4"] if script == "package_for_edge" else []
    done = python(workspace, ROOT / "scripts" / f"{script}.py", *SCRIPTS[script], *more)
    if script == "export_model":
        assert done.returncode == 0, done.stderr
        assert (workspace / "again.onnx").is_file()
    elif script == "compare_latency":
        assert done.returncode in (0, 3), done.stderr
        assert "not slower" in done.stdout or "undecided" in done.stdout
    else:
        packed = (workspace / "edge.tar").is_file()
        assert packed if done.returncode == 0 else "not packed" in done.stderr, done.stderr


def test_every_picture_of_the_readme_is_there():
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", README)
    assert pictures
    assert all((ROOT / picture).is_file() for picture in pictures)
