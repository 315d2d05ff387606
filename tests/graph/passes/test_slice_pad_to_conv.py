from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from deploypipe.graph.check import random_feeds
from deploypipe.graph.passes.slice_pad_to_conv import SlicePadToConv
from deploypipe.graph.shapes import infer_shapes

FAR = 2**63 - 1
TEXT = """g (float[N,3,5,4] x) => (float[N,C,P,Q] y) {
    s = Slice(x, starts, ends, axes, steps)
    y = Pad(s, pads, zero)}"""


def window(start: int = 0, end: int = FAR, axes: tuple[int, ...] = (2, 3)) -> dict[str, np.ndarray]:
    rows = {"starts": [start] * len(axes), "ends": [end] * len(axes)}
    return {k: np.array(v) for k, v in {**rows, "axes": axes, "steps": [2] * len(axes)}.items()}


PADS = {"pads": np.array([0, 1, 0, 0, 0, 2, 0, 0]), "zero": np.float32(0)}


@pytest.fixture
def turned(parse, evaluate, ops):
    """The model after the pass, which must answer the same to the last bit."""

    def run(text: str, **weights: np.ndarray) -> ir.Model:
        before, after = parse(text, **weights), parse(text, **weights)
        infer_shapes(after)
        assert SlicePadToConv()(after).modified and ops(after) == ["Conv"]
        feeds = random_feeds(before, batch=2)
        np.testing.assert_array_equal(evaluate(after, feeds)["y"], evaluate(before, feeds)["y"])
        return after

    return run


def test_the_shortcut_is_a_convolution(turned):
    conv = turned(TEXT, **window(), **PADS).graph[0]
    assert conv.attributes["strides"].as_ints() == (2, 2)
    weights = conv.inputs[1].const_value.numpy()
    assert weights.shape == (6, 3, 1, 1) and np.argwhere(weights[..., 0, 0]).tolist() == [
        [1, 0], [2, 1], [3, 2],
    ]  # fmt: skip


def test_one_slice_per_axis_is_the_same(turned):
    two = "r = Slice(x, starts, ends, rows, steps)\ns = Slice(r, starts, ends, columns, steps)"
    text = TEXT.replace("s = Slice(x, starts, ends, axes, steps)", two)
    axes = {"rows": np.array([2]), "columns": np.array([3])}
    one = {name: array[:1] for name, array in window().items() if name != "axes"}
    assert turned(text, **one, **axes, **PADS).graph[0].attributes["strides"].as_ints() == (2, 2)


def test_axes_may_be_counted_from_the_end(turned):
    conv = turned(TEXT, **window(end=4, axes=(-1,)), **PADS).graph[0]
    assert conv.attributes["strides"].as_ints() == (1, 2)


def test_one_axis_may_keep_all_its_places(turned):
    conv = turned(TEXT, **window(axes=(2,)), **PADS).graph[0]
    assert conv.attributes["strides"].as_ints() == (2, 1)


def test_an_end_behind_the_last_place_is_the_whole_axis(turned):
    turned(TEXT, **window(end=5), **PADS)


def test_without_a_fill_it_is_zero(turned):
    turned(TEXT.replace(", zero", ""), **window(), pads=PADS["pads"])


def test_half_precision_stays_half_precision(parse):
    model = parse(TEXT.replace("float[", "float16["), **window(), **{**PADS, "zero": np.float16(0)})
    assert SlicePadToConv()(model).modified
    assert model.graph[0].inputs[1].dtype == ir.DataType.FLOAT16


def left_alone(parse, text: str, **weights: np.ndarray) -> list[str]:
    """The refusals of a pass that changed nothing."""
    model = parse(text, **weights)
    infer_shapes(model)
    before = [node.op_type for node in model.graph]
    outcome = SlicePadToConv()(model)
    assert not outcome.modified and [node.op_type for node in model.graph] == before
    return outcome.refusals


MORE = "Pad '' stays: it pads more than channels, or not with constant zeros"


@pytest.mark.parametrize(
    "change",
    [
        {"zero": np.float32(1)},
        {"pads": np.array([0, 1, 1, 0, 0, 2, 0, 0])},
        {"pads": np.array([0, -1, 0, 0, 0, 2, 0, 0])},
    ],
    ids=["fill", "spatial", "crop"],
)
def test_another_padding_is_refused_with_its_reason(parse, change):
    assert left_alone(parse, TEXT, **window(), **{**PADS, **change}) == [MORE]


def test_another_mode_is_refused_with_its_reason(parse):
    text = TEXT.replace("Pad(", 'Pad <mode = "edge"> (')
    assert left_alone(parse, text, **window(), **PADS) == [MORE]


@pytest.mark.parametrize("dtype", ["int64", "double"])
def test_other_types_are_refused_with_their_reason(parse, dtype):
    text = TEXT.replace("float[", f"{dtype}[")
    weights = {**window(), **PADS, "zero": np.array(0, {"double": "float64"}.get(dtype, dtype))}
    why = f"it moves {dtype}, for which runtimes have no convolution"
    assert left_alone(parse, text, **weights) == [f"Pad '' stays: {why}"]


@pytest.mark.parametrize(
    "change",
    [{"start": 1}, {"end": 3}, {"axes": (1, 2)}, {"end": -1}],
    ids=["start", "end", "channels", "from the end"],
)
def test_another_window_is_left_alone(parse, change):
    assert left_alone(parse, TEXT, **window(**change), **PADS) == []


def test_a_slice_with_another_reader_is_left_alone(parse):
    text = TEXT.replace("y) {", "y, float[N,3,P,Q] z) {").replace("y = ", "z = Relu(s)\ny = ")
    assert left_alone(parse, text, **window(), **PADS) == []


def test_a_slice_that_is_a_graph_output_is_left_alone(parse):
    text = TEXT.replace("y) {", "y, float[N,3,P,Q] s) {")
    assert left_alone(parse, text, **window(), **PADS) == []


def test_a_pad_of_the_old_form_is_left_alone(parse):
    text = TEXT.replace("Pad(s, pads, zero)", "Pad <pads = [0,1,0,0,0,2,0,0]> (s)")
    model = parse(text, opset=10, **window())
    infer_shapes(model)
    assert not SlicePadToConv()(model).modified


def test_a_pad_alone_is_left_alone(parse):
    text = "g (float[N,3,5,4] x) => (float[N,6,5,4] y) {y = Pad(x, pads, zero)}"
    assert left_alone(parse, text, **PADS) == []
