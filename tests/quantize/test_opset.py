from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from deploypipe.core.errors import UserError
from deploypipe.quantize.opset import RAISED, modern

OLD = """agraph (float[N,1,2,2] x) => (float[N,2] y) <float[2,1,1,1] w = {2.0, -1.0}>
  { c = Conv(x, w) [clip] r = Clip<min=0.0, max=6.0>(c) p = GlobalAveragePool(r)
    y = Squeeze<axes=[2, 3]>(p) }"""


def test_an_old_model_is_converted_and_says_so(parse, quantize, target) -> None:
    x = np.random.default_rng(0).normal(size=(20, 1, 2, 2)).astype(np.float32)
    model = parse(OLD, opset=10)
    result = quantize(model, x)
    assert result.changes[0] == "opset 10 became 17: per-channel 8-bit weights need 13"
    assert result.model.graph.opset_imports[""] == RAISED
    assert model.graph.opset_imports[""] == 10
    with target.open(ir.to_proto(result.model).SerializeToString()) as session:
        given = session({"x": x})["y"]
    expected = np.clip(x * np.float32([2, -1]).reshape(2, 1, 1), 0, 6).mean((2, 3))
    np.testing.assert_allclose(given, expected, atol=0.05)


def test_a_model_that_is_new_enough_stays_itself(conv_net) -> None:
    assert modern(conv_net, 13) == (conv_net, [])


def test_onnx_own_domain_has_two_names(conv_net) -> None:
    version = conv_net.graph.opset_imports.pop("")
    conv_net.graph.opset_imports["ai.onnx"] = version
    model, told = modern(conv_net, 13)
    assert (dict(model.opset_imports), told) == ({"": version}, [])
    assert list(conv_net.opset_imports) == ["ai.onnx"]


def test_what_onnx_cannot_convert_is_told(parse, monkeypatch) -> None:
    import onnx

    def fail(*_):
        raise RuntimeError("no adapter for Foo")

    monkeypatch.setattr(onnx.version_converter, "convert_version", fail)
    with pytest.raises(UserError, match="has opset 10.* convert it: no adapter for Foo"):
        modern(parse(OLD, opset=10), 13)
