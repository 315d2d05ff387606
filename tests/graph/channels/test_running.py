from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
import pytest

from deploypipe.graph.channels import running
from deploypipe.graph.channels.running import run_on


def node(op: str, dtype: ir.DataType = ir.DataType.FLOAT, opset: int = 20, domain: str = "",
         others: tuple = (), **attributes) -> ir.Node:  # fmt: skip
    """A node on a tensor; the other inputs are constants, None or "computed"."""
    x = ir.Value(name="x", type=ir.TensorType(dtype), shape=ir.Shape([3]))
    inputs: list[ir.Value | None] = [x]
    for number, array in enumerate(others):
        value = None
        if array is not None:
            value = ir.Value(name=f"c{number}", type=ir.TensorType(ir.DataType.FLOAT))
        if isinstance(array, np.ndarray | np.generic):
            value = ir.Value(name=f"c{number}", const_value=ir.tensor(np.asarray(array)))
            value.type = ir.TensorType(value.const_value.dtype)
        inputs.append(value)
    made = ir.node(op, inputs, attributes, domain=domain)
    ir.Graph([x], made.outputs, nodes=[made], opset_imports={"": opset})
    return made


def test_the_op_itself_is_run_in_the_tensors_dtype():
    numbers = np.array([0.0, 1.0, -2.5])
    wanted = 1 / (1 + np.exp(-numbers))
    np.testing.assert_allclose(run_on(node("Sigmoid"), numbers), wanted, rtol=1e-6)
    half = run_on(node("Sigmoid", ir.DataType.FLOAT16), numbers)
    np.testing.assert_array_equal(half, half.astype(np.float16))


def test_attributes_and_other_constants_are_used():
    numbers = np.array([-8.0, 0.2, 9.0])
    clip = node("Clip", others=(np.float32(-1), np.float32(2)))
    np.testing.assert_allclose(run_on(clip, numbers), [-1, 0.2, 2], rtol=1e-6)
    open_below = node("Clip", others=(None, np.float32(2)))
    np.testing.assert_allclose(run_on(open_below, numbers), [-8, 0.2, 2], rtol=1e-6)
    leaky = node("LeakyRelu", alpha=0.5)
    np.testing.assert_allclose(run_on(leaky, numbers), [-4, 0.2, 9], rtol=1e-6)


def test_the_opset_decides_what_an_op_means():
    old = node("Clip", opset=6, min=0.0, max=1.0)
    np.testing.assert_array_equal(run_on(old, np.array([-3.0, 3.0])), [0, 1])


@pytest.mark.parametrize(("op", "step", "beside"), [("Round", 0.5, 0.6), ("Floor", 2.0, 2.1),
                                                    ("Sign", 1e-30, 1.0)])  # fmt: skip
def test_on_a_step_nothing_is_known(op, step, beside):
    found = run_on(node(op), np.array([step, beside]))
    assert np.isnan(found[0]) or op == "Sign"
    assert np.isfinite(found[1])


def test_codes_are_whole_numbers_without_a_neighbourhood():
    dequantize = node("DequantizeLinear", ir.DataType.UINT8,
                      others=(np.float32(0.5), np.uint8(120)))  # fmt: skip
    np.testing.assert_array_equal(
        run_on(dequantize, np.array([120.0, 121.0, 3.0])), [0, 0.5, -58.5]
    )


def test_a_code_at_the_end_of_the_range_is_known():
    quantize = node("QuantizeLinear", others=(np.float32(0.5), np.int8(0)))
    np.testing.assert_array_equal(
        run_on(quantize, np.array([1000.0, -1000.0, 1.1])), [127, -128, 2]
    )


def test_what_cannot_be_run_is_not_known():
    assert np.isnan(run_on(node("NoSuchOp"), np.array([1.0]))).all()
    assert np.isnan(run_on(node("Gelu", domain="com.microsoft"), np.array([1.0]))).all()
    assert np.isnan(run_on(node("Clip", others=("computed",)), np.array([1.0]))).all()
    untyped = node("Relu")
    untyped.inputs[0].type = None
    assert np.isnan(run_on(untyped, np.array([1.0]))).all()


def test_what_is_not_finite_is_not_known_and_nobody_is_warned(recwarn):
    for op in ("Log", "Reciprocal", "Sqrt"):
        assert np.isnan(run_on(node(op), np.array([-1.0, 0.0])))[0 if op != "Reciprocal" else 1]
    assert not recwarn.list


def test_a_result_of_another_shape_is_not_known():
    assert np.isnan(run_on(node("Shape"), np.array([1.0, 2.0]))).all()


def test_nodes_that_are_alike_are_prepared_once():
    running._evaluator.cache_clear()
    for _ in range(5):
        run_on(node("Tanh"), np.array([1.0]))
    run_on(node("Elu", alpha=0.5), np.array([1.0]))
    assert running._evaluator.cache_info().misses == 2


def test_erf_of_doubles_is_good_to_the_last_digits():
    """onnx.reference rounds it to float32, which the float64 proof took for a wrong channel."""
    found = run_on(node("Erf", ir.DataType.DOUBLE), np.array([1.0, -0.5]))
    np.testing.assert_allclose(found, [math.erf(1.0), math.erf(-0.5)], rtol=1e-14)
