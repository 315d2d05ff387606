from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from deploypipe.core.errors import UserError
from deploypipe.graph import PASSES, run_passes
from deploypipe.graph.channels.proof.finding import Finding
from deploypipe.graph.files import to_bytes
from deploypipe.graph.passes.drop_dead_channels import DropDeadChannels
from deploypipe.graph.shapes import infer_shapes

TEXT = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
    h = Conv <pads = [1,1,1,1]> (x, w)
    n = Mul(h, g3)
    r = Relu(n)
    y = Conv(r, v)}"""


def weights() -> dict[str, np.ndarray]:
    g3 = np.array([1, 0, 1], np.float32).reshape(3, 1, 1)
    return {
        "g3": g3,
        "w": np.ones((3, 2, 3, 3), np.float32),
        "v": np.ones((2, 3, 1, 1), np.float32),
    }


def test_dead_channels_leave_and_the_answers_stay(parse, same):
    before, after = parse(TEXT, **weights()), parse(TEXT, **weights())
    outcome = run_passes(after, [PASSES.build("drop-dead-channels")])
    assert outcome.changes == [
        "g3: axis 0 from 3 to 2", "w: axis 0 from 3 to 2", "v: axis 1 from 3 to 2",
    ]  # fmt: skip
    same(before, after)


def test_constants_inside_nodes_are_cut_as_well(parse, same):
    text = """g (float[N,2] x) => (float[N,2] y) {
        c = Constant <value = float[3] {1.0, 0.0, 2.0}> ()
        h = Gemm(x, w)
        s = Mul(h, c)
        y = Gemm(s, v)}"""
    arrays = {"w": np.ones((2, 3), np.float32), "v": np.ones((3, 2), np.float32)}
    before, after = parse(text, **arrays), parse(text, **arrays)
    assert PASSES.build("drop-dead-channels")(after).modified
    same(before, after)


def test_its_option_is_checked():
    with pytest.raises(UserError) as error:
        PASSES.build({"drop-dead-channels": {"round_to": -1}}, "steps[0].optimize.passes[0]")
    assert str(error.value) == (
        "steps[0].optimize.passes[0].drop-dead-channels: round_to must not be negative, got -1."
    )


TWO = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
    h = Conv <pads = [1,1,1,1]> (x, w)
    r = Relu(h)
    k = Conv <pads = [1,1,1,1]> (r, u)
    y = Conv(k, v)}"""


def two_groups() -> dict[str, np.ndarray]:
    w, u = np.ones((3, 2, 3, 3), np.float32), np.ones((4, 3, 3, 3), np.float32)
    w[1], u[2] = 0, 0
    return {"w": w, "u": u, "v": np.ones((2, 4, 1, 1), np.float32)}


def refutes(*names: str):
    """A test that says no where a weight has lost rows."""

    def test(before, after):
        lost = [
            name
            for name in names
            if after.graph.initializers[name].shape[0] != before.graph.initializers[name].shape[0]
        ]
        return [Finding("on the target", 1.0, 0.1, not lost, f"{lost} are missed")]

    return test


def test_a_group_that_a_further_test_refutes_stays_and_the_others_go(parse, same):
    before, after = parse(TWO, **two_groups()), parse(TWO, **two_groups())
    outcome = DropDeadChannels().tested(refutes("w"))(after)
    shapes = {name: list(one.shape) for name, one in after.graph.initializers.items()}
    assert shapes == {"w": [3, 2, 3, 3], "u": [3, 3, 3, 3], "v": [2, 3, 1, 1]}
    assert outcome.refusals == ["w: stays, for without it ['w'] are missed; please report"]
    (evidence,) = outcome.evidence
    assert [one["result"] for one in evidence.certificate["proof"]][-1] == "[] are missed"
    same(before, after)


def test_where_all_is_refuted_the_model_stays(parse):
    before, after = parse(TWO, **two_groups()), parse(TWO, **two_groups())
    outcome = DropDeadChannels().tested(refutes("w", "u"))(after)
    assert not outcome.modified
    assert not outcome.evidence
    assert to_bytes(after) == to_bytes(infer(before))


def test_the_further_test_runs_without_the_proof(parse):
    after = parse(TWO, **two_groups())
    DropDeadChannels(prove=False).tested(refutes("w"))(after)
    assert list(after.graph.initializers["w"].shape) == [3, 2, 3, 3]


def infer(model):
    infer_shapes(model)
    return model


FUNCTION = """<ir_version: 9, opset_import: ["" : 18, "own" : 1]>
g (float[N,2,4,4] x, float[3,2,1,1] w, float[2,3,1,1] v) => (float[N,2,4,4] y) {
    y = own.net(x, w, v) }
<domain: "own", opset_import: ["" : 18]>
net (x, w, v) => (y) { h = Conv(x, w) r = Relu(h) y = Conv(r, v) }"""


def with_function(w: np.ndarray) -> ir.Model:
    proto = onnx.parser.parse_model(FUNCTION)
    del proto.graph.input[1:]
    for name, array in {"w": w, "v": np.ones((2, 3, 1, 1))}.items():
        made = onnx.numpy_helper.from_array(array.astype(np.float32), name)
        proto.graph.initializer.append(made)
    return ir.serde.deserialize_model(proto)


def test_functions_are_inlined_where_something_goes(same):
    w = np.ones((3, 2, 1, 1))
    w[1] = 0
    before, after = with_function(w), with_function(w)
    assert DropDeadChannels()(after).modified
    assert not after.functions
    assert list(after.graph.initializers["w"].shape) == [2, 2, 1, 1]
    same(before, after)


def test_functions_stay_where_nothing_goes():
    model = with_function(np.ones((3, 2, 1, 1)))
    assert not DropDeadChannels()(model).modified
    assert len(model.functions) == 1
    assert [node.op_type for node in model.graph] == ["net"]
