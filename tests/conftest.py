"""A tiny model with samples and a recipe; the command line in this process and in another."""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SHORT = {"validate": {"rounds": 3, "seconds": 0.2}}


@pytest.fixture(scope="session")
def chain() -> Callable[[int], Any]:
    """Number of products of 64x64 weights, one after the other -> model; longer is slower."""
    import onnx.parser

    def make(length: int) -> Any:
        body = " ".join(f"h{i + 1} = MatMul(h{i}, w)" for i in range(length - 1))
        weights = ", ".join(["0.015625"] * 4096)
        return onnx.parser.parse_model(
            f"""<ir_version: 10, opset_import: ["" : 20]>
            chain (float[N, 64] h0) => (float[N, 64] y)
            <float[64, 64] w = {{{weights}}}> {{ {body} y = MatMul(h{length - 1}, w) }}"""
        )

    return make


@dataclass(frozen=True)
class Said:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Tiny:
    """A folder with an ONNX model that is right on all of its samples, and a recipe."""

    folder: Path
    recipe: dict[str, Any]

    @property
    def model(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def samples(self) -> Path:
        return self.folder / "samples.npz"

    @property
    def file(self) -> Path:
        """The recipe as it is now, on disk; JSON is YAML."""
        path = self.folder / "recipe.yaml"
        path.write_text(json.dumps(self.recipe))
        return path

    def save(self, name: str = "samples.npz", **arrays: np.ndarray) -> str:
        np.savez(self.folder / name, allow_pickle=False, **arrays)
        return f"npz:{self.folder / name}"

    def say(self, name: str, text: str) -> Path:
        """Write a text file into the folder."""
        (self.folder / name).write_text(text)
        return self.folder / name


def write_tiny(folder: Path, dead: int = 0) -> Tiny:
    """``y = relu(relu(x @ u) @ v) @ w``; ``dead`` channels of both hidden layers are zero."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(0)
    sizes = {"u": (8, 6), "v": (6, 6), "w": (6, 3)}
    u, v, w = (generator.standard_normal(size).astype(np.float32) for size in sizes.values())
    x = generator.standard_normal((200, 8)).astype(np.float32)
    padded = {
        "u": np.pad(u, ((0, 0), (0, dead))),
        "v": np.pad(v, ((0, dead), (0, dead))),
        "w": np.pad(w, ((0, dead), (0, 0))),
    }
    nodes = [
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("MatMul", ["same", "u"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "v"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(array, name) for name, array in padded.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    data = {"source": "npz:samples.npz", "split": {"calibration": 50, "validation": 100}}
    recipe = {"name": "tiny", "model": {"onnx": "model.onnx"}, "data": data}
    recipe |= {"target": {"cpu": {"threads": 1}}, "steps": ["optimize"]}
    tiny = Tiny(folder, recipe)
    label = (np.maximum(np.maximum(x @ u, 0) @ v, 0) @ w).argmax(1)
    tiny.save(x=x, label=label)
    return tiny


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    return write_tiny(tmp_path / "given")


@pytest.fixture
def wide(tmp_path: Path) -> Tiny:
    """As ``tiny``, with so many dead channels that without them it is faster on any host."""
    return write_tiny(tmp_path / "given", dead=762)


@pytest.fixture
def short() -> dict[str, Any]:
    """A validate step of a second."""
    return dict(SHORT)


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """The command line in this process; its plug-ins do not stay."""
    from deploypipe import cli
    from deploypipe.core import shelf

    def run(*words: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["deploypipe", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        return Said(int(end.value.code or 0), said.out, said.err)

    before = {kind: dict(one.added) for kind, one in shelf.ALL.items()}
    yield run
    for kind, one in shelf.ALL.items():
        one.added.clear()
        one.added.update(before.get(kind, {}))


ALREADY_IMPORTED = ["onnxruntime", "torch", "deploypipe.verbs", "deploypipe.stages.validate"]
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(ALREADY_IMPORTED)  # an import of torch takes seconds, a fork does not

PROCESS = """
import os, signal, sys
from deploypipe import cli

signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it
os.chdir(folder)
os.environ.update(environment)
for number, path in ((1, out), (2, err)):
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
sys.argv = ["deploypipe", *words]
try:
    cli.main()
finally:
    sys.stdout.flush()
"""


class Running:
    """A command at work in a process of its own."""

    def __init__(self, folder: Path, words: list[str], environment: dict[str, str]) -> None:
        self.log = Path(tempfile.mkdtemp(prefix="command-", dir=folder))
        script = self.log / "process.py"
        script.write_text(PROCESS)
        given = {"folder": str(folder), "words": words, "environment": environment}
        given |= {"out": str(self.log / "out"), "err": str(self.log / "err")}
        self.process = FORKS.Process(target=runpy.run_path, args=(str(script), given))
        self.process.start()

    @property
    def alive(self) -> bool:
        return self.process.is_alive()

    def send(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def end(self, seconds: float = 120) -> Said:
        self.process.join(seconds)
        code = self.process.exitcode
        out, err = ((self.log / name).read_text() for name in ("out", "err"))
        assert code is not None, f"still running after {seconds} s: {err}"
        return Said(code, out, err)


@dataclass(frozen=True)
class Command:
    """The command line in a process of its own, which can be killed."""

    folder: Path

    def start(self, *words: object, **environment: str) -> Running:
        return Running(self.folder, [str(word) for word in words], environment)

    def __call__(self, *words: object, **environment: str) -> Said:
        return self.start(*words, **environment).end()


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.inner = nn.Conv2d(width, 2 * width, 3, padding=1, bias=False)
        self.inner_norm = nn.BatchNorm2d(2 * width)
        self.outer = nn.Conv2d(2 * width, width, 3, padding=1, bias=False)
        self.outer_norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, classes)

    def forward(self, image):
        x = self.norm(self.stem(image)).relu()
        y = self.inner_norm(self.inner(x)).relu()
        x = (x + self.outer_norm(self.outer(y))).relu()
        return self.head(x.mean((2, 3)))


def net(width=8, classes=4):
    return Net(width, classes)
"""


@pytest.fixture(scope="session")
def net_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file with ``net``: a residual network of three convolutions on 8x8 images."""
    import torch

    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("net") / "tiny_net.py"
    path.write_text(NET)
    return path


@pytest.fixture(scope="session")
def net_samples(net_file: Path) -> Path:
    """120 images of 4 classes that are easy to tell apart, as an archive of arrays."""
    generator = np.random.default_rng(0)
    label = generator.integers(0, 4, 120)
    patterns = generator.standard_normal((4, 3, 8, 8))
    image = patterns[label] + 0.2 * generator.standard_normal((120, 3, 8, 8))
    path = net_file.with_name("samples.npz")
    np.savez(path, allow_pickle=False, image=image.astype(np.float32), label=label)
    return path


@pytest.fixture(scope="session")
def net_data(net_samples: Path) -> Any:
    from deploypipe.data import DataRecipe, open_data

    split = {"calibration": 24, "validation": 40}
    return open_data(DataRecipe.model_validate({"source": f"npz:{net_samples}", "split": split}))


@pytest.fixture
def new_net(net_file: Path) -> Callable[[], Any]:
    """Make the network; always with the same weights, and norms that have seen something."""
    return lambda: _net(net_file)


def _net(net_file: Path) -> Any:
    import torch

    from deploypipe.compress.torch_model import Builder, TorchModel

    torch.manual_seed(0)
    builder = Builder(f"{net_file}:net")
    module = builder.build()
    for name, value in module.state_dict().items():
        if "norm" in name and value.ndim:
            value.copy_(torch.rand(value.shape) + 0.2)
    return TorchModel(module.eval(), builder)


@pytest.fixture(scope="session")
def net_desk(net_data: Any) -> Callable[..., Any]:
    """A desk over the samples, at an output folder."""
    from dataclasses import replace

    from deploypipe.core.progress import Silent
    from deploypipe.runtime.targets.cpu import Cpu
    from deploypipe.stages import Desk

    def make(out: Path, **changes: Any) -> Any:
        desk = Desk(out, net_data, None, Cpu(1), 0, Silent(), "tiny")
        out.mkdir(parents=True, exist_ok=True)
        return replace(desk, **changes)

    return make


@pytest.fixture(scope="session")
def net_torch(net_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The network as an artifact."""
    from deploypipe.core.artifact import Artifact, Kind

    folder = tmp_path_factory.mktemp("torch") / "artifact"
    _net(net_file).save(folder)
    return Artifact.of(Kind.TORCH, folder, "source")


@pytest.fixture(scope="session")
def net_onnx(net_torch: Any, net_desk: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Its export: the reference of a run."""
    from deploypipe.stages.export import Export

    return Export().run(net_torch, net_desk(tmp_path_factory.mktemp("onnx") / "artifact"))


@pytest.fixture(scope="session")
def net_pruned(net_torch: Any, net_desk: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Half of its channels masked."""
    from deploypipe.stages.prune import Prune

    stage = Prune(amount=0.5, round_to=2)
    return stage.run(net_torch, net_desk(tmp_path_factory.mktemp("pruned") / "artifact"))


@pytest.fixture
def given(tiny):
    """Settings with samples; the folder of inputs must not change."""
    from deploypipe.core.files import digest_tree
    from deploypipe.verbs import Settings

    before = digest_tree(tiny.folder)
    yield Settings(f"npz:{tiny.samples}", target={"cpu": {"threads": 1}})
    assert digest_tree(tiny.folder) == before
