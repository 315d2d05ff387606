"""Random graphs over the engine's ops: whatever it cuts, the answers stay."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import pytest
from onnx import helper

sys.path.insert(0, str(Path(__file__).parents[3] / "scripts"))

from channel_fuzz.growing import grow
from channel_fuzz.shrink import shrink
from channel_fuzz.trial import Verdict, attempt, engine

GRAPHS, PARTS, SEED = 200, 8, 20


@pytest.mark.parametrize("part", range(PARTS))
def test_random_graphs_answer_as_before(part):
    cut = discarded = 0
    for number in range(part, GRAPHS, PARTS):
        grown = grow(SEED, number)
        trial = attempt(grown.model, grown.exact, grown.half)
        assert not trial.verdict.bad, f"grow({SEED}, {number}) is {trial.verdict}: {trial.why}"
        cut, discarded = cut + trial.cut, discarded + (trial.verdict is Verdict.DISCARDED)
    assert cut > GRAPHS / PARTS / 2 and discarded <= 1


def test_a_seed_gives_the_same_graph_again():
    assert grow(3, 5).model == grow(3, 5).model != grow(3, 6).model


def spoiled(model: onnx.ModelProto, round_to: int) -> tuple[onnx.ModelProto, bool, list[str]]:
    """An engine that takes Sigmoid for a function that is zero at zero."""
    after, modified, told = engine(model, round_to)
    for node in after.graph.node:
        if node.op_type == "Sigmoid":
            node.op_type = "Tanh"
    return after, modified, told


def test_a_wrong_engine_is_found_and_its_graph_made_small():
    kind = [helper.make_tensor_value_info(name, 1, ["N", 4]) for name in "xy"]
    names = ["x", "a", "b", "c", "y"]
    ops = ["Relu", "Neg", "Sigmoid", "Abs"]
    nodes = [
        helper.make_node(op, [a], [b]) for op, a, b in zip(ops, names, names[1:], strict=False)
    ]
    graph = helper.make_graph(nodes, "g", kind[:1], kind[1:])
    opsets = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    assert attempt(model, exact=False).verdict is Verdict.EXACT

    def bad(candidate: onnx.ModelProto) -> bool:
        return attempt(candidate, False, rounds=(1,), cut=spoiled).verdict is Verdict.WRONG

    assert bad(model)
    assert [node.op_type for node in shrink(model, bad).graph.node] == ["Sigmoid"]


def test_an_engine_that_breaks_the_graph_is_found():
    def broken(model: onnx.ModelProto, round_to: int) -> tuple[onnx.ModelProto, bool, list[str]]:
        raise IndexError("out of cells")

    trial = attempt(grow(SEED, 0).model, exact=True, cut=broken)
    assert trial.verdict is Verdict.BROKEN and "out of cells" in trial.why
