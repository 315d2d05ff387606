"""Tiny models that one can read."""

import numpy as np
import onnx.parser
import pytest

DENSE = """
<ir_version: 10, opset_import: ["" : 20]>
dense (float[N, 3] x) => (float[N, 2] y)
<float[3, 2] w = {1, 0, 0, 1, 1, 1}> {
    h = MatMul(x, w)
    y = Relu(h)
}
"""


@pytest.fixture
def model() -> bytes:
    """y = relu(x @ w), with x [N, 3] and y [N, 2]."""
    return onnx.parser.parse_model(DENSE).SerializeToString()


@pytest.fixture
def feeds() -> dict[str, np.ndarray]:
    return {"x": np.array([[1, 2, 3], [-9, 0, 1]], np.float32)}
