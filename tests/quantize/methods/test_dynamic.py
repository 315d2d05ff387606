from __future__ import annotations

import numpy as np

from deploypipe.graph.files import to_bytes


def test_the_runtime_fuses_what_is_emitted(by, transformer, noise, kernels):
    done = by("dynamic", transformer)
    assert kernels(done.model).count("DynamicQuantizeMatMul") == 2
    assert noise(transformer, done.model) < 0.03
    assert len(to_bytes(done.model)) < 0.35 * len(to_bytes(transformer))
    domains = {node.domain for node in done.model.graph}
    assert domains == {""}  # only the runtime's own graph has operators of its own


def test_units_that_read_the_same_tensor_share_its_rounding(by, parse, constants, noise, kernels):
    text = """agraph (float[N,3,6,6] x) => (float[N,3,6,1] y) {
      [q] a = MatMul(x, w) [k] b = MatMul(x, v) [sum] s = Add(a, b) [out] y = MatMul(s, u) }"""
    rng = np.random.default_rng(0)
    shapes = {"w": (6, 50), "v": (6, 50), "u": (50, 1)}
    model = constants(parse(text), **{n: rng.normal(size=s) for n, s in shapes.items()})
    done = by("dynamic", model)
    ops = [node.op_type for node in done.model.graph]
    assert ops.count("DynamicQuantizeLinear") == 2
    assert "MatMulInteger" not in kernels(done.model)
    assert noise(model, done.model) < 0.05


def test_a_reader_that_comes_first_has_its_rounding_before_it(by, parse, constants, noise):
    """The sums come in another order than the products, and the first product is done last."""
    text = """agraph (float[N,3,6,6] x) => (float[N,3,6,50] y) {
      a = MatMul(x, w) b = MatMul(x, v) d = Add(b, q) c = Add(a, p) y = Add(c, d) }"""
    rng = np.random.default_rng(0)
    shapes = {"w": (6, 50), "v": (6, 50), "p": (50,), "q": (50,)}
    model = constants(parse(text), **{n: rng.normal(size=s) for n, s in shapes.items()})
    done = by("dynamic", model)
    made = set()
    for node in done.model.graph:
        made |= set(node.outputs)
        read = [v for v in node.inputs if v is not None and v.producer() is not None]
        assert made >= set(read), node.op_type
    assert [node.op_type for node in done.model.graph].count("DynamicQuantizeLinear") == 1
    assert noise(model, done.model) < 0.05


def test_convolutions_stay_float_and_say_so(by, images, noise):
    done = by("dynamic", images)
    assert done.changes == ["1 Gemm and MatMul with int8 weights and dynamic activations"]
    assert any("Conv 'second' stays float" in line for line in done.refusals)
    assert noise(images, done.model) < 0.03
