"""Inside two models: layer by layer, which node made the NaN, and what float would restore."""

import json
import math

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from deploypipe.core.errors import UserError
from deploypipe.graph.files import to_bytes
from deploypipe.validate import METRICS
from deploypipe.validate.inside import OnnxInside, Tensor, chunks, opened, with_outputs
from deploypipe.validate.layers import compare_layers
from deploypipe.validate.nonfinite import first_nonfinite
from deploypipe.validate.quality import by_metric, by_nearness
from deploypipe.validate.restore import find_restoring, restored, units_of

HEAD = '<ir_version: 10, opset_import: ["" : 20]> m (float[N, 3] x) => (float[N, 3] y) '
X = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
FEEDS = {"x": X}


def model(body, head=HEAD):
    return ir.serde.deserialize_model(onnx.parser.parse_model(head + body))


WEIGHTS = (
    "<float[3, 3] u = {2, 1, 0, -1, 1, 0.5, 0, 1, 3}, float[3, 3] w = {1, 2, 0, 0, 1, 1, 2, 0, 1}>"
)
FLOAT = model(WEIGHTS + "{ [one] a = MatMul(x, u) b = Relu(a) [two] c = MatMul(b, w) y = Relu(c) }")


def rounded(s1=0.08, s2=0.25, w_scale=0.03):
    """FLOAT with Q/DQ around both units; the scales say how coarse the first, the second is."""
    integers = {
        name: ", ".join(str(max(-127, min(127, round(v / w_scale)))) for v in values)
        for name, values in {
            "u8": (2, 1, 0, -1, 1, 0.5, 0, 1, 3), "w8": (1, 2, 0, 0, 1, 1, 2, 0, 1),
        }.items()
    }  # fmt: skip
    return model(
        f"""<float s = {{0.05}}, int8 z = {{0}}, float s1 = {{{s1}}}, float s2 = {{{s2}}},
        float t = {{{w_scale}}}, int8[3, 3] u8 = {{{integers["u8"]}}},
        int8[3, 3] w8 = {{{integers["w8"]}}}> {{
        qx = QuantizeLinear(x, s, z) dx = DequantizeLinear(qx, s, z)
        du = DequantizeLinear(u8, t, z) dw = DequantizeLinear(w8, t, z)
        [one] a = MatMul(dx, du) b = Relu(a)
        qb = QuantizeLinear(b, s1, z) db = DequantizeLinear(qb, s1, z)
        [two] c = MatMul(db, dw) r = Relu(c)
        qr = QuantizeLinear(r, s2, z) y = DequantizeLinear(qr, s2, z) }}"""
    )


@pytest.fixture(scope="module")
def run():
    from deploypipe.runtime import TARGETS

    target = TARGETS.build({"cpu": {"threads": 1}})

    def answer(built, feeds=FEEDS):
        with target.open(to_bytes(built)) as session:
            return session(feeds)

    answer.target = target
    return answer


@pytest.fixture
def compare(run):
    def told(a, b, names=None, feeds=(FEEDS,), **how):
        return compare_layers(
            OnnxInside(a, run.target, 16), OnnxInside(b, run.target, 16), feeds, names, **how
        )

    return told


def test_inner_tensors_are_the_float_ones_in_order():
    inside = OnnxInside(rounded(), None, batch=2)
    names = [tensor.name for tensor in inside.tensors]
    assert names == ["dx", "du", "dw", "a", "b", "db", "c", "r", "y"]
    found = {tensor.name: tensor for tensor in inside.tensors}
    assert found["a"] == Tensor("a", "MatMul", "one", ("dx", "du"), 4 * 2 * 3)
    assert found["db"].parents == ("b",)


def test_tensors_become_outputs_of_a_copy():
    copy = with_outputs(FLOAT, ["a", "y"])
    assert [out.name for out in copy.graph.outputs] == ["y", "a"]
    assert [out.name for out in FLOAT.graph.outputs] == ["y"]


def test_chunks_hold_as_much_as_fits_and_at_least_one():
    tensors = [Tensor(str(i), "", "", bytes=size) for i, size in enumerate((4, 4, 4, 99, 1))]
    parts = [[t.name for t in part] for part in chunks(tensors, 9)]
    assert parts == [["0", "1"], ["2"], ["3"], ["4"]]


def test_equal_models_are_equal_in_every_layer(compare):
    told = compare(FLOAT, FLOAT)
    assert [layer.name for layer in told.layers] == ["a", "b", "c", "y"]
    assert all(layer.sqnr_db == math.inf for layer in told.layers)
    assert told.cliff is None
    assert told.to_json()["rows"][0]["equal"] is True


def test_a_layer_is_measured_by_the_formula(compare, run):
    other = rounded()
    told = {layer.name: layer for layer in compare(FLOAT, other).layers}
    there, here = (run(with_outputs(one, ["b"]))["b"] for one in (FLOAT, other))
    noise = here.astype(np.float64) - there
    assert told["b"].sqnr_db == pytest.approx(10 * math.log10((there**2).sum() / (noise**2).sum()))
    assert told["b"].max_abs_error == pytest.approx(np.abs(noise).max())
    assert 0.99 < told["b"].cosine <= 1
    assert told["b"].node == ""
    assert (told["a"].op, told["a"].node) == ("MatMul", "one")


def test_batches_and_chunks_do_not_change_the_figures(compare):
    whole = compare(FLOAT, rounded()).layers
    halves = ({"x": X[:8]}, {"x": X[8:]})
    parts = compare(FLOAT, rounded(), feeds=halves, chunk_bytes=1).layers
    for one, other in zip(whole, parts, strict=True):
        assert one.sqnr_db == pytest.approx(other.sqnr_db)
        assert one.cosine == pytest.approx(other.cosine)


def test_the_cliff_is_the_first_layer_that_loses_much(compare):
    assert compare(FLOAT, rounded()).cliff is None
    # The rounding after the first unit is coarse: what reads it is where the noise comes in.
    told = compare(FLOAT, rounded(s1=3.0))
    assert told.cliff.name == "c"
    assert told.cliff.drop_db > 6
    assert told.to_json()["cliff"]["node"] == "two"
    assert told.worst[0].name in ("c", "y")


def test_a_map_of_names_pairs_other_tensors(compare):
    renamed = model(WEIGHTS + "{ p = MatMul(x, u) q = Relu(p) c = MatMul(q, w) y = Relu(c) }")
    told = compare(FLOAT, renamed, {"a": "p", "b": "q"})
    assert [(layer.name, layer.candidate) for layer in told.layers] == [("a", "p"), ("b", "q")]
    assert all(layer.sqnr_db == math.inf for layer in told.layers)


@pytest.mark.parametrize(
    ("names", "message"),
    [({"aa": "b"}, "the reference has no tensor 'aa'"), ({"a": "bb"}, "the candidate has no")],
)
def test_a_name_that_is_not_there_is_told(compare, names, message):
    with pytest.raises(UserError, match=message):
        compare(FLOAT, FLOAT, names)


def test_models_without_a_shared_name_need_a_map(compare):
    head = HEAD.replace(" y)", " out)")
    other = model("{ h = Relu(x) out = Relu(h) }", head)
    with pytest.raises(UserError, match="no tensor inside the two models has the same name"):
        compare(FLOAT, other)


def test_a_tensor_of_another_shape_is_not_measured(compare):
    other = model("{ a = ReduceSum(x) b = Relu(x) y = Add(b, a) }")
    told = {layer.name: layer for layer in compare(FLOAT, other).layers}
    assert told["a"].sqnr_db is None
    assert told["b"].sqnr_db is not None


def test_the_section_is_plain_json(compare):
    told = compare(FLOAT, rounded()).to_json()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    rows = [row["sqnr_db"] for row in told["rows"]]
    assert rows == sorted(rows)
    assert sorted(row["place"] for row in told["rows"]) == list(range(4))


def test_the_node_that_makes_nan_is_named(run):
    bad = model(
        WEIGHTS + "{ a = MatMul(x, u) [root] b = Sqrt(a) [two] c = MatMul(b, w) y = Relu(c) }"
    )
    assert first_nonfinite(bad, FLOAT, FEEDS, run.target) == "Sqrt 'root' (tensor 'b')"


def test_a_node_without_a_name_is_told_by_its_tensor(run):
    bad = model("{ a = Log(x) y = Relu(a) }")
    assert first_nonfinite(bad, FLOAT, FEEDS, run.target) == "Log (tensor 'a')"


def test_infinity_that_the_reference_has_too_is_passed_over(run):
    masked = "{ a = Abs(x) m = Sub(a, a) b = Log(m) "
    good = model(masked + "e = Exp(b) y = Identity(e) }")
    bad = model(masked + "[bad] e = Sub(b, b) y = Identity(e) }")
    assert first_nonfinite(bad, good, FEEDS, run.target) == "Sub 'bad' (tensor 'e')"


def test_no_nan_has_no_node(run):
    assert first_nonfinite(FLOAT, FLOAT, FEEDS, run.target) is None


def test_units_are_the_nodes_between_roundings():
    units = units_of(rounded())
    assert [(unit.name, unit.op, unit.outputs) for unit in units] == [
        ("one", "MatMul+Relu", ("a", "b")),
        ("two", "MatMul+Relu", ("c", "r")),
    ]
    assert units_of(FLOAT) == []


def test_a_model_with_all_units_in_float_answers_as_the_reference(run):
    candidate = rounded(s1=1.0, w_scale=0.3)
    back = restored(candidate, FLOAT, units_of(candidate))
    np.testing.assert_allclose(run(back)["y"], run(FLOAT)["y"], rtol=1e-6)
    assert [node.op_type for node in back.graph] == ["MatMul", "Relu", "MatMul", "Relu"]
    assert [node.op_type for node in candidate.graph].count("DequantizeLinear") == 5


def test_one_unit_in_float_leaves_the_others_rounded(run):
    candidate = rounded()
    one, two = units_of(candidate)
    ops = [node.op_type for node in restored(candidate, FLOAT, [one]).graph]
    assert ops.count("QuantizeLinear") == 1  # the one behind the second unit
    assert ops.count("DequantizeLinear") == 2  # its weight, and that rounding
    ops = [node.op_type for node in restored(candidate, FLOAT, [two]).graph]
    assert ops.count("QuantizeLinear") == 1  # the input's


def test_without_the_float_weight_the_rounded_one_stays(run):
    candidate = rounded(w_scale=0.3)
    other = model("{ y = Relu(x) }")
    back = restored(candidate, other, units_of(candidate))
    assert [node.op_type for node in back.graph].count("DequantizeLinear") == 2


def test_the_layer_whose_rounding_is_coarse_is_the_one_that_restores(run, compare):
    candidate = rounded(s1=3.0)
    quality = by_nearness(run.target, FLOAT, [FEEDS])
    drops = {one.candidate: one.drop_db for one in compare(FLOAT, candidate).layers}
    found = find_restoring(candidate, FLOAT, quality, 0.0, drops)
    assert found.enough
    assert found.after > found.goal > found.before
    # Either unit without its rounding takes that coarse one away; one is enough.
    assert len(found.units) == 1
    assert json.loads(json.dumps(found.to_json())) == found.to_json()


def test_nothing_is_restored_where_nothing_is_lost(run):
    quality = by_nearness(run.target, FLOAT, [FEEDS])
    found = find_restoring(FLOAT, FLOAT, quality, 0.0, {})
    assert (found.units, found.enough) == ((), True)


def test_a_goal_that_float_does_not_reach_is_told(run):
    candidate = rounded()
    quality = by_nearness(run.target, FLOAT, [FEEDS])
    found = find_restoring(candidate, FLOAT, quality, 0.0, {}, goal=1.0)
    assert not found.enough
    assert len(found.units) == 2


def test_bisection_asks_few_models_of_a_long_chain():
    body = "{ h0 = Identity(x) " + " ".join(
        f"q{i} = QuantizeLinear(h{i}, s, z) d{i} = DequantizeLinear(q{i}, s, z) "
        f"[u{i}] h{i + 1} = Relu(d{i})" for i in range(32)
    ) + " y = Identity(h32) }"  # fmt: skip
    chain = model("<float s = {0.1}, int8 z = {0}> " + body)
    asked = []

    def blame(built):
        """Good as soon as nothing rounds what the sixth unit reads."""
        asked.append(1)
        node = next(node for node in built.graph if node.name == "u5")
        return 1.0 if node.inputs[0].producer().op_type == "Relu" else 0.0

    suspicion = {f"h{i + 1}": float(-i) for i in range(32)}
    found = find_restoring(chain, FLOAT, blame, 1.0, suspicion)
    assert found.enough
    assert [unit.name for unit in found.units] == ["u4"]  # its output is what u5 reads
    assert len(asked) == found.tried < 15


def test_quality_is_the_metric_with_more_for_better(run, samples):
    labels = run(FLOAT)["y"].argmax(axis=1)
    top1 = by_metric(run.target, samples(X, labels), METRICS.build("top1"))
    assert top1(FLOAT) == 1
    mse = METRICS.build("mean-squared-error")
    error = by_metric(run.target, samples(X, run(FLOAT)["y"]), mse)
    assert error(FLOAT) == 0 > error(rounded())


def test_a_model_in_memory_is_opened_as_it_is(run):
    with opened(FLOAT, run.target) as session:
        np.testing.assert_array_equal(session(FEEDS)["y"], run(FLOAT)["y"])


def test_operators_that_onnx_does_not_know_are_looked_at_too(compare):
    head = HEAD.replace('"" : 20', '"" : 20, "com.microsoft" : 1')
    odd = model("{ g = com.microsoft.Gelu(x) y = Relu(g) }", head)
    told = compare(odd, odd)
    assert [layer.name for layer in told.layers] == ["g", "y"]
    assert all(layer.sqnr_db == math.inf for layer in told.layers)


def test_sequences_have_no_figures_and_whole_numbers_are_no_layers(compare):
    odd = model(
        "{ s = SequenceConstruct(x, x) a = ConcatFromSequence<axis = 0>(s) n = Shape(a) "
        "b = Relu(a) y = Identity(x) }"
    )
    told = {layer.name: layer.sqnr_db for layer in compare(odd, odd).layers}
    assert told.pop("s", None) is None
    assert told == {"a": math.inf, "b": math.inf, "y": math.inf}
