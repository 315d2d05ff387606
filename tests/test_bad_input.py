"""What is wrong with an input is told in one paragraph, and nothing is left behind."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")


@pytest.fixture
def refused(call, tmp_path):
    """Run a recipe that must be refused before anything is written."""

    def run(file: Path, *told: str, code: int = 2, words: tuple[str, ...] = ()) -> str:
        out = tmp_path / "out"
        before = sorted(tmp_path.rglob("*"))
        said = call("run", file, "-o", out, *words)
        assert said.code == code, said
        assert said.out == ""
        assert said.err.count("\n") == 1, said.err
        assert "Traceback" not in said.err
        assert len(said.err) < 700
        for text in told:
            assert text in said.err, said.err
        assert sorted(tmp_path.rglob("*")) == before
        return said.err

    return run


RECIPES = [
    ({"steps": ["optimise"]}, ["steps[0]", "unknown stage 'optimise'", "did you mean 'optimize'?"]),
    ({"steps": [{"optimize": {"pases": []}}]}, ["steps[0].optimize", "did you mean 'passes'?"]),
    ({"steps": [{"optimize": {"tolerance": "much"}}]}, ["tolerance", "expected float, got 'much'"]),
    ({"steps": [{"optimize": {"also": ["space-to-dept"]}}]}, ["did you mean 'space-to-depth'?"]),
    ({"steps": [{"validate": {"rounds": 1}}]}, ["steps[0].validate", "rounds at least 3"]),
    ({"steps": []}, ["steps"]),
    ({"steps": ["bundle"]}, ["steps[0].bundle", "Put a validate step right before it"]),
    ({"steps": ["validate", "optimize", "bundle"]}, ["steps[2].bundle", "validate step right"]),
    ({"steps": ["train"]}, ["'train' takes a torch model", "before the export"]),
    ({"stepz": []}, ["unknown option 'stepz'", "did you mean 'steps'?"]),
    ({"name": "a/b"}, ["name"]),
    ({"seed": "one"}, ["seed", "expected int, got 'one'"]),
    ({"seed": -1}, ["seed", "-1"]),
    ({"seed": 2**63}, ["seed"]),
    ({"budget": {"spedup": 2}}, ["budget", "did you mean 'speedup'?"]),
    ({"budget": {"speedup": -1}}, ["budget.speedup", "-1"]),
    ({"target": "cpus"}, ["target", "did you mean 'cpu'?"]),
    ({"target": {"cpu": {"thread": 2}}}, ["target.cpu", "did you mean 'threads'?"]),
    ({"target": {"cpu": {"threads": 0}}}, ["target.cpu", "threads"]),
    ({"plugins": ["mine.py"]}, ["plugins[0]", "mine.py"]),
    ({"model": {"onnx": "no.onnx"}}, ["model.onnx", "no.onnx", "Relative paths start at"]),
    ({"model": {}}, ["model", "build", "onnx"]),
    ({"data": "npy:samples.npz"}, ["data", "did you mean 'npz'?"]),
    ({"data": "npz:no.npz"}, ["data.source.npz", "no.npz"]),
    ({"data": {"source": "npz:samples.npz"}}, ["no samples for validation", "data.split"]),
]


@pytest.mark.parametrize(("change", "told"), RECIPES)
def test_a_wrong_recipe_names_the_place_and_the_way_out(tiny, refused, change, told):
    tiny.recipe |= change
    refused(tiny.file, *told)


def test_a_file_that_is_no_recipe(tiny, refused):
    refused(tiny.say("list.yaml", "- a\n- b\n"), "list.yaml", "mapping")
    refused(tiny.say("broken.yaml", "a: [1, 2\n"), "broken.yaml", "not YAML")
    (tiny.folder / "bytes.yaml").write_bytes(b"\xff\xfe\x00\x80")
    refused(tiny.folder / "bytes.yaml", "bytes.yaml", "not YAML")
    refused(tiny.folder / "none.yaml", "no such recipe")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("steps.optimise.tolerance=1", "optimise"),
        ("steps.optimize.tolerance", "expected a.b=value"),
        ("steps.9.tolerance=1", "there are: optimize"),
        ("name.first.second=1", "name: expected str"),
        ("seed.x.y=1", "seed"),
    ],
)
def test_a_wrong_change_on_the_command_line(tiny, refused, change, told):
    refused(tiny.file, told, words=("--set", change))


def test_more_samples_than_there_are(tiny, call, refused, tmp_path):
    tiny.recipe["data"]["split"]["validation"] = 1000
    refused(tiny.file, "data.split.validation", "1000", "200")
    tiny.recipe["data"]["split"]["validation"] = 100
    tiny.recipe["steps"] = [{"validate": {"samples": 101}}]
    refused(tiny.file, "validate.samples", "101", "100")
    words = ["--data", f"npz:{tiny.samples}", "--samples", "201"]
    said = call("quantize", tiny.model, "-o", tmp_path / "q.onnx", *words)
    assert said.code == 2
    assert "--samples" in said.err
    assert "200" in said.err
    assert not (tmp_path / "q.onnx").exists()


def rows(*shape: int) -> np.ndarray:
    """Samples that differ."""
    return np.arange(np.prod(shape), dtype="f4").reshape(shape)


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"x": np.ones((0, 8), "f4"), "label": np.ones(0, "i8")}, "no samples"),
        ({"x": np.full((200, 8), np.nan, "f4")}, "samples.npz#000000"),
        ({"x": rows(200, 7)}, "[N, 8]"),
        ({"x": rows(200, 8).astype("f8")}, "float64"),
        ({"z": rows(200, 8)}, "'z'"),
        ({"x": rows(200, 8), "label": np.full(200, 3)}, "0 to 2"),
        ({"x": rows(200, 8), "label": np.full(200, -1)}, "label -1"),
        ({"x": np.ones((200, 8), "f4"), "label": np.ones(199, "i8")}, "199"),
        ({"x": np.array([["a"] * 8] * 200)}, "expected numbers"),
    ],
)
def test_samples_that_do_not_fit(tiny, refused, arrays, told):
    tiny.save(**arrays)
    refused(tiny.file, told)


def test_a_file_of_samples_that_is_damaged(tiny, refused):
    tiny.samples.write_bytes(tiny.samples.read_bytes()[:500])
    refused(tiny.file, "samples.npz", "cannot be read")


class Evil:
    """Loading its pickle leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


def test_pickled_samples_are_refused_and_nothing_of_them_runs(tiny, refused, tmp_path):
    mark = tmp_path / "mark"
    np.savez(tiny.samples, x=np.array([Evil(mark)], dtype=object))
    refused(tiny.file, "pickled")
    assert not mark.exists()


def image_model(file: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper, save

    weight = np.random.default_rng(0).standard_normal((192, 2)).astype("f4")
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["middle"]),
            helper.make_node("Relu", ["middle"], ["y"]),
        ],
        "images",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(weight, "w")],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), file)


def test_a_corrupt_image_among_good_ones_is_named(tiny, call, tmp_path):
    image = pytest.importorskip("PIL.Image")
    for number in range(8):
        file = tiny.folder / "images" / ("cat", "dog")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), "uint8")
        image.fromarray(pixels).save(file)
    image_model(tiny.model)
    tiny.recipe["data"] = {"source": "images:images", "split": {"validation": 8}}
    tiny.recipe["steps"] = [{"optimize": {"passes": ["drop-unused"]}}]
    assert call("run", tiny.file, "-o", tmp_path / "good").code == 0
    broken = tiny.folder / "images" / "dog" / "3.png"
    broken.write_bytes(broken.read_bytes()[:60])
    said = call("run", tiny.file, "-o", tmp_path / "out")
    assert said.code == 2
    assert "dog/3.png" in said.err
    assert said.err.splitlines()[-1].startswith("deploypipe: ")
    assert "Traceback" not in said.err
    assert not (tmp_path / "out" / "report.html").exists()
    assert not list((tmp_path / "out").glob("stages/.making-*"))


def test_onnx_files_that_are_no_model(tiny, refused, tmp_path):
    onnx = pytest.importorskip("onnx")
    whole = tiny.model.read_bytes()
    tiny.model.write_bytes(whole[:-40])
    refused(tiny.file, "model.onnx")
    tiny.model.write_bytes(b"")
    refused(tiny.file, "model.onnx")
    model = onnx.load_from_string(whole)
    model.graph.node[1].op_type = "NoSuchOperator"
    onnx.save(model, tiny.model)
    refused(tiny.file, "model.onnx", "NoSuchOperator")
    model = onnx.load_from_string(whole)
    del model.graph.node[2]
    onnx.save(model, tiny.model)
    refused(tiny.file, "model.onnx")


def test_external_data_outside_of_the_folder_are_not_read(tiny, refused, tmp_path):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(tiny.model)
    onnx.save(model, tiny.model, save_as_external_data=True, location="weights", size_threshold=0)
    outside = tmp_path / "weights"
    (tiny.folder / "weights").rename(outside)
    model = onnx.load(tiny.model, load_external_data=False)
    for location in ("../weights", str(outside)):
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                entry.value = location if entry.key == "location" else entry.value
        tiny.model.write_bytes(model.SerializeToString())
        refused(tiny.file, "outside")
    (tiny.folder / "weights").symlink_to(outside)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = "weights" if entry.key == "location" else entry.value
    tiny.model.write_bytes(model.SerializeToString())
    refused(tiny.file, "model.onnx")


@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_a_target_that_is_not_here_says_what_to_install(tiny, refused, name):
    from deploypipe.runtime import TARGETS

    if TARGETS.build(name).missing() is None:
        pytest.skip(f"{name} is here")
    tiny.recipe["target"] = name
    refused(tiny.file, "target", "install", code=4)


@pytest.mark.parametrize("out", ["file/out", "file", "/proc/nothing/out"])
def test_an_output_that_cannot_be_written(tiny, call, tmp_path, out):
    (tmp_path / "file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    tiny.file.touch()
    said = call("run", tiny.file, "-o", tmp_path / out)
    assert said.code == 2, said
    assert "cannot write" in said.err
    assert Path(out).name in said.err
    assert sorted(set(tmp_path.rglob("*")) - {tiny.folder / "recipe.yaml"}) == before
    said = call("optimize", tiny.model, "-o", tmp_path / out / "m.onnx")
    assert said.code == 2, said
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_is_told_and_leaves_nothing_half(wide, call, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(full)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        said = call("run", wide.file, "-o", full / "out")
        left = list((full / "out" / "stages").rglob("*"))
    finally:
        subprocess.run(["umount", str(full)], check=True)
    assert said.code == 2, said
    assert "no space is left" in said.err
    assert left == []
    assert "Traceback" not in said.err


def test_one_flipped_byte_of_a_bundle_is_found_and_its_file_named(tiny, call, tmp_path):
    bundle = tmp_path / "bundle"
    assert call("pack", tiny.model, "-o", bundle, "--data", f"npz:{tiny.samples}").code == 0
    assert call("verify", bundle).code == 0
    for file in sorted(bundle.iterdir()):
        whole = file.read_bytes()
        middle = len(whole) // 2
        file.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        said = call("verify", bundle, "--json")
        assert said.code == 5, file
        assert file.name in said.json["error"]
        file.write_bytes(whole)
    assert call("verify", bundle).code == 0


BUILDERS = """
import torch
from torch import nn


def good(outputs=3):
    return nn.Linear(8, outputs)


def raising():
    raise RuntimeError("out of ideas")


def nothing():
    return None


number = 7
"""


class TestTorch:
    """Models that a function builds, and their checkpoints."""

    @pytest.fixture
    def recipe(self, tiny):
        pytest.importorskip("torch")
        tiny.say("builders.py", BUILDERS)
        data = np.load(tiny.samples)
        tiny.save(input=data["x"], label=data["label"])
        tiny.recipe["steps"] = ["export"]
        return tiny

    @pytest.mark.parametrize(
        ("build", "told"),
        [
            ("none.py:good", "none.py"),
            ("builders.py:goood", "did you mean 'good'?"),
            ("builders.py:raising", "RuntimeError: out of ideas"),
            ("builders.py:nothing", "not a torch.nn.Module"),
            ("builders.py:number", "no function 'number'"),
            ("builders.py", "FUNCTION"),
            ("no_such_module:good", "no_such_module"),
        ],
    )
    def test_a_model_that_cannot_be_built(self, recipe, refused, build, told):
        recipe.recipe["model"] = {"build": build}
        refused(recipe.file, "model.build", told)

    def test_a_wrong_argument(self, recipe, refused):
        recipe.recipe["model"] = {"build": "builders.py:good", "args": {"output": 3}}
        refused(recipe.file, "model.build", "output")

    def test_a_model_file_that_does_not_parse(self, recipe, refused):
        recipe.say("builders.py", "def good(:\n")
        recipe.recipe["model"] = {"build": "builders.py:good"}
        refused(recipe.file, "model.build", "SyntaxError")

    def test_too_few_answers_for_the_labels(self, recipe, refused):
        recipe.recipe["model"] = {"build": "builders.py:good", "args": {"outputs": 2}}
        refused(recipe.file, "labels", "0 to 1")

    def test_samples_that_the_model_cannot_take(self, recipe, refused):
        recipe.save(input=rows(200, 5))
        recipe.recipe["model"] = {"build": "builders.py:good"}
        refused(recipe.file, "cannot take the samples", "[2, 5]")

    @pytest.mark.parametrize(
        ("state", "told"),
        [
            ({"weight": (3, 8), "bais": (3,)}, ["missing: bias", "unexpected: bais"]),
            ({"weight": (4, 8), "bias": (3,)}, ["weight is [4, 8], the model has [3, 8]"]),
            ({"weight": (3, 8)}, ["missing: bias"]),
        ],
    )
    def test_a_checkpoint_that_does_not_fit(self, recipe, refused, state, told):
        import torch

        file = recipe.folder / "weights.pt"
        torch.save({name: torch.zeros(shape) for name, shape in state.items()}, file)
        recipe.recipe["model"] = {"build": "builders.py:good", "weights": "weights.pt"}
        refused(recipe.file, "weights.pt", "model.weights", *told)

    def test_a_checkpoint_that_needs_code_is_refused_and_its_code_does_not_run(
        self, recipe, refused, tmp_path
    ):
        import torch

        mark = tmp_path / "mark"
        recipe.recipe["model"] = {"build": "builders.py:good", "weights": "weights.pt"}
        torch.save({"weight": Evil(mark)}, recipe.folder / "weights.pt")
        refused(recipe.file, "model.weights", "refused", "safetensors")
        (recipe.folder / "weights.pt").write_bytes(pickle.dumps(Evil(mark)))
        refused(recipe.file, "model.weights")
        assert not mark.exists()

    @pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
    def test_a_damaged_checkpoint(self, recipe, refused, name):
        (recipe.folder / name).write_bytes(b"neither this nor that")
        recipe.recipe["model"] = {"build": "builders.py:good", "weights": name}
        refused(recipe.file, "model.weights", name)
