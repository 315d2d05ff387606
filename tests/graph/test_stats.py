from __future__ import annotations

import numpy as np
import onnx_ir as ir

from deploypipe.graph.files import to_bytes
from deploypipe.graph.stats import stats


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def test_a_convolution_is_counted_by_hand(parse):
    model = parse(
        """g (float[batch,4,8,8] x) => (float[batch,6,4,4] y) {
        y = Conv <group = 2, strides = [2,2], pads = [1,1,1,1]> (x, w, b)}""",
        w=ones(6, 2, 3, 3),
        b=ones(6),
    )
    count = stats(model)
    assert count.parameters == 6 * 2 * 9 + 6
    assert count.macs == 6 * 4 * 4 * 2 * 9
    assert (count.nodes, count.ops, count.bytes) == (1, {"Conv": 1}, 4 * 114)
    assert count.quantized == 0
    assert stats(model, batch=5).macs == 5 * count.macs


def test_a_transposed_convolution_is_counted_by_hand(parse):
    model = parse(
        """g (float[N,4,5,5] x) => (float[N,3,10,10] y) {
        y = ConvTranspose <strides = [2,2], kernel_shape = [2,2]> (x, w)}""",
        w=ones(4, 3, 2, 2),
    )
    assert stats(model).macs == 4 * 25 * 3 * 4


def test_matrix_products_are_counted_by_hand(parse):
    model = parse(
        """g (float[N,7] x) => (float[N,3] y) {
        h = Gemm <transB = 1> (x, w, b)
        y = MatMul(h, v)}""",
        w=ones(5, 7),
        b=ones(5),
        v=ones(5, 3),
    )
    assert stats(model).macs == 5 * 7 + 5 * 3
    assert stats(model).parameters == 35 + 5 + 15


def test_a_quantized_model_has_the_parameters_of_the_float_one(parse):
    model = parse(
        """g (float[N,2,4,4] x) => (float[N,3,4,4] y) {
        q = QuantizeLinear(x, xs, xz)
        d = DequantizeLinear(q, xs, xz)
        w = DequantizeLinear <axis = 0> (wq, ws, wz)
        b = DequantizeLinear <axis = 0> (bq, ws, bz)
        y = Conv(d, w, b)}""",
        xs=np.float32(0.5),
        xz=np.uint8(128),
        wq=np.ones((3, 2, 1, 1), np.int8),
        ws=ones(3),
        wz=np.zeros(3, np.int8),
        bq=np.ones(3, np.int32),
        bz=np.zeros(3, np.int32),
    )
    count = stats(model)
    assert count.parameters == 3 * 2 + 3
    assert count.macs == 3 * 2 * 16
    assert count.quantized == 1


def test_running_statistics_bounds_and_shapes_are_no_parameters(parse):
    model = parse(
        """g (float[N,2] x) => (float[N,2] y) {
        h = BatchNormalization(x, scale, shift, mean, var)
        zero = Constant <value = float {0.0}> ()
        c = Clip(h, zero, high)
        a = Add(c, zero)
        s = Reshape(a, shape)
        y = Mul(s, learned)}""",
        scale=ones(2),
        shift=ones(2),
        mean=ones(2),
        var=ones(2),
        high=np.float32(6),
        shape=np.array([-1, 2]),
        learned=np.float32(2),
    )
    assert stats(model).parameters == 2 + 2 + 1


def test_shared_weights_count_once(parse):
    model = parse(
        "g (float[N,3] x) => (float[N,3] y) {h = MatMul(x, w)\n y = MatMul(h, w)}", w=ones(3, 3)
    )
    assert (stats(model).parameters, stats(model).macs) == (9, 18)


def test_an_unknown_size_gives_no_number_but_a_reason(parse):
    model = parse("g (float[N,T,3] x) => (float[N,T,3] y) {y = MatMul(x, w)}", w=ones(3, 3))
    count = stats(model)
    assert count.macs is None and count.quantized is None
    assert "the shapes of MatMul" in str(count.why)


def test_counting_changes_nothing(parse):
    model = parse("g (float[N,3] x) => (float[N,3] y) {y = MatMul(x, w)}", w=ones(3, 3))
    before = to_bytes(model)
    stats(model)
    assert to_bytes(model) == before


def test_stale_noted_shapes_are_not_believed(parse):
    model = parse(
        "g (float[N,3] x) => (float[N,2] y) {h = MatMul(x, w)\n y = MatMul(h, v)}",
        w=ones(3, 4),
        v=ones(4, 2),
    )
    model.graph[0].outputs[0].shape = ir.Shape([1, 400])
    assert stats(model).macs == 12 + 8
