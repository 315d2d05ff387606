from __future__ import annotations

import json

import numpy as np
import pytest

from deploypipe.core.errors import UserError
from deploypipe.graph.files import to_bytes
from deploypipe.quantize import CALIBRATORS, Job, quantize_model
from deploypipe.quantize.signal import outputs_of, sqnr_db

RNG = np.random.default_rng(3)
X = RNG.normal(size=(40, 1, 2, 2)).astype(np.float32)


def test_answers_stay_within_rounding_of_the_float_model(conv_net, quantize, target) -> None:
    with target.open(to_bytes(conv_net)) as answer:
        expected = answer({"x": X})["y"]
    with target.open(to_bytes(quantize(conv_net, X).model)) as answer:
        got = answer({"x": X})["y"]
    assert np.abs(got - expected).max() < 0.03 * np.abs(expected).max()


@pytest.mark.parametrize("name", CALIBRATORS.names())
def test_the_file_is_the_same_whatever_the_batches(name, conv_net, cpu, target) -> None:
    def run(array: np.ndarray, size: int) -> bytes:
        feeds = ({"x": array[i : i + size]} for i in range(0, len(array), size))
        job = Job(target, CALIBRATORS.build(name), cpu, feeds)
        return to_bytes(quantize_model(conv_net, job).model)

    assert run(X, 40) == run(X, 7) == run(RNG.permutation(X), 1)


def test_changes_and_refusals_are_sentences(parse, quantize) -> None:
    text = """agraph (float[N,1,1,1] x) => (float[N,1,1,1] y) <float[1,1,1,1] w = {2.0}>
      { [a] t = Conv(x, w) [b] u = Erf(t) [c] y = Conv(u, w) }"""
    result = quantize(parse(text), [[[[1]]]] * 8)
    assert result.changes == ["1 Conv in 8 bits"]
    assert result.refusals == [
        "Erf 'b' stays float: it has no 8-bit kernel",
        "Conv 'c' stays float: its output is the model's output, which stays float",
    ]


def test_notes_are_json_with_every_range(conv_net, quantize) -> None:
    notes = json.loads(json.dumps(quantize(conv_net, X).notes, allow_nan=False))
    assert notes["samples"] == 40
    assert notes["calibrator"] == {"minmax": {}}
    assert notes["ranges"]["x"]["observed"] == [float(X.min()), float(X.max())]
    assert notes["ranges"]["r"]["covered"][0] == 0


def test_a_node_that_is_to_stay_float_does(conv_net, quantize) -> None:
    result = quantize(conv_net, X, keep_float={"conv": "it costs too much accuracy"})
    assert [unit.name for unit in result.plan.units] == ["head"]
    assert "Conv 'conv' stays float: it costs too much accuracy" in result.refusals


def test_a_name_that_is_no_node_is_refused(conv_net, quantize) -> None:
    with pytest.raises(UserError, match="keep_float names 'cnov'"):
        quantize(conv_net, X, keep_float={"cnov": "typo"})


def test_a_model_without_anything_to_quantize_says_why(parse, quantize) -> None:
    text = "agraph (float[N,2] x) => (float[N,2] y) { [s] y = Softmax(x) }"
    with pytest.raises(
        UserError, match=r"no node can run in 8 bits\. Why: 's': 8 bits are too few"
    ):
        quantize(parse(text), [[1, 2]])


def test_what_the_runtime_does_not_fuse_is_put_back_to_float(conv_net, quantize, stubborn) -> None:
    result = quantize(conv_net, X)
    assert [unit.name for unit in result.plan.units] == ["head"]
    assert "Conv 'conv' stays float: this build does not" in result.refusals
    assert "QLinearConv" not in result.audit.kernels


CHAIN = """agraph (float[N,1,1,1] x) => (float[N,1,1,1] y) <float[1,1,1,1] w = {2.0}> {
  [c0] t0 = Conv(x, w) [c1] t1 = Conv(t0, w) [c2] t2 = Conv(t1, w) [c3] t3 = Conv(t2, w)
  [c4] t4 = Conv(t3, w) [c5] t5 = Conv(t4, w) [e] y = Erf(t5) }"""


def test_what_ships_has_fused_however_many_rounds_it_takes(parse, quantize, monkeypatch) -> None:
    from deploypipe.quantize import workshop

    real = workshop.audit

    def stubborn(model, plan, opener):
        checked = real(model, plan, opener)
        refused = {plan.units[0].name: "not this one"} if len(plan.units) > 1 else {}
        return type(checked)(checked.kernels, refused)

    monkeypatch.setattr(workshop, "audit", stubborn)
    result = quantize(parse(CHAIN), [[[[1]]]])
    assert result.changes == ["1 Conv in 8 bits"]
    assert [f"Conv 'c{i}' stays float: not this one" for i in range(5)] == [
        told for told in result.refusals if "not this one" in told
    ]
    assert result.audit.kernels["QLinearConv"] == 1
    assert [node.op_type for node in result.model.graph].count("QuantizeLinear") == 2
    assert (result.notes["planned"], result.notes["fused"]) == (6, 1)


def test_an_audit_that_blames_no_planned_unit_does_not_loop(parse, quantize, monkeypatch) -> None:
    from deploypipe.quantize import workshop

    monkeypatch.setattr(
        workshop, "audit", lambda *given: workshop.Audit({}, {"e": "never planned"})
    )
    with pytest.raises(AssertionError, match="names no unit of the plan"):
        quantize(parse(CHAIN), [[[[1]]]], keep_float={})


def test_few_samples_work_and_are_told(conv_net, quantize) -> None:
    warning = "only 1 sample was observed"
    assert any(warning in line for line in quantize(conv_net, X[:1]).refusals)
    assert not any("observed: ranges" in line for line in quantize(conv_net, X).refusals)


def test_custom_ops_initializers_as_inputs_and_subgraphs_stay_float_and_are_told(parse, quantize):
    text = """agraph (float[N,2] x, bool c) => (float[N,2] y)
      <float[2,2] w = {1.0, 0.3, 0.7, -1.0}> {
        [first] t = MatMul(x, w)
        [strange] g = com.microsoft.Gelu(t)
        y = If (c) <then_branch = a () => (float[N,2] p) { [inner] p = MatMul(g, w) },
                    else_branch = b () => (float[N,2] q) { q = Relu(g) }> }"""
    model = parse(text)
    model.graph.opset_imports["com.microsoft"] = 1
    from deploypipe.quantize.profiles.cpu_vnni import CpuVnni
    from deploypipe.quantize.units import find_units

    units, kept = find_units(model, CpuVnni())
    assert [unit.name for unit in units] == ["first"]
    assert kept["strange"] == "it has no 8-bit kernel"
    assert "subgraph" in kept["inner"]


def test_outputs_keep_the_signal_that_was_asked_for(conv_net, quantize, target) -> None:
    def kept(done) -> float:
        feeds = [{"x": X[i : i + 1]} for i in range(40)]
        expected, given = outputs_of([conv_net, done.model], feeds, target)
        return sqnr_db(expected, given)

    plain = quantize(conv_net, X)
    better = quantize(conv_net, X, least_sqnr=kept(plain) + 2)
    assert 0 < len(better.plan.units) < len(plain.plan.units)
    assert kept(better) > kept(plain) + 1
    assert any("of the noise, and" in told for told in better.refusals)
    assert quantize(conv_net, X, least_sqnr=10).plan.units == plain.plan.units


def test_what_cannot_be_kept_in_8_bits_stays_float(conv_net, quantize) -> None:
    done = quantize(conv_net, X, least_sqnr=200)
    assert not done.modified and done.model is not conv_net
    assert "200 dB were asked for" in done.refusals[0]


ROWS = """agraph (float[1,1,32,32] x) => (%s) <float[4,1,3,3] w, float[1,4,1,1] v,
  int64[1] flat = {-1}, float t = {0.7}> {
    [conv] c = Conv<pads=[1,1,1,1]>(x, w) r = Relu(c) [two] s = Conv(r, v) n = Reshape(s, flat)
    g = Greater(n, t) y = Compress<axis=0>(n, g) z = Erf(n) }"""
PIXELS = np.random.default_rng(0).normal(size=(12, 1, 1, 32, 32)).astype(np.float32)


@pytest.fixture
def rows(filled, cpu, target):
    """A detector in small: as many numbers as are above a threshold."""

    def run(outputs: str, **more):
        model = filled(
            ROWS.replace("<float[4,1,3,3] w, float[1,4,1,1] v,\n  ", "<") % outputs,
            {"w": (4, 1, 3, 3), "v": (1, 4, 1, 1)},
        )
        feeds = [{"x": one} for one in PIXELS]
        return quantize_model(model, Job(target, CALIBRATORS.build("minmax"), cpu, feeds, **more))

    return run


def test_an_output_whose_rows_depend_on_the_numbers_is_in_no_figure_and_told(rows) -> None:
    done = rows("float[K] y, float[1024] z", diagnosis=True)
    assert "the shape of 'y' changes with the rounding: it is part of no figure in dB" in (
        done.refusals
    )
    assert done.notes["diagnosis"]["output_db"] > 20
    assert rows("float[K] y, float[1024] z", least_sqnr=15).modified


def test_where_no_output_can_be_compared_nothing_is_promised(rows) -> None:
    done = rows("float[K] y", diagnosis=True)
    assert done.modified and done.notes["diagnosis"]["output_db"] is None
    (step,) = done.notes["corrections"]
    assert step["before_db"] is None and "cannot be compared" in step["reason"]
    json.dumps(done.notes, allow_nan=False)
    kept = rows("float[K] y", least_sqnr=15)
    assert not kept.modified
    assert (
        "15 dB were asked for, and the shape of 'y' changes with the rounding" in kept.refusals[0]
    )


def test_masked_outputs_do_not_hide_the_others(filled, quantize) -> None:
    text = """agraph (float[N,8] x) => (float[N,6] y) {
      m = MatMul(x, w) a = Add(m, b) y = Add(a, mask) }"""
    model = filled(text, {"w": (8, 6), "b": (6,), "mask": (6,)})
    mask = model.graph.initializers["mask"].const_value.numpy()
    mask[:] = [0, 0, -np.inf, 0, 0, -np.inf]
    x = np.random.default_rng(0).normal(size=(24, 8))
    done = quantize(model, x, diagnosis=True, least_sqnr=15)
    assert done.modified and done.notes["diagnosis"]["output_db"] > 15


def test_the_diagnosis_is_told_if_asked_for(conv_net, quantize) -> None:
    notes = json.loads(json.dumps(quantize(conv_net, X, diagnosis=True).notes, allow_nan=False))
    found = notes["diagnosis"]
    assert set(found["units"]) == {"conv", "pool", "flat", "head"}
    assert len(found["causes"]) <= 3 and found["output_db"] > 20
    assert "diagnosis" not in quantize(conv_net, X).notes
