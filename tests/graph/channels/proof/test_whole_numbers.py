"""A twin in whole numbers tells a right cut from a wrong one, to the last bit."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from deploypipe.graph.channels.proof.evaluate import evaluate64
from deploypipe.graph.channels.proof.twin import integer_twin, whole_feeds
from deploypipe.graph.channels.proof.whole_numbers import whole_numbers
from deploypipe.graph.files import to_bytes

NET = """g (float[1,3,8,8] x) => (float[1,4] y) {
    c = Conv <pads = [1,1,1,1]> (x, w1, b1)
    n = BatchNormalization(c, scale, shift, mean, var)
    a = Sigmoid(n)
    p = AveragePool <kernel_shape = [3,3], pads = [1,1,1,1]> (a)
    d = Conv <pads = [1,1,1,1]> (p, w2)
    r = Relu(d)
    g = GlobalAveragePool(r)
    f = Flatten(g)
    y = Gemm(f, w3, b3)
}"""
X = {"x": np.zeros((1, 3, 8, 8), np.float32)}
DEAD = [1, 4]


def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"w1": (6, 3, 3, 3), "b1": (6,), "scale": (6,), "shift": (6,), "mean": (6,)}
    shapes |= {"w2": (5, 6, 3, 3), "w3": (5, 4), "b3": (4,)}
    made = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    made["var"] = rng.random(6).astype(np.float32)
    made["w2"][:, DEAD] = 0
    return made


@pytest.fixture
def model(parse):
    return parse(NET, **weights())


def cut(model: ir.Model, first: list[int] = DEAD, second: list[int] = DEAD) -> None:
    """Remove ``first`` where channels are made, ``second`` where they are read."""
    values = model.graph.initializers
    for name in ("w1", "b1", "scale", "shift", "mean", "var"):
        take_out(values[name], first, 0)
    take_out(values["w2"], second, 1)
    for node in model.graph:
        for output in node.outputs:
            output.shape = None


def take_out(value: ir.Value, index: list[int], axis: int) -> None:
    value.const_value = ir.tensor(np.delete(value.const_value.numpy(), index, axis))
    value.shape = ir.Shape(value.const_value.shape)


def test_a_right_cut_is_equal_to_the_last_bit(model):
    finding = whole_numbers(model, cut, X)
    assert (finding.ok, finding.error, finding.limit) == (True, 0.0, 0.0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("first", "second"), [([1, 3], DEAD), (DEAD, [1, 3]), ([0, 4], [0, 4])])
def test_a_wrong_index_is_noticed(first, second, seed, model):
    finding = whole_numbers(model, lambda twin: cut(twin, first, second), X, seed)
    assert finding.ok is False
    assert finding.error > 0


def test_a_constant_that_is_folded_in_spite_of_the_border_is_noticed(parse):
    net = """g (float[1,2,5,5] x) => (float[1,2,5,5] y) {
        c = Conv <pads = [1,1,1,1]> (x, w1, b1)
        y = Conv <pads = [1,1,1,1]> (c, w2, b2)
    }"""
    rng = np.random.default_rng(0)
    shapes = {"w1": (3, 2, 3, 3), "b1": (3,), "w2": (2, 3, 3, 3), "b2": (2,)}
    made = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    made["w1"][0] = 0

    def fold(twin: ir.Model) -> None:
        values = twin.graph.initializers
        w2, b1, b2 = (values[name].const_value.numpy() for name in ("w2", "b1", "b2"))
        values["b2"].const_value = ir.tensor(b2 + b1[0] * w2[:, 0].sum((1, 2)))
        for name, axis in (("w1", 0), ("b1", 0), ("w2", 1)):
            take_out(values[name], [0], axis)

    assert (
        whole_numbers(parse(net, **made), fold, {"x": np.ones((1, 2, 5, 5), np.float32)}).ok
        is False
    )


def test_a_merge_by_a_third_is_not_called_wrong(model):
    def blend(twin: ir.Model) -> None:
        cut(twin)
        w2 = twin.graph.initializers["w2"]
        w2.const_value = ir.tensor(w2.const_value.numpy() / np.float32(3))

    finding = whole_numbers(model, blend, X)
    assert finding.ok is None
    assert "not whole" in finding.why


def test_where_nothing_is_cut_nothing_is_proven(model):
    finding = whole_numbers(model, lambda twin: None, X)
    assert finding.ok is None
    assert "nothing was cut" in finding.why


def test_the_model_stays_as_it_is(model):
    content = to_bytes(model)
    whole_numbers(model, cut, X)
    assert to_bytes(model) == content


def test_a_twin_has_the_models_zeros_and_whole_numbers(model):
    twin, before = integer_twin(model), weights()
    for name in ("w1", "b1", "scale", "shift", "w2", "w3", "b3"):
        array = twin.graph.initializers[name].const_value.numpy()
        np.testing.assert_array_equal(array == 0, before[name] == 0)
        assert set(np.abs(array).reshape(-1)) <= {0, 1, 2, 4}


def test_a_twin_answers_in_whole_numbers_that_depend_on_its_input(model):
    twin = integer_twin(model)
    answers = [evaluate64(twin, whole_feeds(X, seed))["y"] for seed in range(3)]
    assert all((answer == np.round(answer)).all() for answer in answers)
    assert not np.array_equal(answers[0], answers[1])


def test_every_sum_and_norm_of_a_twin_is_whole(model):
    seen = []

    def watch(node: ir.Node, inputs: list, outputs: list) -> None:
        if node.op_type in ("Conv", "BatchNormalization", "Gemm", "Round", "Clip"):
            seen.append(node.op_type)
            assert (outputs[0] == np.round(outputs[0])).all(), node.op_type

    evaluate64(integer_twin(model), whole_feeds(X), watch)
    assert {"Conv", "BatchNormalization", "Gemm", "Round", "Clip"} <= set(seen)


def test_a_function_that_is_not_zero_at_zero_stays_so(parse):
    text = "g (float[2] x) => (float[2] z) { y = {op}(x) z = Identity(y) }"
    for op in ("Sigmoid", "Softplus", "Exp", "HardSigmoid", "Cos"):
        twin = integer_twin(parse(text.replace("{op}", op)))
        assert (evaluate64(twin, {"x": np.zeros(2, np.float32)})["z"] > 0).all(), op
    for op in ("Relu", "Tanh", "Gelu", "HardSwish", "Erf", "Elu"):
        twin = integer_twin(parse(text.replace("{op}", op)))
        assert (evaluate64(twin, {"x": np.zeros(2, np.float32)})["z"] == 0).all(), op


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("y = RandomNormalLike(x)", "random"),
        ("w = Unsqueeze(x, axis) a, b = GRU <hidden_size = 2> (w, ww, rr) y = Neg(x)", "GRU"),
        ("f = Max(x, tiny) y = MatMul(f, m)", "not whole"),
    ],
)
def test_what_has_no_twin_is_told(text, why, parse):
    constants = {
        "axis": np.array([0]),
        "ww": np.ones((1, 6, 2), np.float32),
        "rr": np.ones((1, 6, 2), np.float32),
        "tiny": np.float32(0.3),
        "m": np.ones((2, 2), np.float32),
    }
    model = parse(f"g (float[2,2] x) => (float[2,2] y) {{ {text} }}", **constants)
    finding = whole_numbers(model, lambda twin: None, {"x": np.ones((2, 2), np.float32)})
    assert finding.ok is None
    assert why in finding.why


def test_sums_that_outgrow_a_double_are_told(parse):
    lines = " ".join(f"h{i + 1} = MatMul(h{i}, w)" for i in range(30))
    text = f"g (float[2,9] h0) => (float[2,9] y) {{ {lines} y = Neg(h30) }}"
    model = parse(text, w=np.ones((9, 9), np.float32))
    finding = whole_numbers(model, lambda twin: None, {"h0": np.ones((2, 9), np.float32)})
    assert finding.ok is None
    assert "2^53" in finding.why
