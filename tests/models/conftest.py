"""What the tests of ``models/`` share: loading a file by path, exporting, following gradients."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

ROOT = Path(__file__).parents[2]


class Exported:
    """A model's export, without the exporter's optimizer, and a session on it.

    That is the export in which the channels of a model are looked for, so it is the harder one.
    """

    def __init__(self, model: nn.Module, inputs: tuple[Tensor, ...], dynamic: Mapping) -> None:
        self.model = model.eval()
        program = torch.onnx.export(
            self.model, inputs, dynamo=True, optimize=False, dynamic_shapes=dynamic, verbose=False
        )
        self.graph = program.model.graph
        self.session = onnxruntime.InferenceSession(
            program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
        )

    @property
    def ops(self) -> set[str]:
        return {node.op_type for node in self.graph}

    @property
    def inputs(self) -> list[str]:
        return [value.name for value in self.session.get_inputs()]

    def lost(self) -> list[str]:
        """Parameters that are no initializer of the graph under their own name."""
        return sorted(set(dict(self.model.named_parameters())) - set(self.graph.initializers))

    def both(self, *inputs: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """The answers of the exported graph and of the torch model."""
        feeds = {name: x.numpy() for name, x in zip(self.inputs, inputs, strict=True)}
        with torch.inference_mode():
            return self.session.run(None, feeds)[0], self.model(*inputs).numpy()


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data() -> Path:
    folder = Path(os.environ.get("DEPLOYPIPE_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; name their folder in DEPLOYPIPE_DATA")
    return folder


@pytest.fixture(scope="session")
def model_file() -> Callable[[str], ModuleType]:
    """Import ``models/<name>.py`` by path, as the recipe does."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"models_{name}", ROOT / f"models/{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def export() -> type[Exported]:
    return Exported


@pytest.fixture(scope="session")
def parameters() -> Callable[..., int]:
    """How many parameters a build function's model has; the model is built without memory."""

    def count(build: Callable[..., nn.Module], **options: object) -> int:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in build(**options).parameters())

    return count


@pytest.fixture(scope="session")
def without_gradient() -> Callable[..., list[str]]:
    """The parameters that a step of training on ``inputs`` would leave alone."""

    def follow(model: nn.Module, *inputs: Tensor) -> list[str]:
        answer = model.train()(*inputs)
        (answer * torch.randn_like(answer)).sum().backward()
        named = model.named_parameters()
        return [name for name, p in named if p.grad is None or not p.grad.abs().sum() > 0]

    return follow
