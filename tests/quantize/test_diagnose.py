from __future__ import annotations

import json

import numpy as np
import pytest

from deploypipe.quantize.diagnose import diagnose

RNG = np.random.default_rng(3)
X = RNG.normal(size=(40, 1, 2, 2)).astype(np.float32)


def look(model, done, seen, target):
    samples = [{"x": X[i : i + 1]} for i in range(4)]
    return diagnose(model, done.model, done.plan, seen, samples, target)


@pytest.fixture
def seen(count, conv_net, target):
    """Tensor -> histogram, by running the float model."""
    from deploypipe.graph.files import to_bytes
    from deploypipe.quantize.lookout import whole

    with target.open(to_bytes(whole(conv_net, ["t", "r", "p", "f"]))) as session:
        return {"x": count(X), **{name: count(a) for name, a in session({"x": X}).items()}}


def test_every_unit_and_tensor_is_told_of(conv_net, quantize, seen, target):
    done = quantize(conv_net, X)
    found = look(conv_net, done, seen, target)
    assert set(found.tensors) == set(done.plan.tensors)
    assert set(found.units) == {unit.name for unit in done.plan.units}
    assert 20 < found.output_db < 80
    conv = found.units["conv"]
    assert 20 < conv.alone_db < 80 and 20 < conv.carried_db < 80 and conv.weight_db > 20
    json.dumps(found.to_json(), allow_nan=False)


def test_the_worst_cause_is_named_first(conv_net, quantize, seen, target):
    done = quantize(conv_net, X)
    import dataclasses

    params = done.plan.tensors["x"]
    coarse = dataclasses.replace(params, scale=params.scale / 8)  # most of x is clipped
    plan = dataclasses.replace(done.plan, tensors={**done.plan.tensors, "x": coarse})
    from deploypipe.quantize.emit import emit

    worse = dataclasses.replace(done, model=emit(conv_net, plan), plan=plan)
    found = look(conv_net, worse, seen, target)
    assert found.tensors["x"].clipped > 0.5
    assert found.causes[0].startswith("Conv 'conv' alone leaves the outputs")
    assert "'x' lies beyond the range" in found.causes[0]
    assert found.output_db < look(conv_net, done, seen, target).output_db


def test_what_stays_float_is_a_cause_too(parse, quantize, count, target):
    model = parse("""agraph (float[N,1,1,1] x) => (float[N,1,1,1] y) <float[1,1,1,1] w = {2.0}>
      { [a] t = Conv(x, w) [b] u = Erf(t) [c] y = Conv(u, w) }""")
    array = RNG.normal(size=(8, 1, 1, 1)).astype(np.float32)
    done = quantize(model, array)
    seen = {"x": count(array), "t": count(2 * array)}
    found = diagnose(model, done.model, done.plan, seen, [{"x": array[:1]}], target)
    assert "1 Erf stay float because it has no 8-bit kernel" in found.causes


def test_a_unit_behind_a_threshold_is_compared_where_it_has_as_many_rows(filled, quantize):
    text = """agraph (float[4000,8] x) => (float[4] y) {
      [one] a = MatMul(x, w) s = ReduceMean<axes=[1], keepdims=0>(a) g = Greater(s, t)
      rows = Compress<axis=0>(a, g) [two] b = MatMul(rows, v)
      y = ReduceMean<axes=[0], keepdims=0>(b) }"""
    model = filled(text, {"w": (8, 8), "v": (8, 4), "t": ()})
    done = quantize(model, RNG.normal(size=(4000, 8)), diagnosis=True)
    found = done.notes["diagnosis"]
    assert found["output_db"] is not None
    assert found["units"]["one"]["carried_db"] > 20
    assert found["units"]["two"]["carried_db"] is None  # there is one sample, with other rows
    json.dumps(done.notes, allow_nan=False)
