from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from deploypipe.graph.check import random_feeds
from deploypipe.graph.passes.space_to_depth import SpaceToDepth


def ramp(*shape: int) -> np.ndarray:
    return (np.arange(np.prod(shape)) % 5 - 2).reshape(shape).astype(np.float32)


@pytest.fixture
def packed(parse, evaluate):
    """Pack a model, assert that small integers give bit-identical answers, return it."""

    def run(text: str, exact: bool = True, **weights: np.ndarray) -> ir.Model:
        before, after = parse(text, **weights), parse(text, **weights)
        assert SpaceToDepth(max_channels=4, min_size=8)(after).modified
        feeds = {k: np.round(2 * v) for k, v in random_feeds(before, batch=2).items()}
        expected, given = evaluate(before, feeds), evaluate(after, feeds)
        for name in expected:
            same = np.testing.assert_array_equal if exact else np.testing.assert_allclose
            same(given[name], expected[name])
        return after

    return run


def text(body: str, channels: int = 6, size: int = 4, **kinds: str) -> str:
    more = "".join(f", {kind} {name}" for name, kind in kinds.items())
    return f"g (float[N,2,8,8] x) => (float[N,{channels},{size},{size}] y{more}) {{\n{body}}}"


ENTRY = "a = Conv <pads = [1,1,1,1]> (x, w)\n"
EXIT = "y = Conv <pads = [1,1,1,1], strides = [2,2]> (a, v)"
WEIGHTS = {"w": ramp(3, 2, 3, 3), "v": ramp(6, 3, 3, 3)}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("out", [1, 3])
@pytest.mark.parametrize("inner", [1, 3, 5])
@pytest.mark.parametrize("entry", [1, 3, 5])
def test_a_region_is_packed_exactly(packed, entry, inner, out, bias):
    def conv(into: str, source: str, kernel: int, weight: str, more: str = "") -> str:
        shift = f", b{weight}" if bias else ""
        pads = [kernel // 2] * 4
        return f"{into} = Conv <pads = {pads}{more}> ({source}, {weight}{shift})\n"

    body = conv("a", "x", entry, "w") + "r = Relu(a)\n" + conv("c", "r", inner, "u")
    body += conv("y", "c", out, "v", ", strides = [2,2]")
    weights = {
        "w": ramp(3, 2, entry, entry),
        "u": ramp(4, 3, inner, inner),
        "v": ramp(6, 4, out, out),
    }
    if bias:
        weights |= {f"b{name}": ramp(len(array)) for name, array in list(weights.items())}
    after = packed(text(body), **weights)
    shapes = [tuple(node.outputs[0].shape)[1:] for node in after.graph]
    assert shapes == [(12, 4, 4), (12, 4, 4), (16, 4, 4), (6, 4, 4)]
    assert set(after.graph.initializers) == {name for node in after.graph for name in
                                             (v.name for v in node.inputs[1:] if v)}  # fmt: skip


@pytest.mark.parametrize("op", ["Relu(a)", "Clip(a, zero, six)", "LeakyRelu <alpha = 0.5> (a)"])
def test_pointwise_ops_and_residual_sums_stay_inside(packed, op):
    body = ENTRY + f"r = {op}\nc = Conv <pads = [1,1,1,1]> (r, u)\ns = Add(c, r)\n"
    limits = {"zero": np.float32(0), "six": np.float32(6)} if "Clip" in op else {}
    after = packed(text(body + EXIT.replace("(a,", "(s,")), u=ramp(3, 3, 3, 3), **WEIGHTS, **limits)
    assert len(after.graph) == 5 and after.graph[3].outputs[0].shape[1] == 12


def test_two_exits_read_the_same_region(packed):
    second = "\nz = Conv <strides = [2,2]> (a, k)"
    body = text(ENTRY + EXIT + second, z="float[N,5,4,4]")
    after = packed(body, k=ramp(5, 3, 1, 1), **WEIGHTS)
    assert [node.attributes["strides"].as_ints()[0] for node in after.graph] == [2, 1, 1]


def test_weights_that_two_share_are_packed_for_each(packed):
    body = ENTRY + "b = Conv <pads = [1,1,1,1]> (a, u)\nc = Conv <pads = [1,1,1,1]> (b, u)\n"
    after = packed(text(body + EXIT.replace("(a,", "(c,")), u=ramp(3, 3, 3, 3), **WEIGHTS)
    assert "u" not in after.graph.initializers


def test_a_kernel_that_is_not_square_is_packed(packed):
    body = "a = Conv <pads = [0,1,0,1]> (x, w)\n" + EXIT
    packed(text(body), w=ramp(3, 2, 1, 3), v=WEIGHTS["v"])


def test_the_changes_tell_the_new_weights(parse):
    outcome = SpaceToDepth(4, 8)(parse(text(ENTRY + EXIT), **WEIGHTS))
    assert outcome.changes == [
        "'' works on 2x2 blocks: weights [12, 2, 4, 4]",
        "'' works on 2x2 blocks: weights [6, 12, 2, 2]",
    ]


def test_half_precision_stays_half_precision(parse):
    half = {name: array.astype(np.float16) for name, array in WEIGHTS.items()}
    model = parse(text(ENTRY + EXIT).replace("float[", "float16["), **half)
    assert SpaceToDepth(4, 8)(model).modified
    assert {node.inputs[1].dtype for node in model.graph} == {ir.DataType.FLOAT16}


SMALL = {"w": ramp(3, 2, 1, 1)}
INTO_S = EXIT.replace("(a,", "(s,")
DYNAMIC = text(ENTRY + EXIT).replace("2,8,8]", "2,H,W]").replace("4,4]", "P,Q]")
COMPUTED = "b = ReduceMean <keepdims = 0> (x, axes)\n" + ENTRY.replace("w)", "w, b)") + EXIT
ALONE = {
    "a graph output": (text(ENTRY + EXIT, a="float[N,3,8,8]"), {}),
    "an odd size": (text(ENTRY + EXIT, size=5).replace("8,8]", "9,9]"), {}),
    "a dynamic size": (DYNAMIC, {}),
    "a reader that cannot read it": (text(ENTRY + "s = Softmax(a)\n" + INTO_S), {}),
    "a reader that stays at full size": (
        text("a = Conv(x, w)\ny = Conv <pads=[1,1,1,1]> (a, v)", 6, 8),
        SMALL,
    ),
    "a group": (
        text("a = Conv <group = 2> (x, w)\n" + EXIT),
        {"w": ramp(4, 1, 1, 1), "v": ramp(6, 4, 3, 3)},
    ),
    "a dilation": (text("a = Conv <dilations = [2,2], pads = [2,2,2,2]> (x, w)\n" + EXIT), {}),
    "automatic pads": (text('a = Conv <auto_pad = "SAME_UPPER"> (x, w)\n' + EXIT), {}),
    "an even kernel": (
        text("a = Conv <pads = [0,0,1,1]> (x, w)\n" + EXIT),
        {"w": ramp(3, 2, 2, 2)},
    ),
    "too many channels": (
        text(ENTRY + EXIT),
        {"w": ramp(5, 2, 3, 3), "v": ramp(6, 5, 3, 3)},
    ),
    "a bias that is computed": (
        text(COMPUTED).replace("[N,", "[1,"),
        {"w": ramp(2, 2, 3, 3), "v": ramp(6, 2, 3, 3), "axes": np.array([0, 2, 3])},
    ),
    "a sum that stretches channels": (
        text(ENTRY + "m = Conv(x, k)\ns = Add(a, m)\n" + INTO_S),
        {"k": ramp(1, 2, 1, 1)},
    ),
    "a sum with a constant": (
        text(ENTRY + "s = Add(a, k)\n" + INTO_S),
        {"k": ramp(3, 1, 1)},
    ),
}


@pytest.mark.parametrize("name", ALONE)
def test_it_leaves_alone(parse, ops, name):
    source, weights = ALONE[name]
    model = parse(source, **{**WEIGHTS, **weights})
    before = ops(model)
    shapes = [list(node.inputs[1].shape) for node in model.graph if node.op_type == "Conv"]
    assert not SpaceToDepth(4, 8)(model).modified and ops(model) == before
    assert shapes == [list(n.inputs[1].shape) for n in model.graph if n.op_type == "Conv"]


def test_it_leaves_alone_what_a_subgraph_reads(parse):
    body = (
        ENTRY
        + EXIT
        + """
        z = If (t) <then_branch = p () => (float[N,6,4,4] q)
                        {q = Conv <pads = [1,1,1,1], strides = [2,2]> (a, v)},
                    else_branch = e () => (float[N,6,4,4] o) {o = Identity(y)}>"""
    )
    source = text(body, z="float[N,6,4,4]").replace(" x) =>", " x, bool t) =>")
    assert not SpaceToDepth(4, 8)(parse(source, **WEIGHTS)).modified


@pytest.mark.parametrize(
    ("channels", "size", "modified"), [(3, 8, True), (2, 8, False), (3, 9, False)]
)
def test_the_limits_are_kept(parse, channels, size, modified):
    model = parse(text(ENTRY + EXIT), **WEIGHTS)
    assert SpaceToDepth(channels, size)(model).modified is modified
