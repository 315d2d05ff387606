from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from deploypipe.quantize.params import QParams, WeightParams
from deploypipe.quantize.plan import QuantPlan
from deploypipe.quantize.profile import Kind
from deploypipe.quantize.saturation import (
    Saturation,
    _places,
    _rows,
    saturated,
    saturation,
    warning,
)
from deploypipe.quantize.units import Unit

RNG = np.random.default_rng(7)


def test_pairs_are_added_in_16_bits():
    activations = np.array([[255, 255, 1, 2], [10, 20, 30, 40]], np.int32)
    weights = np.array([[127, 127, 1, 1], [-127, -127, 0, 3]], np.int32)
    assert saturated(activations, weights).tolist() == [
        [32767 + 3, -32768 + 6],
        [127 * 30 + 70, -127 * 30 + 120],
    ]


def test_opposite_signs_stay_within():
    activations, weights = np.full((1, 2), 255, np.int32), np.array([[127, -127]], np.int32)
    assert saturated(activations, weights).tolist() == [[0]]


def unit_of(kind: Kind, axis: int = 0) -> Unit:
    return Unit(kind, "n", "Conv", ("x",), "y", "y", weight="w", axis=axis)


def model_of(weight: np.ndarray, **attributes: object) -> ir.Model:
    rank = weight.ndim
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="n", **attributes)
    kinds = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None] * rank) for n in "xy"]
    stored = onnx.numpy_helper.from_array(weight.astype(np.float32), "w")
    graph = helper.make_graph([node], "g", kinds[:1], kinds[1:], [stored])
    opset = [helper.make_opsetid("", 17)]
    return ir.serde.deserialize_model(helper.make_model(graph, opset_imports=opset, ir_version=8))


def plan_of(unit: Unit, channels: int, zero: int) -> QuantPlan:
    weights = WeightParams((1.0,) * channels, unit.axis, 127)
    return QuantPlan((unit,), {"x": QParams(1.0, zero)}, {"y": weights}, {})


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"pads": [1, 0, 2, 1]},
        {"strides": [2, 1], "pads": [1, 1, 1, 1]},
        {"dilations": [2, 1]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER"},
        {"group": 2},
    ],
    ids=str,
)
def test_what_is_drawn_of_a_convolution_is_what_it_computes(attributes):
    groups, zero = attributes.get("group", 1), 3
    weight = RNG.integers(-127, 128, (4, 4 // groups, 3, 2))
    array = RNG.integers(0, 256, (1, 4, 6, 5)).astype(np.uint8)
    unit, model = unit_of(Kind.CONV), model_of(weight, **attributes)
    rows = _rows(model, plan_of(unit, 4, zero), unit)
    parts = _places(model.graph[0], unit, array, rows, zero, np.random.default_rng(0))
    padded = [np.pad(a, ((0, 0), (0, a.shape[1] % 2))) for a, _ in parts]
    sums = [a @ part.T - zero * part.sum(1) for a, (_, part) in zip(padded, parts, strict=True)]
    node = helper.make_node("ConvInteger", ["x", "w", "z"], ["y"], **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, array.shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [None] * 4)],
        [
            onnx.numpy_helper.from_array(weight.astype(np.int8), "w"),
            onnx.numpy_helper.from_array(np.uint8(zero), "z"),
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (expected,) = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": array})
    got = np.concatenate(sums, axis=1).T.reshape(expected[0].shape)
    np.testing.assert_array_equal(got, expected[0])


def test_small_weights_cannot_saturate(target):
    unit, weight = unit_of(Kind.CONV), RNG.integers(-64, 65, (2, 4, 1, 1))
    samples = [{"x": np.full((1, 4, 3, 3), 255, np.float32)}]
    assert not saturation(model_of(weight), plan_of(unit, 2, 0), samples, target)


def test_large_ones_do_where_the_activations_are_large(target):
    unit, weight = unit_of(Kind.CONV), np.full((2, 4, 1, 1), 127)
    model, plan = model_of(weight), plan_of(unit, 2, 0)
    bright = [{"x": np.full((1, 4, 3, 3), 255, np.float32)}]
    found = saturation(model, plan, bright, target)["n"]
    assert found.pairs == 1 and found.sums == 1
    # 2 * 32767 instead of 4 * 255 * 127 = 129540: the rest is the error.
    assert found.sqnr_db == pytest.approx(20 * np.log10(129540 / (129540 - 65534)))
    dark = [{"x": np.full((1, 4, 3, 3), 100, np.float32)}]
    assert saturation(model, plan, dark, target)["n"].sums == 0


def test_a_kernel_for_single_channels_adds_in_32_bits(target):
    unit, weight = unit_of(Kind.CONV), np.full((4, 1, 3, 3), 127)
    samples = [{"x": np.full((1, 4, 3, 3), 255, np.float32)}]
    model = model_of(weight, group=4)
    assert not saturation(model, plan_of(unit, 4, 0), samples, target)


def test_a_warning_names_the_worst_unit():
    found = {"a": Saturation(0.1, 0.1, 12.3), "b": Saturation(0.1, 0.1, 35.0)}
    (told,) = warning({**found, "c": Saturation(0.1, 0.0, 300.0)})
    assert "sums of 2 units" in told and "'a', 12 dB" in told and "cpu-avx2" in told
    assert not warning({"c": Saturation(0.1, 0.0, 300.0)})
    (told,) = warning(found, pair_limit=128)  # the plan broke its own limit
    assert "sums of 2 units" in told and "cpu-avx2" not in told
