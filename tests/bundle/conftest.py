"""A small classifier, packed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from deploypipe.bundle.pack import Content, pack
from deploypipe.graph.files import save

ort = pytest.importorskip("onnxruntime")


@pytest.fixture
def classifier():
    proto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 20]>
        g (float[batch,3,4,4] image) => (float[batch,5] logits) {
            flat = Flatten(image)
            logits = MatMul(flat, w)
        }"""
    )
    weight = np.random.default_rng(0).standard_normal((48, 5)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    return ir.serde.deserialize_model(proto)


@pytest.fixture
def model(classifier, tmp_path) -> Path:
    save(classifier, tmp_path / "given" / "m.onnx")
    return tmp_path / "given" / "m.onnx"


@pytest.fixture
def content(model, tmp_path) -> Content:
    images = np.random.default_rng(1).integers(0, 256, (6, 4, 4, 3)).astype(np.uint8)
    feeds = {"image": (images / 255).astype(np.float32).transpose(0, 3, 1, 2)}
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    (tmp_path / "report.html").write_text("<p>proof</p>")
    return Content(
        name="five",
        preprocess={"size": [4, 4], "channels": 3, "scale": 1 / 255, "mean": [0.0], "std": [1.0]},
        classes=["cat", "dog", "hen", "cow", "pig"],
        target={"cpu": {"threads": 2}},
        golden_inputs=feeds,
        golden_outputs={"logits": session.run(None, feeds)[0]},
        verdict={"outcome": "PASS"},
        environment={"cpu": "some", "cores": 2},
        extra={"report.html": tmp_path / "report.html"},
    )


@pytest.fixture
def bundle(model, content, tmp_path) -> Path:
    return pack(model, tmp_path / "bundle", content)


class Session:
    def __init__(self, path: Path) -> None:
        self.session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def __call__(self, feeds):
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(None, dict(feeds)), strict=True))


@pytest.fixture
def open_session():
    return Session
