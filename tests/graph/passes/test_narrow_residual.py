from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from deploypipe.graph.check import random_feeds
from deploypipe.graph.passes.narrow_residual import NarrowResidual

TEXT = """g (float[N,8,5,4] x) => (float[N,8,5,4] y) {
    c = Conv <pads = [1,1,1,1]> (x, w, b)
    f = Relu(c)
    y = Add(x, f)}"""


def branch(*dead: int, channels: int = 8) -> dict[str, np.ndarray]:
    """Weights and bias of small whole numbers; the dead rows are zero, or below it."""
    rng = np.random.default_rng(0)
    w = rng.integers(-3, 4, (channels, 8, 3, 3)).astype(np.float32)
    b = rng.integers(1, 4, channels).astype(np.float32)
    w[list(dead)], b[list(dead)] = 0, -1
    return {"w": w, "b": b}


def whole(model: ir.Model) -> dict[str, np.ndarray]:
    return {name: np.round(2 * x) for name, x in random_feeds(model, batch=2).items()}


@pytest.fixture
def narrowed(parse, evaluate):
    """The model after the pass, which must answer the same to the last bit."""

    def run(text: str, share: float = 0.25, **weights: np.ndarray) -> ir.Model:
        before, after = parse(text, **weights), parse(text, **weights)
        outcome = NarrowResidual(share)(after)
        assert outcome.modified and outcome.changes and not outcome.refusals
        feeds = whole(before)
        expected, given = evaluate(before, feeds), evaluate(after, feeds)
        for name, array in expected.items():
            np.testing.assert_array_equal(given[name], array)
        assert not NarrowResidual(share)(after).modified
        return after

    return run


def test_a_block_of_live_channels_is_padded(narrowed, ops):
    model = narrowed(TEXT, **branch(0, 6, 7))
    assert ops(model) == ["Conv", "Relu", "Pad", "Add"]
    assert model.graph.initializers["w"].shape == (5, 8, 3, 3)
    assert model.graph.initializers["b"].shape == (5,)
    pads = model.graph[2].inputs[1].const_value.numpy().tolist()
    assert pads == [0, 1, 0, 0, 0, 2, 0, 0]


def test_scattered_live_channels_are_gathered(narrowed, ops):
    model = narrowed(TEXT, **branch(1, 4))
    assert ops(model) == ["Conv", "Relu", "Pad", "Gather", "Add"]
    assert model.graph[3].inputs[1].const_value.numpy().tolist() == [0, 6, 1, 2, 6, 3, 4, 5]


def test_the_branch_may_be_either_operand(narrowed, ops):
    model = narrowed(TEXT.replace("Add(x, f)", "Add(f, x)"), **branch(0, 1))
    assert [v.name for v in model.graph[3].inputs][1] == "x"


def test_both_operands_may_be_branches(narrowed, ops):
    text = TEXT.replace("y = Add(x, f)", "d = Conv(x, v)\ny = Add(d, f)")
    v = np.ones((8, 8, 1, 1), np.float32)
    v[[5, 6, 7]] = 0
    model = narrowed(text, **branch(0, 1), v=v)
    assert ops(model).count("Pad") == 2


def test_a_convolution_without_bias_or_relu_will_do(narrowed, ops):
    text = TEXT.replace("(x, w, b)\n    f = Relu(c)", "(x, w)").replace("Add(x, f)", "Add(x, c)")
    assert ops(narrowed(text, w=branch(2, 3)["w"])) == ["Conv", "Pad", "Gather", "Add"]


def test_what_others_read_of_the_weights_stays(narrowed):
    text = TEXT.replace("y) {", "y, float[N,8,5,4] z) {\nz = Conv <pads = [1,1,1,1]> (x, w, b)")
    model = narrowed(text, **branch(0, 1))
    assert model.graph.initializers["w"].shape == (8, 8, 3, 3)


def left_alone(parse, text: str, opset: int = 20, **weights: np.ndarray) -> list[str]:
    """The refusals of a pass that changed nothing."""
    model = parse(text, opset, **weights)
    before = [node.op_type for node in model.graph]
    outcome = NarrowResidual()(model)
    assert not outcome.modified and not outcome.changes
    assert [node.op_type for node in model.graph] == before
    return outcome.refusals


@pytest.mark.parametrize("dead", [(), (3,), tuple(range(8))], ids=["none", "few", "all"])
def test_too_few_or_all_are_left_alone(parse, dead):
    assert left_alone(parse, TEXT, **branch(*dead)) == []


def test_a_share_of_one_in_eight_can_be_asked_for(narrowed):
    narrowed(TEXT, share=0.125, **branch(3))


def test_channels_that_are_zero_in_both_are_left_to_others(parse):
    text = TEXT.replace("y = Add(x, f)", "d = Conv(x, v)\ny = Add(d, f)")
    v = np.ones((8, 8, 1, 1), np.float32)
    v[[0, 1]] = 0
    assert left_alone(parse, text, **branch(0, 1), v=v) == []


def test_a_constant_that_is_not_zero_is_left_alone(parse):
    assert left_alone(parse, TEXT.replace("Relu", "Sigmoid"), **branch(0, 1, 2)) == []


def test_another_reader_is_told(parse):
    text = TEXT.replace("y) {", "y, float[N,8,5,4] z) {").replace("y = ", "z = Neg(c)\ny = ")
    told = "Add '' keeps its branch 'f': 'c' has other readers"
    assert left_alone(parse, text, **branch(0, 1)) == [told]


def test_a_graph_output_is_told(parse):
    text = TEXT.replace("y) {", "y, float[N,8,5,4] f) {")
    told = "Add '' keeps its branch 'f': 'f' has other readers"
    assert left_alone(parse, text, **branch(0, 1)) == [told]


def test_a_grouped_convolution_is_told(parse):
    weights = branch(0, 1)
    weights["w"] = weights["w"][:, :4]
    text = TEXT.replace("Conv <", "Conv <group = 2, ")
    told = "Add '' keeps its branch 'f': Conv '' has groups"
    assert left_alone(parse, text, **weights) == [told]


def test_a_branch_that_ends_in_another_op_is_told(parse):
    text = TEXT.replace("f = Relu(c)", "f = MaxPool <kernel_shape = [1,1]> (c)")
    weights = branch(0, 1)
    weights["b"][:2] = 0
    told = "Add '' keeps its branch 'f': it ends in MaxPool ''"
    assert left_alone(parse, text, **weights) == [told]


def test_an_old_opset_is_told(parse):
    told = "Add '' keeps its branch 'f': Pad is of an opset before 11"
    assert left_alone(parse, TEXT, opset=10, **branch(0, 1)) == [told]


def test_a_share_of_nothing_is_refused():
    with pytest.raises(ValueError, match="share must be in"):
        NarrowResidual(0)
