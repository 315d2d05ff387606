from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto

from deploypipe.export.residual_branches import branches_of

SHAPES = {
    "w": (4, 4, 1, 1),
    "v": (4, 4, 1, 1),
    "p": (4, 4, 1, 1),
    "s": (4,),
    "b": (4,),
    "m": (4,),
    "q": (4,),
}


def model_of(body: str) -> ir.Model:
    text = f"""<ir_version: 8, opset_import: ["": 17]>
        g (float[N,4,2,2] x) => (float[N,4,2,2] y) {{ {body} }}"""
    proto = onnx.parser.parse_model(text)
    for name, shape in SHAPES.items():
        array = np.ones(shape, np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    assert proto.graph.initializer[0].data_type == TensorProto.FLOAT
    return ir.serde.deserialize_model(proto)


NORM = "BatchNormalization(c, s, b, m, q)"
BLOCK = f"h = Relu(x)\n a = Conv(h, w)\n r = Relu(a)\n c = Conv(r, v)\n n = {NORM}\n y = Add(n, h)"


def names(body: str, parameters: str = "wvpsb") -> list[tuple[str, ...]]:
    return [branch.parameters for branch in branches_of(model_of(body), set(parameters))]


def test_a_path_that_is_added_back_is_a_branch():
    assert names(BLOCK) == [("w", "v", "s", "b")]


def test_it_may_be_either_operand():
    assert names(BLOCK.replace("Add(n, h)", "Add(h, n)")) == [("w", "v", "s", "b")]


def test_of_two_paths_the_longer_one_goes():
    assert names(
        BLOCK.replace("Add(n, h)", "Add(o, n)").replace("a =", "o = Conv(h, p)\n a =")
    ) == [("w", "v", "s", "b")]


def test_a_layer_with_a_bias_is_zero_with_its_bias():
    body = "h = Relu(x)\n a = Conv(h, w, b)\n y = Add(h, a)"
    assert names(body) == [("w", "b")]
    assert not names(body, "w")


@pytest.mark.parametrize(
    "body",
    [
        "h = Relu(x)\n a = Conv(h, w)\n y = Mul(h, a)",
        "h = Relu(x)\n a = Conv(h, w)\n u = Neg(h)\n e = Mul(u, h)\n y = Add(a, e)",
        "h = Relu(x)\n a = Conv(h, w)\n e = Exp(a)\n y = Add(h, e)",
        "h = Relu(x)\n a = Exp(h)\n y = Add(h, a)",
        BLOCK.replace("n =", "y2 = Neg(c)\n n =").replace("Add(n, h)", "Sum(n, h, y2)"),
    ],
    ids=["a gate", "two starts", "not zero at zero", "no layer", "read elsewhere"],
)
def test_other_paths_are_none(body):
    assert not names(body)
